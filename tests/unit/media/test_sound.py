"""The sound's job in the real pipeline: each format, and what is refused."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from PIL import Image

from avion_media.backends.files import SpooledSource
from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_NAME, FLAC, M4A, MP3, MP4, OGG, WEBA, MediaFormat
from avion_media.media.pipeline import MediaPipeline, Processed
from avion_media.media.sandbox import Sandbox, open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub.tests.test_audio import SAMPLES
from mediascrub.tests.videos import DATA


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


async def test_each_format_has_its_waveform_and_no_size(sandbox: Sandbox) -> None:
    for name, fmt in SAMPLES.items():
        made = await process(sandbox, (DATA / name).read_bytes(), BY_NAME[fmt.value])
        assert (made.format.name, made.width, made.height, made.blurhash) == (fmt.value, 0, 0, "")
        assert len(made.waveform) == 100, name
        assert 0 < made.duration_s < 2, name
        sizes = {size: Image.open(io.BytesIO(picture)).size for size, picture in made.thumbnails.items()}
        assert sizes == {"small": (400, 100), "medium": (800, 200), "large": (1600, 400)}


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
