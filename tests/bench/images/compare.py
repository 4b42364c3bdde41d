"""CPU time and quality of our thumbnails against sharp's, measured in the same run.

usage: python -m tests.bench.images.compare [--rounds N] [--repeats N] [--json]

Three sizes of each picture, JPEG quality 80 on both sides. CPU time is user + system of a whole process that makes N+1
rounds, less that of one that makes one round, so start-up is not counted. Both sides take turns; figures are medians.
Ours includes the BlurHash, which sharp does not make. Quality is the SSIM of luma against the full decode scaled by
LANCZOS. Peak memory is of the whole process, runtime included.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageOps

from mediathumbs.tests.ssim import luma_ssim
from tests.bench.images.inputs import Input, make_inputs
from trio_sandbox.fork_server_process import ALLOCATOR

EDGES = (1600, 800, 400)
QUALITY = 80
_HERE = Path(__file__).parent
_NODE = _HERE.parent / "node"


@dataclass(frozen=True)
class Side:
    """What one side did: CPU milliseconds per picture, SSIM and bytes by edge, peak memory of the process."""

    cpu_ms: float
    ssim: dict[int, float]
    thumbnail_bytes: dict[int, int]
    peak_rss_mib: float


@dataclass(frozen=True)
class Comparison:
    """``each_ratio`` and ``ratio`` are medians of ours / sharp's of the single repeats.

    The first is of sharp with a decode for each size, the second of sharp with one decode. The goal is for the second.

    ``times_ms`` are the repeats, ours and sharp's; ``cascade_times_ms`` ours and those of sharp used as we work:
    one decode, and each size from the largest thumbnail's raw pixels. Few do that, but it can be done.
    """

    name: str
    goal: float | None
    each_ratio: float
    ratio: float
    times_ms: list[tuple[float, float]]
    cascade_times_ms: list[tuple[float, float]]
    ours: Side
    sharp: Side


def compare(picture: Input, rounds: int, repeats: int) -> Comparison:
    """Measure both sides on one picture."""
    with tempfile.TemporaryDirectory() as scratch:
        source, ours, sharp = Path(scratch, "picture"), Path(scratch, "ours"), Path(scratch, "sharp")
        source.write_bytes(picture.data)
        ours.mkdir()
        sharp.mkdir()
        edges = [str(edge) for edge in EDGES]
        our_command = [sys.executable, str(_HERE / "rounds.py"), str(source), picture.format, "{}", str(ours)]
        cascade = Path(scratch, "cascade")
        cascade.mkdir()
        script = ["node", str(_NODE / "thumbnails.mjs"), str(source), "{}"]
        times: list[tuple[float, float]] = []
        cascade_times: list[tuple[float, float]] = []
        for _ in range(repeats):
            our_ms = _cpu_ms([*our_command, str(QUALITY), *edges], rounds)
            times.append((our_ms, _cpu_ms([*script, str(sharp), "each", str(QUALITY), *edges], rounds)))
            cascade_times.append((our_ms, _cpu_ms([*script, str(cascade), "once", str(QUALITY), *edges], rounds)))
        ought = references(picture.data)
        return Comparison(
            name=picture.name,
            goal=picture.goal,
            each_ratio=statistics.median(our_ms / sharp_ms for our_ms, sharp_ms in times),
            ratio=statistics.median(our_ms / sharp_ms for our_ms, sharp_ms in cascade_times),
            times_ms=times,
            cascade_times_ms=cascade_times,
            ours=_side(statistics.median(each[0] for each in times), ours, ought),
            sharp=_side(statistics.median(each[1] for each in times), sharp, ought),
        )


def _cpu_ms(command: Sequence[str], rounds: int) -> float:
    """CPU milliseconds of one round."""
    return (_cpu_s(command, 1 + rounds) - _cpu_s(command, 1)) / rounds * 1000


def _cpu_s(command: Sequence[str], rounds: int) -> float:
    # Ours runs as it does in the sandbox.
    environment = os.environ | ({"GLIBC_TUNABLES": ALLOCATOR} if command[0] == sys.executable else {})
    process = subprocess.Popen([str(rounds) if part == "{}" else part for part in command], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} {command[1]} failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def references(data: bytes) -> dict[int, Image.Image]:
    """The full decode, upright, scaled by LANCZOS, not compressed."""
    full = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    references = {}
    for edge in EDGES:
        scale = edge / max(full.size)
        size = round(full.width * scale), round(full.height * scale)
        references[edge] = full.resize(size, Image.Resampling.LANCZOS)
    return references


def _side(cpu_ms: float, directory: Path, references: dict[int, Image.Image]) -> Side:
    thumbnails = {edge: (directory / f"{edge}.jpg").read_bytes() for edge in EDGES}
    return Side(
        cpu_ms=cpu_ms,
        ssim={edge: luma_ssim(Image.open(io.BytesIO(thumbnails[edge])), references[edge]) for edge in EDGES},
        thumbnail_bytes={edge: len(thumbnail) for edge, thumbnail in thumbnails.items()},
        peak_rss_mib=int((directory / "peak_rss_kib").read_text()) / 1024,
    )


def _print_table(results: Sequence[Comparison]) -> None:
    edges = "/".join(map(str, EDGES))
    print(f"{'':15} {'CPU ms':>7} {'each':>6} {'once':>6} {'goal':>5}   SSIM {edges:22} KiB {edges:14} peak MiB")
    for result in results:
        print(result.name)
        goal = f"{result.goal:.2f}" if result.goal else "-"
        _print_side("avion-media", result.ours, f"{result.each_ratio:6.2f} {result.ratio:6.2f} {goal:>5}")
        _print_side("sharp", result.sharp, f"{'':19}")


def _print_side(name: str, side: Side, verdict: str) -> None:
    similarity = " / ".join(f"{side.ssim[edge]:.4f}" for edge in EDGES)
    size = " / ".join(f"{side.thumbnail_bytes[edge] / 1024:.0f}" for edge in EDGES)
    print(f"  {name:13} {side.cpu_ms:7.1f} {verdict}   {similarity:27} {size:18} {side.peak_rss_mib:8.0f}")


def main() -> None:
    """Install sharp if it is not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="pictures per process")
    parser.add_argument("--repeats", type=int, default=5, help="processes per side")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    if not (_NODE / "node_modules" / "sharp").is_dir():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=_NODE, check=True, stdout=sys.stderr)
    results = [compare(picture, arguments.rounds, arguments.repeats) for picture in make_inputs()]
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        _print_table(results)


if __name__ == "__main__":
    main()
