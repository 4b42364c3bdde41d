"""ISO base media boxes (ISO/IEC 14496-12) and QuickTime atoms: one reader for every format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from avion_media.media.bounds import Budget, corrupt

_HEADER = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")
_NOTHING, _NO_BOXES = memoryview(b""), Budget(0, "boxes")
PADDING = frozenset((b"free", b"skip", b"wide"))


def codes(names: str) -> frozenset[bytes]:
    """Return the four-character codes named in ``names``, padded with spaces."""
    return frozenset(name.ljust(4).encode() for name in names.split())


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, where it begins in the file, and its sizes in bytes, header included.

    ``content`` is its content, if that is in memory. ``budget`` limits how many boxes are listed in it altogether,
    because a forged table of tiny boxes must not take minutes.
    """

    type: bytes
    offset: int
    header: int
    size: int
    content: memoryview = _NOTHING
    budget: Budget = _NO_BOXES

    @property
    def payload(self) -> int:
        """The offset of its content in the file."""
        return self.offset + self.header

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.offset + self.size

    def loaded(self, whole: memoryview, max_boxes: int) -> Box:
        """Return the same box with its content, given all its bytes."""
        return Box(self.type, self.offset, self.header, self.size, whole[self.header :], Budget(max_boxes, "boxes"))

    def children(self, skip: int = 0, *, strict: bool = False) -> list[Box]:
        """Return the boxes of `walk` as a list."""
        return list(self.walk(skip, strict=strict))

    def walk(self, skip: int = 0, *, strict: bool = False) -> Iterator[Box]:
        """Yield the boxes that fill the content after its first ``skip`` bytes.

        QuickTime can leave fewer than 8 bytes over, or end the list by a size of 0 (`leftover` returns where);
        ``strict`` is for formats that do neither. Raises `Rejected`: corrupt if a box exceeds this one, or
        decoder_limit.
        """
        position, end = skip, len(self.content)
        while position < end if strict else position + 8 <= end:
            if not strict and not any(self.content[position : position + 4]):
                break
            offset = self.payload + position
            kind, header, size = _header_at(self.content, position, offset, self.end)
            if position + size > end:
                raise corrupt(f"box {kind!r} at {offset} exceeds its parent")
            self.budget.take()
            content = self.content[position + header : position + size]
            yield Box(kind, offset, header, size, content, self.budget)
            position += size

    def at(self, skip: int, length: int) -> memoryview:
        """Return ``length`` bytes of the content after its first ``skip``; `Rejected` (corrupt) if they are missing."""
        if length < 0 or skip + length > len(self.content):
            raise corrupt(f"box {self.type!r} at {self.offset} is too short")
        return self.content[skip : skip + length]

    def integers(self, layout: str, skip: int = 0) -> tuple[int, ...]:
        """Return big-endian integers of the content, ``layout`` as in `struct`, after its first ``skip`` bytes."""
        return struct.unpack(">" + layout, self.at(skip, struct.calcsize(">" + layout)))


def _header_at(data: bytes | memoryview, position: int, offset: int, limit: int) -> tuple[bytes, int, int]:
    """Return type, header size and size of the box at ``position`` in ``data``; for the rest see `box_at`."""
    if position + 8 > len(data):
        raise corrupt(f"cut off in a box header at {offset}")
    size, kind = _HEADER.unpack_from(data, position)
    header = 8
    if size == 1:
        header = 16
        if position + 16 > len(data):
            raise corrupt(f"cut off in a box header at {offset}")
        (size,) = _LARGE.unpack_from(data, position + 8)
    elif size == 0:
        size = limit - offset
    if size < header:
        raise corrupt(f"box {kind!r} at {offset} has size {size}")
    return kind, header, size


def box_at(data: bytes, position: int, offset: int, limit: int) -> Box:
    """Return the box whose header is at ``position`` in ``data``, which is at ``offset`` in the file.

    A size of 0 means up to ``limit``. The size is as written, so it can exceed ``limit``. Raises `Rejected` (corrupt)
    if the size is smaller than the header, or ``data`` does not contain its 8 (or 16) bytes.
    """
    kind, header, size = _header_at(data, position, offset, limit)
    return Box(kind, offset, header, size)


def file_of_boxes(view: memoryview, max_boxes: int) -> Box:
    """Return a file in memory as the box around its boxes."""
    return Box(b"", 0, 0, len(view), view, Budget(max_boxes, "boxes"))


def leftover(boxes: list[Box], start: int) -> int:
    """Return the offset where the listed boxes end. The bytes from there to the end of their parent are not boxes."""
    return boxes[-1].end if boxes else start


def first(boxes: list[Box], kind: bytes) -> Box | None:
    """Return the first box of that type, or None."""
    return next((box for box in boxes if box.type == kind), None)


def required(boxes: list[Box], kind: bytes, parent: str) -> Box:
    """Return the first box of that type. Raises `Rejected` (corrupt) if there is none."""
    box = first(boxes, kind)
    if box is None:
        raise corrupt(f"no {kind.decode('latin-1')} in {parent}")
    return box


class Reader:
    """Reads values from a box's content, one after the other. Raises `Rejected` (corrupt) at its end."""

    __slots__ = ("_view", "offset")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.offset = 0

    def take(self, length: int) -> memoryview:
        """Return the next ``length`` bytes."""
        start, end = self.offset, self.offset + length
        if length < 0 or end > len(self._view):
            raise corrupt("a structure reaches beyond its end")
        self.offset = end
        return self._view[start:end]

    def number(self, width: int) -> int:
        """Return an unsigned integer of ``width`` bytes; of no bytes: 0."""
        return int.from_bytes(self.take(width), "big")


def make_box(kind: bytes, *parts: bytes | memoryview) -> bytes:
    """Return a box around the parts."""
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def make_full_box(kind: bytes, version: int, flags: int, *parts: bytes | memoryview) -> bytes:
    """Return a box that begins with a version and flags."""
    return make_box(kind, (version << 24 | flags).to_bytes(4, "big"), *parts)
