"""Waveform and duration of sound, by the real decoders in the real sandbox, against peaks that numpy finds."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from avion_media.backends.files import SpooledSource
from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_NAME, FLAC, M4A, MP3, MP4, OGG, WAV, WEBA, MediaFormat
from avion_media.media.pipeline import MediaPipeline, Processed
from avion_media.media.sandbox import Sandbox, open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from avion_media.media.sound import Peaks, drawn
from mediascrub import sniff
from mediascrub.tests.made_files import riff_chunk
from mediascrub.tests.test_audio import SAMPLES, wave
from mediascrub.tests.videos import DATA, ffmpeg


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(budget_bytes=2 << 30) as opened:
        yield opened


async def process(sandbox: Sandbox, data: bytes, fmt: MediaFormat, **limits: float) -> Processed:
    upload = UploadConfig(**limits)
    pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), upload, SandboxConfig())
    with ExitStack() as files:
        spool = files.enter_context(tempfile.TemporaryFile(buffering=0))
        spool.write(data)
        return await pipeline.process(SpooledSource(spool.fileno(), len(data)), fmt, files)


def samples_of(data: bytes) -> tuple[NDArray[numpy.float64], int]:
    """The largest absolute value of all channels in each sample, full scale 1; and the sample rate."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = list(container.decode(audio=0))
    kind = frames[0].format
    columns = 1 if kind.is_planar else frames[0].layout.nb_channels  # else the channels of a sample are side by side
    arrays = (frame.to_ndarray() for frame in frames)
    parts = [each if columns == 1 else each.reshape(-1, columns).T for each in arrays]
    every = numpy.concatenate(parts, axis=1).astype(numpy.float64)
    scale = {"s16": 1 << 15, "s32": 1 << 31}.get(kind.name.rstrip("p"), 1)
    return numpy.abs(every).max(axis=0) / scale, frames[0].sample_rate


def expected(levels: NDArray[numpy.float64]) -> list[int]:
    parts = (levels[number * len(levels) // 100 : (number + 1) * len(levels) // 100] for number in range(100))
    return [min(255, round(255 * part.max())) for part in parts]


async def test_the_waveform_and_the_length_are_those_of_the_decoded_samples(sandbox: Sandbox) -> None:
    for name in SAMPLES:
        data = (DATA / name).read_bytes()
        found = sniff(data, size=len(data)).format
        assert found is not None
        made = await process(sandbox, data, BY_NAME[found.value])
        levels, rate = samples_of(data)
        assert max(abs(a - b) for a, b in zip(made.waveform, expected(levels), strict=True)) <= 1, name
        assert made.duration_s == pytest.approx(len(levels) / rate)
        assert (made.format.name, made.width, made.height, made.blurhash) == (SAMPLES[name].value, 0, 0, "")
        sizes = {size: Image.open(io.BytesIO(picture)).size for size, picture in made.thumbnails.items()}
        assert sizes == {"small": (400, 100), "medium": (800, 200), "large": (1600, 400)}


async def test_channels_count_together_and_full_scale_is_255(sandbox: Sandbox) -> None:
    silence, left, right, loud = (0, 0), (16384, 0), (0, -8192), (-32768, 32767)
    pairs = [silence] * 2500 + [left] * 2500 + [right] * 2500 + [loud] * 2500
    fmt = riff_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 8000, 32000, 4, 16))
    made = await process(sandbox, wave(fmt, riff_chunk(b"data", numpy.array(pairs, "<i2").tobytes())), WAV)
    assert list(made.waveform) == [0] * 25 + [128] * 25 + [64] * 25 + [255] * 25
    assert made.duration_s == pytest.approx(1.25)


