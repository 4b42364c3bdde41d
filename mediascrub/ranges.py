"""Parts of a file: ranges of bytes, and patches that replace bytes without moving any."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

_ZEROS = bytes(1 << 20)


class Range(NamedTuple):
    """``length`` bytes at ``offset``."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + self.length


class Patch(NamedTuple):
    """Replace ``length`` bytes at ``offset`` by ``data``, or by zeros when ``data`` is empty."""

    offset: int
    length: int
    data: bytes = b""

    @property
    def end(self) -> int:
        """The offset behind the last byte replaced."""
        return self.offset + self.length


def merged(ranges: Iterable[Range], max_gap_bytes: int = 0) -> tuple[Range, ...]:
    """The ranges sorted and joined where they overlap, touch, or leave at most ``max_gap_bytes`` between them."""
    joined: list[Range] = []
    for each in sorted(ranges):
        if each.length <= 0:
            continue
        if joined and each.offset <= joined[-1].end + max_gap_bytes:
            joined[-1] = Range(joined[-1].offset, max(joined[-1].end, each.end) - joined[-1].offset)
        else:
            joined.append(each)
    return tuple(joined)


def enclosing(ranges: Sequence[Range], offset: int) -> Range | None:
    """The one of ``ranges`` (sorted and apart) that has the byte at ``offset``."""
    index = bisect_right(ranges, offset, key=lambda each: each.offset) - 1
    return ranges[index] if index >= 0 and offset < ranges[index].end else None


def missing(wanted: Iterable[Range], present: Sequence[Range]) -> tuple[Range, ...]:
    """The parts of ``wanted`` that are not in ``present`` (which is merged)."""
    return tuple(part for each in merged(wanted) for part in _missing_of(each, present))


def _missing_of(wanted: Range, present: Sequence[Range]) -> Iterator[Range]:
    offset = wanted.offset
    for index in range(bisect_right(present, offset, key=lambda each: each.end), len(present)):
        here = present[index]
        if here.offset >= wanted.end:
            break
        if here.offset > offset:
            yield Range(offset, here.offset - offset)
        offset = here.end
    if offset < wanted.end:
        yield Range(offset, wanted.end - offset)


def total_bytes(ranges: Iterable[Range]) -> int:
    """The sum of their lengths."""
    return sum(each.length for each in ranges)


def within(patches: Iterable[Patch], present: Sequence[Range]) -> Iterator[Patch]:
    """What of the patches lies in ``present``. Both are sorted and apart from each other."""
    at = 0
    for patch in patches:
        while at < len(present) and present[at].end <= patch.offset:
            at += 1
        for here in islice(present, at, None):
            if here.offset >= patch.end:
                break
            start, end = max(patch.offset, here.offset), min(patch.end, here.end)
            yield Patch(start, end - start, patch.data[start - patch.offset : end - patch.offset])


def pieces(patches: Iterable[Patch]) -> Iterator[tuple[int, bytes]]:
    """Offsets and bytes to write. Fills are cut into pieces that share one block of zeros: a free box can be large."""
    for patch in patches:
        if patch.data:
            yield patch.offset, patch.data
            continue
        for start in range(0, patch.length, len(_ZEROS)):
            length = min(len(_ZEROS), patch.length - start)
            yield patch.offset + start, _ZEROS if length == len(_ZEROS) else bytes(length)


def joined_patches(patches: Iterable[Patch]) -> tuple[Patch, ...]:
    """Sorted, with touching fills of zeros joined, and touching data too. The patches must not overlap."""
    joined: list[Patch] = []
    for each in sorted(patches, key=lambda patch: patch.offset):
        last = joined[-1] if joined else None
        if last and last.end == each.offset and not last.data and not each.data:
            joined[-1] = Patch(last.offset, last.length + each.length)
        elif last and last.end == each.offset and last.data and each.data:
            joined[-1] = Patch(last.offset, last.length + each.length, last.data + each.data)
        else:
            joined.append(each)
    return tuple(joined)
