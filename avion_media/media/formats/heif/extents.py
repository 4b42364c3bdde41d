"""Which bytes of the file's data are kept, and where they go when the kept ones close ranks."""

from __future__ import annotations

from bisect import bisect_right

from avion_media.domain.ranges import Range, merged
from avion_media.media.bounds import corrupt


class Extents:
    """Ranges of ``source``, first gathered with `keep`, then packed together without gaps.

    Ranges may overlap: an animated AVIF's still picture is often the first frame of its track. Every byte is copied
    once, so the packed data is never longer than the source.
    """

    def __init__(self, source: memoryview) -> None:
        self._source = source
        self._ranges: list[Range] = []
        self._starts: list[int] = []
        self._packed_starts: list[int] = []

    def keep(self, offset: int, length: int) -> None:
        """Keep a range; CORRUPT when it is not wholly inside the source."""
        if offset + length > len(self._source):
            raise corrupt("data lies beyond the end")
        self._ranges.append(Range(offset, length))

    def pack(self) -> bytes:
        """The kept bytes in their old order. `translate` works from here on."""
        packed = bytearray()
        for each in merged(self._ranges):
            self._starts.append(each.offset)
            self._packed_starts.append(len(packed))
            packed += self._source[each.offset : each.end]
        return bytes(packed)

    def translate(self, offset: int) -> int:
        """Where the byte at ``offset``, the first of a kept range, is in the packed data."""
        number = bisect_right(self._starts, offset) - 1
        return self._packed_starts[number] + offset - self._starts[number]
