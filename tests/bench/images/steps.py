"""Pillow against libvips, step by step: which library should do what (docs/decisions/0004-imaging-libraries.md).

usage: python -m tests.bench.images.steps [--rounds N]

CPU time is that of this process, libvips' thread included; a figure is the median of the rounds, in which both sides
take turns. SSIM is of luma: for a scaling against the full decode scaled by Pillow's LANCZOS, for a coder against its
input. libvips runs as in the sandbox: one thread, no cache.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyvips
from PIL import Image

from mediathumbs.tests.ssim import luma_ssim
from tests.bench.images.inputs import make_inputs

Size = tuple[int, int]
_LANCZOS = Image.Resampling.LANCZOS
_LARGE, _MEDIUM = (1600, 1200), (800, 600)


@dataclass(frozen=True)
class Step:
    """One step as each library does it; each side gives the picture that it made."""

    name: str
    pillow: Callable[[], Image.Image]
    libvips: Callable[[], Image.Image]
    reference: Image.Image


def _as_vips(image: Image.Image) -> pyvips.Image:
    return pyvips.Image.new_from_memory(image.tobytes(), *image.size, len(image.getbands()), "uchar")


def _as_pillow(image: pyvips.Image, mode: str = "RGB") -> Image.Image:
    return Image.frombytes(mode, (image.width, image.height), image.write_to_memory())


def _opened(data: bytes, draft: Size | None = None) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    if draft:
        image.draft("RGB", draft)
    image.load()
    return image.convert("RGB")


def _saved(image: Image.Image, **options: object) -> Image.Image:
    out = io.BytesIO()
    image.save(out, **options)  # type: ignore[arg-type]
    return Image.open(out)


def _scaled(image: pyvips.Image, size: Size) -> pyvips.Image:
    return image.resize(size[0] / image.width, vscale=size[1] / image.height, kernel="lanczos3")


def make_steps() -> list[Step]:
    """The steps of a thumbnail job, on the pictures of the other benchmarks."""
    jpeg, _, png, webp = (each.data for each in make_inputs())
    photograph = _opened(jpeg)
    half = photograph.resize((2016, 1512), _LANCZOS)
    large, medium = (half.resize(size, _LANCZOS) for size in (_LARGE, _MEDIUM))
    webp_picture, png_picture = _opened(webp), _opened(png)
    half_vips, large_vips = _as_vips(half), _as_vips(large)
    luma, luma_vips = half.convert("L"), _as_vips(half.convert("L"))
    srgb = large_vips.copy(interpretation="srgb")
    webp_scale = _LARGE[0] / webp_picture.width
    return [
        Step(
            "12 MP JPEG, decoded at 1/2",
            lambda: _opened(jpeg, _LARGE),
            lambda: _as_pillow(pyvips.Image.jpegload_buffer(jpeg, shrink=2)),
            half,
        ),
        Step("3 MP PNG, decoded", lambda: _opened(png), lambda: _as_pillow(_png(png)), png_picture),
        Step(
            "3 MP PNG, decoded and scaled to 1600",
            lambda: _opened(png).resize(_LARGE, _LANCZOS),
            lambda: _as_pillow(_scaled(_png(png), _LARGE)),
            png_picture.resize(_LARGE, _LANCZOS),
        ),
        Step(
            "6 MP WebP, decoded and scaled to 1600",
            lambda: _opened(webp).resize(_LARGE, _LANCZOS),
            lambda: _as_pillow(pyvips.Image.webpload_buffer(webp, memory=True, scale=webp_scale)),
            webp_picture.resize(_LARGE, _LANCZOS),
        ),
        Step(
            "3 channels, 2016 to 1600",
            lambda: half.resize(_LARGE, _LANCZOS),
            lambda: _as_pillow(_scaled(half_vips, _LARGE)),
            large,
        ),
        Step(
            "1 channel, 2016 to 1600",
            lambda: luma.resize(_LARGE, _LANCZOS),
            lambda: _as_pillow(_scaled(luma_vips, _LARGE), "L"),
            luma.resize(_LARGE, _LANCZOS),
        ),
        Step(
            "3 channels, 1600 to 800",
            lambda: large.resize(_MEDIUM, _LANCZOS),
            lambda: _as_pillow(_scaled(large_vips, _MEDIUM)),
            medium,
        ),
        Step(
            "JPEG of 1600, written",
            lambda: _saved(large, format="JPEG", quality=80, subsampling="4:2:0"),
            lambda: Image.open(io.BytesIO(srgb.jpegsave_buffer(Q=80))),
            large,
        ),
        Step(
            "WebP of 1600, written",
            lambda: _saved(large, format="WEBP", quality=78, method=2),
            lambda: Image.open(io.BytesIO(srgb.webpsave_buffer(Q=78, effort=2))),
            large,
        ),
    ]


def _png(data: bytes) -> pyvips.Image:
    return pyvips.Image.pngload_buffer(data, access="sequential")


def _cpu_ms(run: Callable[[], Image.Image]) -> float:
    started = time.process_time()
    run()
    return (time.process_time() - started) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    print(f"{'':40} {'Pillow ms':>10} {'libvips ms':>10} {'ratio':>6}   SSIM Pillow, libvips")
    for step in make_steps():
        ssim = [luma_ssim(run(), step.reference) for run in (step.pillow, step.libvips)]
        pairs = [(_cpu_ms(step.pillow), _cpu_ms(step.libvips)) for _ in range(rounds)]
        pillow, libvips = (statistics.median(each[side] for each in pairs) for side in (0, 1))
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"{step.name:40} {pillow:10.1f} {libvips:10.1f} {ratio:6.2f}   {ssim[0]:.4f}, {ssim[1]:.4f}")


if __name__ == "__main__":
    main()
