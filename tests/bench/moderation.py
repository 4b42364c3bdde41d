"""What block lists cost, and how well PDQ works on the samples: `python -m tests.bench.moderation`.

An altered copy counts as found where its hash is within `MAX_DISTANCE` of the picture's own. A false match is one
between two samples that do not show the same picture (`SAME`: what their names begin with).
"""

from __future__ import annotations

import io
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from avion_media.items.moderation.jobs import pdq_job
from avion_media.items.moderation.lists import MAX_DISTANCE, MIN_QUALITY, DigestSet, Likenesses

_LOOKUPS = 10_000
_COMPARISONS = 10
_DATA = Path(__file__).resolve().parents[1] / "data"
SAMPLES = tuple(
    sorted(
        each.name
        for each in _DATA.iterdir()
        if each.suffix in (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".avif")
        and not each.name.startswith(("bomb-", "fuzz-", "jpeg-dog-12mp"))
    )
)
SAME = (
    ("bmp", "tiff"),
    ("jpeg-exif-thumbnail-differs", "png-exif-gps-text"),
    ("jpeg-gray", "jpeg-progressive", "png-named", "polyglot-jpeg"),
    ("jpeg-orientation",),
    ("jpeg-portrait-orientation",),
)
"""Samples that show the same picture."""
ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda picture: picture.resize((-(-picture.width // 2), -(-picture.height // 2))),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 200)),
    "JPEG of quality 20": lambda picture: _opened(_jpeg(picture, 20)),
    "30 % brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
    "gray": lambda picture: picture.convert("L"),
    "5 % cut off each side": lambda picture: ImageOps.crop(picture, min(picture.size) // 20),
    "mirrored": ImageOps.mirror,
}


def _cpu_ms(call: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - started) / times * 1000


def _opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def _jpeg(picture: Image.Image, quality: int = 80) -> bytes:
    """A thumbnail as the service makes it, in all that matters here."""
    thumbnail, target = picture.convert("RGB"), io.BytesIO()
    thumbnail.thumbnail((800, 800))
    thumbnail.save(target, "JPEG", quality=quality)
    return target.getvalue()


def _pdq(picture: Image.Image) -> tuple[int, int]:
    """The hash of a picture, and its quality."""
    file = os.memfd_create("thumbnail")
    try:
        os.write(file, _jpeg(picture))
        found = pdq_job({}, [file])
    finally:
        os.close(file)
    return int(found["pdq"], 16), found["quality"]


def _subject(name: str) -> str:
    return next((same[0] for same in SAME if name.startswith(same)), name)


def likeness(
    names: Iterable[str], alterations: Iterable[str] = tuple(ALTERATIONS)
) -> tuple[dict[str, tuple[int, int]], list[tuple[str, str]]]:
    """Return how many of how many altered copies are found, and the false matches among these samples."""
    hashes: dict[str, int] = {}
    found = dict.fromkeys(alterations, 0)
    for name in names:
        try:
            with Image.open(_DATA / name) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, SyntaxError):
            continue  # one of the damaged samples
        picture.thumbnail((1600, 1600))
        digest, quality = _pdq(picture)
        if quality < MIN_QUALITY:
            continue
        hashes[name] = digest
        for alteration in found:
            altered, _ = _pdq(ALTERATIONS[alteration](picture))
            found[alteration] += (altered ^ digest).bit_count() <= MAX_DISTANCE
    false = [
        (one, other)
        for one, other in combinations(hashes, 2)
        if (hashes[one] ^ hashes[other]).bit_count() <= MAX_DISTANCE and _subject(one) != _subject(other)
    ]
    return {alteration: (count, len(hashes)) for alteration, count in found.items()}, false


def measure(entries: int, likenesses: int) -> dict[str, float]:
    """Return the memory and the CPU time of lists of so many random hashes."""
    source = random.Random(1)
    digests = [source.randbytes(32) for _ in range(entries)]
    tracemalloc.start()
    exact = DigestSet(digests, 32)
    memory_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    hits, misses = iter(digests[:_LOOKUPS]), iter(source.randbytes(32) for _ in range(_LOOKUPS))
    pictures = Likenesses.of(source.randbytes(32) for _ in range(likenesses))
    altered = pictures.hashes[-1] ^ ((1 << MAX_DISTANCE) - 1)
    assert pictures.nearest(altered.to_bytes(32)) == (MAX_DISTANCE, pictures.hashes[-1].to_bytes(32))
    return {
        "exact_memory_mb": memory_mb,
        "exact_hit_ms": _cpu_ms(lambda: next(hits) in exact, min(_LOOKUPS, entries)),
        "exact_miss_ms": _cpu_ms(lambda: next(misses) in exact, _LOOKUPS),
        "pdq_ms": _cpu_ms(lambda: pictures.nearest(source.randbytes(32)), _COMPARISONS),
    }


if __name__ == "__main__":
    for name, value in measure(1_000_000, 100_000).items():
        sys.stdout.write(f"{name:22} {value:10.4f}\n")
    shares, false_matches = likeness(SAMPLES)
    for name, (count, total) in shares.items():
        sys.stdout.write(f"{name:22} {count:3} of {total} found\n")
    sys.stdout.write(f"{'false matches':22} {len(false_matches):3} {false_matches or ''}\n")
