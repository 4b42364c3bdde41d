"""A file of which only some byte ranges are present, while the object store has the whole file.

The service fetches ranges into a sparse local file, and repeats the examination each time that it needed more. So
readers go through `SparseFile.read`, which raises `Missing` instead of returning the zeros of a hole.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Sequence

from mediascrub.errors import corrupt
from mediascrub.ranges import Range, enclosing, merged, total_bytes

_MAX_PEEK_BYTES = 16 << 20
_OVERLAP_BYTES = 8  # of two blocks: more than any pattern matches


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


class Window:
    """Reads small pieces one after the other, by a block of the file that it keeps."""

    def __init__(self, file: SparseFile, block_bytes: int = 1 << 20) -> None:
        self._file = file
        self._block_bytes = block_bytes
        self._offset, self._block = 0, b""

    def at(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes: less at the end of the file. Not more than a block."""
        start = offset - self._offset
        if start < 0 or start + length > len(self._block):
            wanted = min(max(self._block_bytes, length), self._file.size_bytes - offset)
            self._offset, self._block, start = offset, self._file.read(offset, max(0, wanted)), 0
        return self._block[start : start + length]

    def find(self, sought: re.Pattern[bytes], start: int, end: int) -> int:
        """Return where the pattern matches first: at ``start`` or behind it, and before ``end``; else ``end``."""
        while start < end:
            self.at(start, _OVERLAP_BYTES)
            found = sought.search(self._block, start - self._offset)
            if found:
                return min(self._offset + found.start(), end)
            start = max(start + 1, self._offset + len(self._block) - _OVERLAP_BYTES + 1)
        return end
