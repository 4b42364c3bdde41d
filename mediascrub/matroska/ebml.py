"""EBML (RFC 8794), the grammar of Matroska: element headers, values, and the Void element that replaces others."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from mediascrub.bounds import Quota
from mediascrub.errors import ScrubError, corrupt
from mediascrub.ranges import Range
from mediascrub.sparse import SparseFile

MAX_HEADER_BYTES = 12  # 4 of id, 8 of size
VOID, CRC_32 = 0xEC, 0xBF


class Id(IntEnum):
    """The ids of the elements of a file and of its segment (RFC 9559)."""

    EBML, SEGMENT = 0x1A45DFA3, 0x18538067
    SEEK_HEAD, INFO, TRACKS, CLUSTER, CUES = 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B
    TAGS, CHAPTERS, ATTACHMENTS = 0x1254C367, 0x1043A770, 0x1941A469


@dataclass(frozen=True, slots=True)
class Element:
    """One element. ``size`` is that of its content in bytes, or None if it is unknown (live recordings)."""

    id: int
    offset: int
    header: int
    size: int | None

    @property
    def payload(self) -> int:
        """The offset of its content in the file."""
        return self.offset + self.header

    @property
    def end(self) -> int:
        """The offset after it. Raises `ScrubError` (corrupt) if its size is unknown."""
        if self.size is None:
            raise corrupt(f"element {self.id:x} at {self.offset} has no size")
        return self.payload + self.size

    @property
    def whole(self) -> Range:
        """Its range in the file, header included."""
        return Range(self.offset, self.end - self.offset)

    @property
    def body(self) -> Range:
        """The range of its content."""
        return Range(self.payload, self.end - self.payload)

    def until(self, end: int) -> Element:
        """Return the same element, but ending at ``end`` of the file."""
        return replace(self, size=end - self.payload)


def read_number(data: bytes | memoryview, position: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """Return a variable-length number and its width in bytes. Raises `ScrubError` (corrupt) if there is none."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length()
    if first == 0 or position + width > len(data):
        raise corrupt("no EBML number")
    value = int.from_bytes(data[position : position + width], "big")
    return (value if keep_marker else value & ((1 << 7 * width) - 1)), width


def parse_element(data: bytes | memoryview, position: int, offset: int) -> Element:
    """Return the element at ``position`` in ``data``, which is at ``offset`` in the file. `ScrubError`: corrupt."""
    identifier, id_width = read_number(data, position, keep_marker=True)
    if id_width > 4:
        raise corrupt(f"no element id at {offset}")
    size, size_width = read_number(data, position + id_width)
    unknown = size == (1 << 7 * size_width) - 1
    return Element(identifier, offset, id_width + size_width, None if unknown else size)


def element_at(file: SparseFile, offset: int, end: int | None = None) -> Element:
    """Return the element at ``offset``, whose header must not exceed ``end``. Raises `Missing`, `ScrubError`."""
    end = file.size_bytes if end is None else end
    return parse_element(file.read(offset, min(MAX_HEADER_BYTES, end - offset)), 0, offset)


class Elements:
    """Reads the elements of a file, up to ``max_elements``. Reads raise `Missing`, CORRUPT or TOO_COMPLEX."""

    def __init__(self, file: SparseFile, max_elements: int) -> None:
        self._file = file
        self._quota = Quota(max_elements, "elements")

    def series(self, start: int, end: int, *, strict: bool = False) -> Iterator[Element]:
        """Yield the elements from ``start`` to ``end``, up to a header that the end of the file cuts off.

        The last element can exceed ``end``. If ``strict``, one that is cut off or exceeds ``end`` is corrupt.
        """
        offset = start
        while offset < end:
            try:
                element = element_at(self._file, offset, end if strict else None)
            except ScrubError:
                if offset + MAX_HEADER_BYTES > self._file.size_bytes and not strict:
                    return
                raise
            if strict and element.end > end:
                raise corrupt(f"element {element.id:x} at {offset} exceeds its parent")
            self._quota.take()
            yield element
            offset = element.end

    def children(self, parent: Element) -> Iterator[Element]:
        """Return the elements in ``parent``. An element that exceeds it is corrupt."""
        return self.series(parent.payload, parent.end, strict=True)

    def inside(self, parent: Element, identifier: int, *deeper: int) -> Iterator[Element]:
        """Yield the children of ``parent`` with that id, or the elements in these along the path of ids."""
        for child in self.children(parent):
            if child.id == identifier:
                yield from self.inside(child, *deeper) if deeper else (child,)

    def content(self, element: Element, max_bytes: int | None = None) -> bytes:
        """Return the bytes of the element, or the first ``max_bytes`` of them."""
        length = element.end - element.payload
        return self._file.read(element.payload, length if max_bytes is None else min(length, max_bytes))

    def unsigned(self, element: Element) -> int:
        """Return an unsigned integer. More than 8 bytes are corrupt."""
        data = self.content(element, 9)
        if len(data) > 8:
            raise corrupt(f"element {element.id:x} is no integer")
        return int.from_bytes(data, "big")

    def number(self, element: Element) -> float:
        """Return a floating-point number; 0.0 for NaN and infinity. Another length is corrupt."""
        data = self.content(element, 9)
        if len(data) not in (0, 4, 8):
            raise corrupt(f"element {element.id:x} is no float")
        value = struct.unpack({0: "", 4: ">f", 8: ">d"}[len(data)], data)[0] if data else 0.0
        return value if math.isfinite(value) else 0.0


def void_header(length: int) -> bytes:
    """Return the header of a Void that takes ``length`` bytes (at least 2) with its content."""
    if length - 2 < 127:
        return bytes((VOID, 0x80 | (length - 2)))
    return bytes((VOID, 0x01)) + (length - 9).to_bytes(7, "big")
