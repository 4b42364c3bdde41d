"""Waveform and duration of sound, against peaks that numpy finds."""

from __future__ import annotations

import io
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError
from mediathumbs import ThumbnailSize, Waveform, make_waveform
from mediathumbs.waveform import Peaks, drawn

from .made import DATA

SAMPLES = {
    "mp3-lame-id3-ape-gain.mp3": Format.MP3,
    "ogg-opus-cover.opus": Format.OGG,
    "ogg-vorbis-comments.ogg": Format.OGG,
    "flac-id3-cover-gain.flac": Format.FLAC,
    "m4a-aac-cover-chapters.m4a": Format.M4A,
    "wav-extensible-list-unknown-length.wav": Format.WAV,
    "webm-opus-live.weba": Format.WEBA,
}


def made_of(data: bytes, fmt: Format, max_duration_s: float = 60.0) -> Waveform:
    """What is made of a file."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        return make_waveform(file.fileno(), fmt, [ThumbnailSize("only", 400)], max_duration_s=max_duration_s)


def riff_chunk(kind: bytes, payload: bytes) -> bytes:
    """A RIFF chunk of even length."""
    return kind + struct.pack("<I", len(payload)) + payload


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


def test_the_waveform_and_the_length_are_those_of_the_decoded_samples() -> None:
    for name, fmt in SAMPLES.items():
        data = (DATA / name).read_bytes()
        made = made_of(data, fmt)
        levels, rate = samples_of(data)
        assert max(abs(a - b) for a, b in zip(made.peaks, expected(levels), strict=True)) <= 1, name
        assert made.duration_s == pytest.approx(len(levels) / rate)
        assert Image.open(io.BytesIO(made.thumbnails.by_name["only"])).size == (400, 100)


def test_channels_count_together_and_full_scale_is_255() -> None:
    silence, left, right, loud = (0, 0), (16384, 0), (0, -8192), (-32768, 32767)
    pairs = [silence] * 2500 + [left] * 2500 + [right] * 2500 + [loud] * 2500
    fmt = riff_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 8000, 32000, 4, 16))
    chunks = b"WAVE" + fmt + riff_chunk(b"data", numpy.array(pairs, "<i2").tobytes())
    made = made_of(riff_chunk(b"RIFF", chunks), Format.WAV)
    assert list(made.peaks) == [0] * 25 + [128] * 25 + [64] * 25 + [255] * 25
    assert made.duration_s == pytest.approx(1.25)


def test_eight_channels_are_all_heard(tmp_path: Path) -> None:
    """PyAV counts too many planes of such frames, and crashed. Their samples also count against the length."""
    path = tmp_path / "surround.flac"
    tone = ("-f", "lavfi", "-i", f"aevalsrc={'0|' * 7}0.5:c=7.1:d=0.3:s=96000")
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *tone, path], check=True, timeout=60)
    assert set(made_of(path.read_bytes(), Format.FLAC).peaks) == {128}
    assert refusal(path.read_bytes(), Format.FLAC, max_duration_s=1.0) is ScrubCode.TOO_LONG


def refusal(data: bytes, fmt: Format, **more: Any) -> ScrubCode:
    """Why a file is refused."""
    with pytest.raises(ScrubError) as caught:
        made_of(data, fmt, **more)
    return caught.value.code


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


def test_a_length_that_only_the_decode_shows_is_bounded() -> None:
    assert refusal((DATA / "ogg-opus-cover.opus").read_bytes(), Format.OGG, max_duration_s=1.0) is ScrubCode.TOO_LONG


def test_sound_of_which_nothing_decodes_is_damage() -> None:
    flac, m4a = ((DATA / name).read_bytes() for name in ("flac-id3-cover-gain.flac", "m4a-aac-cover-chapters.m4a"))
    assert refusal(flac[: flac.index(b"\xff\xf8")], Format.FLAC) is ScrubCode.NO_SOUND
    media = m4a.index(b"mdat") + 4
    end = m4a.index(b"moov") - 4
    assert refusal(m4a[:media] + b"\xff" * (end - media) + m4a[end:], Format.M4A) is ScrubCode.CORRUPT
