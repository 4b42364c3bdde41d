"""The poster shows the track whose bytes were fetched, and that is the one that players show."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import trio
from PIL import Image

from avion_media.common.formats import BY_EXTENSION, MOV
from avion_media.media.pipeline import MediaPipeline, Processed, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub.ranges import merged
from mediascrub.tests.videos import DATA, apply_patches, examine, ffmpeg
from tests.unit.media.pieces import Pieces

_LIMIT_S = 120
RED, BLUE = (220, 30, 30), (30, 30, 220)


@pytest.fixture
async def pipeline() -> AsyncIterator[MediaPipeline]:
    async with open_sandbox(budget_bytes=2 << 30, preload=preload_for(frozenset())) as sandbox:
        yield MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), SandboxConfig())


async def _process(pipeline: MediaPipeline, path: Path) -> Processed:
    with ExitStack() as files, trio.fail_after(_LIMIT_S):
        spool = files.enter_context(TemporaryFile(buffering=0))
        return await pipeline.process(Pieces(path, spool.fileno()), BY_EXTENSION[path.suffix[1:]], files)


def _mean(thumbnail: bytes) -> tuple[int, ...]:
    pixel = Image.open(io.BytesIO(thumbnail)).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return tuple(map(int, pixel))


def _two_tracks(path: Path, red: str, blue: str, *codec: str) -> None:
    """A red track and then a blue one, both noisy and so large, with these dispositions."""
    noise = "size=320x180:rate=10:duration=8,format=yuv420p,noise=alls=40:allf=t"
    inputs = [f"color=0x{''.join(f'{level:02x}' for level in each)}:{noise}" for each in (RED, BLUE)]
    tracks = ("-map", "0:v", "-map", "1:v", "-disposition:v:0", red, "-disposition:v:1", blue)
    ffmpeg(*(word for each in inputs for word in ("-f", "lavfi", "-i", each)), *tracks, *codec, path)


@pytest.mark.parametrize(
    ("name", "red", "blue", "shown"),
    [
        ("first.mp4", "default", "0", RED),
        ("second.mp4", "0", "default", BLUE),
        ("second.mov", "0", "default", BLUE),
        ("first.mkv", "default", "0", RED),
        ("second.mkv", "0", "default", BLUE),
        ("both.mkv", "default", "default", RED),
    ],
)
async def test_the_poster_of_a_video_of_two_tracks(
    pipeline: MediaPipeline, tmp_path: Path, name: str, red: str, blue: str, shown: tuple[int, ...]
) -> None:
    path = tmp_path / name
    _two_tracks(path, red, blue, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "10", "-g", "10")
    made = await _process(pipeline, path)
    found = _mean(made.thumbnails["small"])
    assert all(abs(one - other) < 30 for one, other in zip(found, shown, strict=True)), found


@pytest.mark.parametrize(("name", "black_s"), [("late.mp4", 6), ("late.mkv", 6), ("behind.mp4", 10)])
async def test_a_picture_behind_the_first_seconds_is_found_also_where_only_they_were_fetched(
    pipeline: MediaPipeline, tmp_path: Path, name: str, black_s: int
) -> None:
    """Behind ten seconds it is the next key frame."""
    path = tmp_path / name
    black, picture = f"color=black:size=320x180:rate=10:duration={black_s}", "testsrc2=size=320x180:rate=10:duration=30"
    graph = "[0:v]format=yuv420p[black];[1:v]noise=alls=40:allf=t,format=yuv420p[noisy];[black][noisy]concat"
    inputs = ("-f", "lavfi", "-i", black, "-f", "lavfi", "-i", picture, "-filter_complex", graph)
    ffmpeg(*inputs, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "20", "-g", "100", path)
    fmt, plan = BY_EXTENSION[path.suffix[1:]], examine(path)
    scrubbed = apply_patches(plan.patches, path.read_bytes())
    with ExitStack() as files, trio.fail_after(_LIMIT_S):
        source = Pieces(path, files.enter_context(TemporaryFile(buffering=0)).fileno())
        made = await pipeline.process(source, fmt, files)
        for each in source.present:
            assert os.pread(source.fd, each.length, each.offset) == scrubbed[each.offset : each.end]
        assert sum(each.length for each in merged(source.present)) < source.size_bytes / 2
        whole = Pieces(path, files.enter_context(TemporaryFile(buffering=0)).fileno(), whole=True)
        reference = await pipeline.process(whole, fmt, files)
    assert made.patches == plan.patches
    assert made.thumbnails == reference.thumbnails
    assert max(_mean(reference.thumbnails["small"])) > 60


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
async def test_a_video_with_private_data_in_very_many_places_is_patched_on_its_way_through(
    pipeline: MediaPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr("avion_media.media.pipeline._MAX_PLAN_BYTES", 100)
    path = DATA / "mov-iphone4s-portrait-rotated-gps.mov"
    scrubbed = apply_patches(examine(path).patches, path.read_bytes())
    with ExitStack() as files, trio.fail_after(_LIMIT_S):
        source = Pieces(path, files.enter_context(TemporaryFile(buffering=0)).fileno(), whole=whole)
        made = await pipeline.process(source, MOV, files)
        assert (made.patches, made.sha256) == ((), hashlib.sha256(scrubbed).hexdigest())
        assert os.pread(source.fd, len(scrubbed) + 1, 0) == scrubbed


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
async def test_a_poster_is_made_of_what_is_scrubbed(pipeline: MediaPipeline, whole: bool) -> None:
    path = DATA / "mov-iphone4s-portrait-rotated-gps.mov"
    plan = examine(path)
    scrubbed = apply_patches(plan.patches, path.read_bytes())
    with ExitStack() as files, trio.fail_after(_LIMIT_S):
        spool = files.enter_context(TemporaryFile(buffering=0))
        source = Pieces(path, spool.fileno(), whole=whole)
        made = await pipeline.process(source, MOV, files)
        assert made.patches == plan.patches
        assert made.sha256 == (hashlib.sha256(scrubbed).hexdigest() if whole else "")
        assert source.present
        for each in source.present:
            assert os.pread(source.fd, each.length, each.offset) == scrubbed[each.offset : each.end]
        assert os.fstat(source.fd).st_blocks * 512 <= sum(each.length for each in merged(source.present)) + (1 << 16)
