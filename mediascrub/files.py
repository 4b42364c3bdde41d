"""Scrubs a file into a copy, and reports what the copy lacks."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.formats import Format, MediaKind
from mediascrub.parts import Part, parts_of
from mediascrub.ranges import Range, pieces
from mediascrub.readers import plan_movie, read_picture
from mediascrub.sniffing import HEAD_BYTES, sniff
from mediascrub.sparse import SparseFile


def scrub_file(source: Path, target: Path) -> dict[str, int]:
    """Write a scrubbed copy of ``source`` to ``target``, which appears complete or not at all.

    Returns how many bytes were removed or overwritten, by part of the file, such as ``APP1 Exif`` or ``moov/udta``;
    empty if nothing was private. The limits are the defaults of `PictureBounds` and `VideoBounds`. Raises `ScrubError`,
    with UNSUPPORTED for a file that is not media, and `OSError`; ``target`` then stays as it was.
    """
    with source.open("rb") as original:
        size_bytes = os.fstat(original.fileno()).st_size
        found = sniff(original.read(HEAD_BYTES), size=size_bytes)
        if found.format is None:
            raise ScrubError(ScrubCode.UNSUPPORTED if size_bytes else ScrubCode.EMPTY, f"its type is {found.name}")
        scrub = _scrub_image if found.format.kind is MediaKind.IMAGE else _scrub_video
        mapped = mmap.mmap(original.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped, memoryview(mapped) as view, _replacing(target, source) as copy:
            removed = scrub(view, found.format, copy)
    return {name: count for name, count in removed.items() if count > 0}


def _scrub_image(view: memoryview, fmt: Format, copy: BinaryIO) -> Counter[str]:
    scrubbed = read_picture(view, fmt).original
    copy.write(scrubbed)
    removed = _sizes(view, fmt)
    removed.subtract(_sizes(memoryview(scrubbed), fmt))
    return removed


def _sizes(view: memoryview, fmt: Format) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for name, part in _parts(view, fmt):
        sizes[name] += part.length
    return sizes


def _scrub_video(view: memoryview, fmt: Format, copy: BinaryIO) -> Counter[str]:
    """Copy the file, apply the patches, and return how many bytes they change in each part."""
    copy.write(view)
    copy.flush()
    plan = plan_movie(SparseFile(copy.fileno(), len(view)), fmt)
    for offset, data in pieces(plan.patches):
        copy.seek(offset)
        copy.write(data)
    changed: Counter[str] = Counter()
    parts = _parts(view, fmt)
    name, part = next(parts)
    for patch in plan.patches:
        while part.end < patch.end and part.end < len(view):
            changed[name] += max(0, part.end - max(part.offset, patch.offset))
            name, part = next(parts, ("other bytes", Range(part.end, len(view) - part.end)))
        changed[name] += patch.end - max(part.offset, patch.offset)
    return changed


def _parts(view: memoryview, fmt: Format) -> Iterator[Part]:
    with suppress(ScrubError):  # damage behind what is shown
        yield from parts_of(view, fmt)


@contextmanager
def _replacing(target: Path, source: Path) -> Iterator[BinaryIO]:
    """Open a new file that becomes ``target`` after the block, with the mode of ``source``, unless the block raises."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "w+b") as file:
            yield file
        shutil.copymode(source, name)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