async def test_eight_channels_are_all_heard(sandbox: Sandbox, tmp_path: Path) -> None:
    """PyAV counts too many planes of such frames, and crashed. Their samples also count against the length."""
    path = tmp_path / "surround.flac"
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc={'0|' * 7}0.5:c=7.1:d=0.3:s=96000", path)
    made = await process(sandbox, path.read_bytes(), FLAC)
    assert set(made.waveform) == {128}
    with pytest.raises(Rejected) as caught:
        await process(sandbox, path.read_bytes(), FLAC, max_audio_duration=1.0)
    assert caught.value.reason is Reason.TOO_LONG


@pytest.mark.parametrize("samples", [1, 99, 100, 4096, 100_003])
def test_peaks_take_no_more_memory_for_more_samples(samples: int) -> None:
    """The bounds of a part are right within a span, of which there are at least two thousand."""
    levels = numpy.random.default_rng(samples).random((1, samples), dtype=numpy.float32)
    peaks = Peaks(max_spans=4096)
    for start in range(0, samples, 1000):
        frame = av.AudioFrame.from_ndarray(levels[:, start : start + 1000], format="fltp", layout="mono")
        peaks.add(frame)
    found, exact = peaks.waveform(), expected(levels[0].astype(numpy.float64)) if samples >= 100 else None
    assert len(found) == 100
    assert len(peaks._spans) <= 4096
    assert max(found) == round(255 * float(levels.max()))
    assert exact is None or max(abs(a - b) for a, b in zip(found, exact, strict=True)) <= 1 + samples // 50_000


def test_a_drawn_waveform_is_as_high_as_its_peaks() -> None:
    picture = drawn(bytes([0] * 50 + [255] * 50)).convert("L")
    dark = [sum(picture.getpixel((x, y)) < 200 for y in range(picture.height)) for x in (400, 1208)]  # type: ignore[operator]
    assert dark[0] < 10 < 300 < dark[1]


@pytest.mark.parametrize(
    ("name", "fmt", "limits", "reason"),
    [
        ("flac-id3-cover-gain.flac", FLAC, {"max_audio_duration": 1.0}, Reason.TOO_LONG),
        ("ogg-opus-cover.opus", OGG, {"max_audio_duration": 1.0}, Reason.TOO_LONG),  # only the decode shows it
        ("mp4-h264-faststart.mp4", M4A, {}, Reason.SEVERAL_TRACKS),
        ("webm-vp8.webm", WEBA, {}, Reason.SEVERAL_TRACKS),
        ("mp4-init-segment-no-frames.mp4", M4A, {}, Reason.ENCRYPTED),
    ],
)
async def test_what_is_refused(
    name: str, fmt: MediaFormat, limits: dict[str, float], reason: Reason, sandbox: Sandbox
) -> None:
    with pytest.raises(Rejected) as caught:
        await process(sandbox, (DATA / name).read_bytes(), fmt, **limits)
    assert caught.value.reason is reason


async def test_what_a_file_turns_out_to_be_can_be_refused(sandbox: Sandbox) -> None:
    """An MP4 without pictures is sound, and so is FLAC behind an ID3 tag."""
    for name, fmt, found in (("mp4-audio-only.mp4", MP4, M4A), ("flac-id3-cover-gain.flac", MP3, FLAC)):
        data = (DATA / name).read_bytes()
        assert (await process(sandbox, data, fmt)).format is found


async def test_sound_of_which_nothing_decodes_is_damage(sandbox: Sandbox) -> None:
    flac, m4a = ((DATA / name).read_bytes() for name in ("flac-id3-cover-gain.flac", "m4a-aac-cover-chapters.m4a"))
    media = m4a.index(b"mdat") + 4
    end = m4a.index(b"moov") - 4
    for data, fmt, reason in (
        (flac[: flac.index(b"\xff\xf8")], FLAC, Reason.NO_SOUND),
        (m4a[:media] + b"\xff" * (end - media) + m4a[end:], M4A, Reason.CORRUPT),
    ):
        with pytest.raises(Rejected) as caught:
            await process(sandbox, data, fmt)
        assert caught.value.reason is reason
