"""A file of which only some byte ranges are present, while the object store has the whole file.

The service fetches ranges into a sparse local file, and repeats the examination each time that it needed more. So
readers go through `SparseFile.read`, which raises `Missing` instead of returning the zeros of a hole.
"""

from __future__ import annotations

import copy
import mmap
import os
from collections.abc import Iterable, Sequence

from mediascrub.errors import corrupt
from mediascrub.ranges import Range, enclosing, merged, total_bytes

_MAX_PEEK_BYTES = 16 << 20


class Missing(Exception):
    """Ranges that are needed and not completely present. Fetch them, or more, and run the same job again."""

    def __init__(self, *ranges: Range) -> None:
        super().__init__(f"{len(ranges)} ranges, {total_bytes(ranges)} bytes")
        self.ranges = ranges


def eager_window(seen: int) -> int:
    """Return how many bytes to fetch at once after ``seen`` headers, without an index: from 64 KiB to 8 MiB."""
    return min((64 << 10) << min(seen // 4, 7), 8 << 20)


class SparseFile:
    """Reads the ranges that are present of a file of ``size_bytes``.

    The caller keeps ``fd``. Its file has the full length, with holes where nothing was fetched. ``present`` are the
    ranges fetched so far; without it the whole file is present.
    """

    def __init__(self, fd: int, size_bytes: int, present: Sequence[Range] | None = None) -> None:
        self.size_bytes = size_bytes
        self._fd = fd
        self._present = merged((Range(0, size_bytes),) if present is None else present)
        self._ahead_bytes = 0

    def reading_ahead(self, ahead_bytes: int) -> SparseFile:
        """Return the same file for a reader that reads on from each place: `Missing` then asks for ``ahead_bytes``."""
        ahead = copy.copy(self)
        ahead._ahead_bytes = ahead_bytes
        return ahead

    @property
    def whole(self) -> Range:
        """The range of all its bytes."""
        return Range(0, self.size_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is present."""
        return self.missing(0, self.size_bytes) is None

    def missing(self, offset: int, length: int) -> Range | None:
        """Return the part of this range from its first missing byte to its end; None if all of it is present."""
        end, here = offset + length, offset
        if present := enclosing(self._present, offset):
            here = present.end
        return None if here >= end else Range(here, end - here)

    def require(self, ranges: Iterable[Range]) -> None:
        """Raise one `Missing` for all parts of ``ranges`` (cut at the end of the file) that are not present."""
        cut = (Range(each.offset, min(each.end, self.size_bytes) - each.offset) for each in ranges)
        absent = [part for each in cut if (part := self.missing(each.offset, each.length)) is not None]
        if absent:
            raise Missing(*merged(absent))

    def peek(self, offset: int, length: int) -> bytes | None:
        """Return these bytes; None if they are not all present, or too many to compare."""
        here = offset + length <= self.size_bytes and self.missing(offset, length) is None
        return self.read(offset, length) if here and length <= _MAX_PEEK_BYTES else None

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes. Raises `Missing` if some are not present, CORRUPT if the file ends first."""
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise corrupt(f"{length} bytes at {offset} lie outside the file")
        absent = self.missing(offset, length)
        if absent is not None:
            wanted = max(absent.length, min(self._ahead_bytes, self.size_bytes - absent.offset))
            raise Missing(Range(absent.offset, wanted))
        data = os.pread(self._fd, length, offset)
        if len(data) != length:
            raise Missing(Range(offset + len(data), length - len(data)))
        return data

    def mapped(self) -> mmap.mmap:
        """Return a view of the whole file. Raises `Missing` if some is not present, CORRUPT if the file is empty."""
        self.require([self.whole])
        if not self.size_bytes:
            raise corrupt("no bytes")
        return mmap.mmap(self._fd, self.size_bytes, access=mmap.ACCESS_READ)
