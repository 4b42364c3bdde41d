"""The poster's job in the real sandbox: its memory, its bounds, and what hostile files end as."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from PIL import Image

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_EXTENSION, MP4, MediaFormat
from avion_media.media.sandbox import Sandbox, open_sandbox
from mediascrub.bounds import VideoBounds
from mediathumbs import poster_memory_bytes
from tests.bench.poster.blank import Blank, make_blank
from trio_sandbox import Limits

DATA = Path(__file__).parents[2] / "data"
HARD_LIMIT_S = 120
LIMITS = Limits(memory_bytes=1 << 30, cpu_s=60.0, wall_s=90.0, output_bytes=4 << 20)


@dataclass(frozen=True)
class Poster:
    """The largest thumbnail, 3 bytes a pixel, rows from the top; and the size of the video as displayed."""

    width: int
    height: int
    displayed: tuple[int, int]
    rgb: bytes


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(budget_bytes=2 << 30) as opened:
        yield opened


async def _job(sandbox: Sandbox, fds: list[int], fmt: MediaFormat, **more: Any) -> dict[str, Any]:
    """Run the job; by default with all memory."""
    arguments: dict[str, Any] = {
        "format": fmt.name,
        "stream": "V:0",
        "scan_s": 10.0,
        "key_frame": None,
        "bounds": asdict(VideoBounds()),
        "sizes": [["poster", 1600]],
        "quality": 95,
        "webp": "off",
        "granted_bytes": LIMITS.memory_bytes,
        "max_memory_bytes": LIMITS.memory_bytes,
    }
    arguments |= more
    limits = replace(LIMITS, memory_bytes=min(arguments["granted_bytes"], LIMITS.memory_bytes))
    with trio.fail_after(HARD_LIMIT_S):
        found = await sandbox.call("avion_media.media.jobs:poster_job", arguments, files=fds, limits=limits)
    assert isinstance(found, dict)
    return found


async def _poster(sandbox: Sandbox, path: Path, **more: Any) -> Poster:
    with path.open("rb") as source, tempfile.TemporaryFile() as jpeg, tempfile.TemporaryFile() as webp:
        fds = [each.fileno() for each in (source, jpeg, webp)]
        found = await _job(sandbox, fds, BY_EXTENSION[path.suffix[1:]], **more)
        image = Image.open(jpeg)
        return Poster(*image.size, (found["width"], found["height"]), image.tobytes())


async def _rejection(sandbox: Sandbox, path: Path, **more: Any) -> Reason:
    with pytest.raises(Rejected) as caught:
        await _poster(sandbox, path, **more)
    return caught.value.reason


def _is_black(poster: Poster) -> bool:
    return max(poster.rgb) < 20


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("mp4-vp9-anamorphic.mp4", 1138, 640),
        ("mp4-h264-rotated-90-tiny.mp4", 60, 100),
        ("mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov", 720, 1280),
        ("mp4-av1.mp4", 1080, 720),
        ("mp4-hevc.mp4", 854, 480),
        ("webm-vp8.webm", 640, 356),
    ],
)
async def test_real_videos_have_their_displayed_size(sandbox: Sandbox, name: str, width: int, height: int) -> None:
    poster = await _poster(sandbox, DATA / name)
    assert poster.displayed == (poster.width, poster.height) == (width, height)
    assert not _is_black(poster)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mp4-audio-only.mp4", Reason.NO_VIDEO),
        ("mp4-init-segment-no-frames.mp4", Reason.CORRUPT),
        ("fuzz-ffmpeg-h264-bad-read.mp4", Reason.CORRUPT),
        ("hls-ssrf-named.mp4", Reason.CORRUPT),
        ("mov-external-dref-alis.mov", Reason.CORRUPT),  # nothing of the other file was opened: see the sandbox's tests
    ],
)
async def test_broken_and_hostile_files(sandbox: Sandbox, name: str, reason: Reason) -> None:
    assert await _rejection(sandbox, DATA / name) is reason


async def test_pixels_are_counted_before_a_frame_is_decoded(sandbox: Sandbox) -> None:
    few = asdict(VideoBounds(max_pixels=1080 * 720 - 1))
    assert await _rejection(sandbox, DATA / "mp4-av1.mp4", bounds=few) is Reason.TOO_MANY_PIXELS


async def test_too_little_memory_is_a_limit_and_not_a_corrupt_file(sandbox: Sandbox) -> None:
    little: dict[str, Any] = {"granted_bytes": 8 << 20, "max_memory_bytes": 8 << 20}
    assert await _rejection(sandbox, DATA / "mp4-vp9-anamorphic.mp4", **little) is Reason.DECODER_LIMIT


async def test_a_job_that_was_granted_too_little_says_what_it_needs_and_writes_nothing(sandbox: Sandbox) -> None:
    with (DATA / "mp4-hevc.mp4").open("rb") as source, tempfile.TemporaryFile() as jpeg:
        fds = [source.fileno(), jpeg.fileno(), jpeg.fileno()]
        (needed,) = (await _job(sandbox, fds, MP4, granted_bytes=64 << 20)).items()
        assert needed[0] == "needed_bytes"
        assert os.fstat(jpeg.fileno()).st_size == 0
        assert "blurhash" in await _job(sandbox, fds, MP4, granted_bytes=needed[1])


@pytest.mark.parametrize("name", ["mp4-hevc-8k.mp4", "mp4-h264-4k60-portrait.mp4", "mp4-av1.mp4", "webm-vp9.webm"])
async def test_what_is_forecast_is_enough(sandbox: Sandbox, name: str) -> None:
    fmt = BY_EXTENSION[name.rpartition(".")[2]]
    with (DATA / name).open("rb") as source, tempfile.TemporaryFile() as jpeg:
        fds = [source.fileno(), jpeg.fileno(), jpeg.fileno()]
        needed = await _job(sandbox, fds, fmt, granted_bytes=64 << 20)
        assert "blurhash" in await _job(sandbox, fds, fmt, granted_bytes=min(needed["needed_bytes"], 1 << 30))


async def test_a_long_search_takes_no_more_memory_than_a_short_one(sandbox: Sandbox, tmp_path: Path) -> None:
    """Held frames of 25 samples would be 300 MB. Larger and deeper ones: `python -m tests.bench.poster.blank`."""
    path = tmp_path / "blank.mp4"
    make_blank(path, Blank("4k", "3840x2160", 6, ("-c:v", "libx264", "-preset", "ultrafast"), rate=4))
    assert not _is_black(await _poster(sandbox, path, granted_bytes=poster_memory_bytes(3840 * 2160)))
