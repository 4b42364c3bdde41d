"""Posters of videos with a blank start, up to 8K: `python -m tests.bench.poster.blank [name …]`.

Prints for each file whether its poster shows the picture behind the blank seconds, and the peak memory of its jobs
beside what they may take. Ends with an error if one misses. ffmpeg makes the files, which takes some minutes.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import trio
from PIL import Image, ImageStat

from avion_media.common.errors import Rejected
from avion_media.common.formats import BY_EXTENSION
from avion_media.media.pipeline import MediaPipeline, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediathumbs import poster_memory_bytes
from tests.unit.media.pieces import Pieces
from trio_sandbox import JobReport

_SHOWN_S = 1
_LEAST_MEAN = 60  # of 255: the picture's is 128
_X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "100")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=100:scenecut=0")
_AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-g", "100", "-svtav1-params", "lp=2")
_VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "20M")


@dataclass(frozen=True)
class Blank:
    """One file: its size, its coding, and its blank seconds."""

    name: str
    size: str
    blank_s: float
    coding: tuple[str, ...]
    depth: int = 8
    rate: int = 10


_FILES = (
    Blank("1080p-h264", "1920x1080", 6, _X264),
    Blank("1080p-h264-10", "1920x1080", 10, _X264, 10),
    Blank("1080p-hevc-10", "1920x1080", 10, _X265, 10),
    Blank("1080p-av1", "1920x1080", 10, _AV1),
    Blank("1440p-hevc-10", "2560x1440", 10, _X265, 10),
    Blank("1440p-h264", "2560x1440", 3, _X264),
    Blank("4k-h264", "3840x2160", 6, _X264),
    Blank("4k-hevc", "3840x2160", 10, _X265),
    Blank("4k-hevc-10", "3840x2160", 1, _X265, 10),
    Blank("4k-av1-10", "3840x2160", 6, _AV1, 10),
    Blank("8k-hevc", "7680x4320", 1, _X265),
    Blank("8k-hevc-10", "7680x4320", 3, _X265, 10),
    Blank("8k-av1-10", "7680x4320", 1, _AV1, 10),
    Blank("67mp-h264", "8192x8192", 1, _X264, rate=3),
    Blank("67mp-hevc-10", "8192x8192", 1, _X265, 10, rate=16),
    Blank("67mp-vp9", "8192x8192", 1, _VP9, rate=16),
    Blank("67mp-av1-10", "8192x8192", 1, _AV1, 10, rate=16),
)


def make_blank(path: Path, file: Blank) -> None:
    """Make the video at ``path``: black, and then a picture."""
    looks = f"size={file.size}:rate={file.rate}"
    sources = (f"color=black:{looks}:duration={file.blank_s}", f"testsrc2={looks}:duration={_SHOWN_S}")
    inputs = (word for each in sources for word in ("-f", "lavfi", "-i", each))
    pixels = "yuv420p10le" if file.depth == 10 else "yuv420p"
    graph = f"[0:v][1:v]concat,format={pixels}"
    command = ("ffmpeg", "-nostdin", "-v", "error", "-y", *inputs, "-filter_complex", graph, *file.coding, str(path))
    subprocess.run(command, check=True)


async def _rows(files: list[Blank], folder: Path) -> list[bool]:
    reports: list[JobReport] = []
    config = SandboxConfig()
    good: list[bool] = []
    preload = preload_for(frozenset())
    async with open_sandbox(budget_bytes=config.budget, preload=preload, observer=reports.append) as sandbox:
        pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), config)
        for file in files:
            path = folder / f"{file.name}.mp4"
            make_blank(path, file)
            reports.clear()
            mean = await _mean_of_poster(pipeline, path)
            path.unlink()
            width, height = map(int, file.size.split("x"))
            peak, allowed = max(each.usage.peak_rss_bytes for each in reports), poster_memory_bytes(width * height)
            good.append(mean > _LEAST_MEAN and peak <= allowed)
            cpu_s = sum(each.usage.cpu_s for each in reports)
            verdict = "ok" if good[-1] else "MISSED"
            memory = f"peak {peak >> 20:4} of {allowed >> 20:4} MiB"
            looks = f"{file.name:14} {file.blank_s:4.0f} s blank   mean {mean:4.0f}"
            print(f"{looks}   {memory}   {cpu_s:5.2f} s of CPU   {verdict}", flush=True)
    return good


async def _mean_of_poster(pipeline: MediaPipeline, path: Path) -> float:
    """Return the mean lightness of the poster; -1 if there is none."""
    with ExitStack() as files:
        source = Pieces(path, files.enter_context(tempfile.TemporaryFile(buffering=0)).fileno())
        try:
            made = await pipeline.process(source, BY_EXTENSION["mp4"], files)
        except Rejected as refused:
            print(refused)
            return -1.0
    return ImageStat.Stat(Image.open(io.BytesIO(made.thumbnails["large"])).convert("L")).mean[0]


def _chosen(names: list[str]) -> Iterator[Blank]:
    return (each for each in _FILES if not names or each.name in names)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_here:
        results = trio.run(_rows, list(_chosen(sys.argv[1:])), Path(made_here))
    print(f"{sum(results)} of {len(results)}")
    sys.exit(not all(results))
