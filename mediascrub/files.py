"""Scrubs a file into a copy."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.formats import Format, MediaKind
from mediascrub.ranges import pieces
from mediascrub.readers import plan_movie, read_picture
from mediascrub.sniffing import HEAD_BYTES, sniff
from mediascrub.sparse import SparseFile


def scrub_file(source: Path, target: Path) -> bool:
    """Write a scrubbed copy of ``source`` to ``target``, which appears complete or not at all.

    Returns whether the copy differs: if not, nothing was private. The limits are the defaults of `PictureBounds` and
    `VideoBounds`. Raises `ScrubError`, with UNSUPPORTED for a file that is not media, and `OSError`; ``target`` then
    stays as it was.
    """
    with source.open("rb") as original:
        size_bytes = os.fstat(original.fileno()).st_size
        found = sniff(original.read(HEAD_BYTES), size=size_bytes)
        if found.format is None:
            raise ScrubError(ScrubCode.UNSUPPORTED if size_bytes else ScrubCode.EMPTY, f"its type is {found.name}")
        scrub = _scrub_image if found.format.kind is MediaKind.IMAGE else _scrub_movie
        mapped = mmap.mmap(original.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped, memoryview(mapped) as view, _replacing(target, source) as copy:
            return scrub(view, found.format, copy)


def _scrub_image(view: memoryview, fmt: Format, copy: BinaryIO) -> bool:
    scrubbed = read_picture(view, fmt).original
    copy.write(scrubbed)
    return scrubbed != view


def _scrub_movie(view: memoryview, fmt: Format, copy: BinaryIO) -> bool:
    copy.write(view)
    copy.flush()
    plan = plan_movie(SparseFile(copy.fileno(), len(view)), fmt)
    for offset, data in pieces(plan.patches):
        copy.seek(offset)
        copy.write(data)
    return bool(plan.patches)


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
