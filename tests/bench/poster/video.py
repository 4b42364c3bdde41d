"""A large MP4 as phones write them, made by ffmpeg once and kept in the machine's temporary directory."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_MAKING_S = 300


@dataclass(frozen=True, slots=True)
class Recipe:
    """1080p at 30 frames/s, a key frame each second, with sound. Noise makes the bit rate real."""

    seconds: int
    megabits_per_s: int


LARGE = Recipe(seconds=36, megabits_per_s=36)  # 162 MB; a phone's 4K takes 40 to 50 Mbit/s
SMALL = Recipe(seconds=2, megabits_per_s=36)


def make_videos(recipe: Recipe) -> dict[str, Path]:
    """The same video with its index last (as cameras write it) and first (as editors do), by that name."""
    directory = Path(tempfile.gettempdir()) / "avion-media-bench"
    directory.mkdir(exist_ok=True)
    name = f"{recipe.seconds}s-{recipe.megabits_per_s}mbit"
    last, first = directory / f"{name}-index-last.mp4", directory / f"{name}-index-first.mp4"
    bits = f"{recipe.megabits_per_s}M"
    _ffmpeg(
        last,
        [
            *("-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30,noise=alls=30:allf=t"),
            *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", str(recipe.seconds)),
            *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30"),
            *("-b:v", bits, "-minrate", bits, "-maxrate", bits, "-bufsize", bits, "-c:a", "aac", "-b:a", "128k"),
        ],
    )
    _ffmpeg(first, ["-i", str(last), "-c", "copy", "-movflags", "+faststart"])
    return {"index first": first, "index last": last}


def _ffmpeg(target: Path, arguments: list[str]) -> None:
    """Make ``target`` unless it is there; under another name first, so that what is there is whole."""
    if target.exists():
        return
    partial = target.with_name(f"{target.stem}.{os.getpid()}.partial.mp4")
    try:
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *arguments, str(partial)], check=True, timeout=_MAKING_S)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
