"""What `THUMBNAILS__WEBP=all` costs and saves: CPU and bytes of WebP beside JPEG, at equal SSIM.

usage: python -m tests.bench.images.webp

The WebP's quality is the lowest whose mean SSIM over the three sizes, against the full decode scaled by LANCZOS, is no
lower than that of the JPEGs of quality 80. CPU time is that of this process, of the thumbnails alone.
"""

from __future__ import annotations

import io
import time
from statistics import fmean

from PIL import Image

from mediascrub import Format, Picture, read_picture
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, Webp, vips
from mediathumbs.pictures import make_thumbnails
from mediathumbs.tests.ssim import luma_ssim
from tests.bench.figures import Figure, Pairs
from tests.bench.images.compare import EDGES, QUALITY, references
from tests.bench.images.inputs import Input, make_inputs

_SIZES = [ThumbnailSize(f"edge{edge}", edge) for edge in EDGES]


def measure_webp(picture: Input, rounds: int = 5) -> list[Figure]:
    """WebP against JPEG: bytes of the three sizes at equal SSIM, and CPU of all six against that of the three."""
    vips.allow_png()
    vips.allow_webp()
    read = read_picture(memoryview(picture.data), Format(picture.format), PictureBounds())
    ought = references(picture.data)
    jpegs = make_thumbnails(read, _SIZES, QUALITY).by_name
    wanted = fmean(_ssim(jpegs[size.name], ought[size.longest_edge]) for size in _SIZES)
    low, high = 50, 95
    while low < high:
        middle = (low + high) // 2
        webps = make_thumbnails(read, _SIZES, middle, "all").by_name
        reached = fmean(_ssim(webps[f"{size.name}.webp"], ought[size.longest_edge]) for size in _SIZES)
        low, high = (low, middle) if reached >= wanted else (middle + 1, high)
    webps = make_thumbnails(read, _SIZES, low, "all").by_name
    kib = [
        sum(len(made[f"{size.name}{end}"]) for size in _SIZES) / 1024 for made, end in ((webps, ".webp"), (jpegs, ""))
    ]
    times = [(_cpu_ms(read, low, "all"), _cpu_ms(read, low, "off")) for _ in range(rounds)]
    name = f"thumbnails, {picture.name}, WebP of quality {low}"
    return [
        Pairs([(kib[0], kib[1])]).figure(f"{name} against JPEG of {QUALITY}", "KiB"),
        Pairs(times).figure(f"{name} beside JPEG, against JPEG alone", "CPU ms"),
    ]


def _cpu_ms(picture: Picture, quality: int, webp: Webp) -> float:
    started = time.process_time()
    make_thumbnails(picture, _SIZES, quality, webp)
    return (time.process_time() - started) * 1000


def _ssim(thumbnail: bytes, reference: Image.Image) -> float:
    image = Image.open(io.BytesIO(thumbnail))
    return luma_ssim(image if image.size == reference.size else image.resize(reference.size), reference)


if __name__ == "__main__":
    for each in make_inputs()[:1]:
        for figure in measure_webp(each):
            print(figure.line())
