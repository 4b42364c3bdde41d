"""ISO base media boxes (ISO/IEC 14496-12) and QuickTime atoms: one reader for every format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mediascrub.bounds import Quota
from mediascrub.errors import corrupt

_NOTHING, _NO_BOXES = memoryview(b""), Quota(0, "boxes")
PADDING = frozenset((b"free", b"skip", b"wide"))


def codes(names: str) -> frozenset[bytes]:
    """Return the four-character codes named in ``names``, padded with spaces."""
    return frozenset(name.ljust(4).encode() for name in names.split())


@dataclass(frozen=True, slots=True)
class Box:
    """One box."""

    type: bytes
    offset: int  # in the file
    header: int  # bytes
    size: int  # bytes, header included
    content: memoryview = _NOTHING  # if it is in memory
    quota: Quota = _NO_BOXES  # of all boxes in it: a forged table of tiny boxes must not take minutes

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
        return Box(self.type, self.offset, self.header, self.size, whole[self.header :], Quota(max_boxes, "boxes"))

    def children(self, skip: int = 0, *, strict: bool = False) -> list[Box]:
        """Return the boxes of `walk` as a list."""
        return list(self.walk(skip, strict=strict))

    def walk(self, skip: int = 0, *, strict: bool = False) -> Iterator[Box]:
        """Yield the boxes that fill the content after its first ``skip`` bytes.

        QuickTime can leave fewer than 8 bytes over, or end the list by a size of 0; ``strict`` is for formats that do
        neither. Raises `ScrubError`: corrupt if a box exceeds this one, or too_complex.
        """
        position, end = skip, len(self.content)
        while position < end if strict else position + 8 <= end:
            if not strict and not any(self.content[position : position + 4]):
                break
            box = box_at(self.content, position, self.payload + position, self.end)
            if position + box.size > end:
                raise corrupt(f"box {box.type!r} at {box.offset} exceeds its parent")
            self.quota.take()
            content = self.content[position + box.header : position + box.size]
            yield Box(box.type, box.offset, box.header, box.size, content, self.quota)
            position += box.size

    def at(self, skip: int, length: int) -> memoryview:
        """Return ``length`` bytes of the content after its first ``skip``. CORRUPT if they are missing."""
        if length < 0 or skip + length > len(self.content):
            raise corrupt(f"box {self.type!r} at {self.offset} is too short")
        return self.content[skip : skip + length]

    def integers(self, layout: str, skip: int = 0) -> tuple[int, ...]:
        """Return big-endian integers of the content, ``layout`` as in `struct`, after its first ``skip`` bytes."""
        return struct.unpack(">" + layout, self.at(skip, struct.calcsize(">" + layout)))


def box_at(data: bytes | memoryview, position: int, offset: int, limit: int) -> Box:
    """Return the box whose header is at ``position`` in ``data``, which is at ``offset`` in the file.

    A size of 0 means up to ``limit``. The size is as written, so it can exceed ``limit``. Raises `ScrubError` (corrupt)
    if the size is smaller than the header, or ``data`` does not contain its 8 (or 16) bytes.
    """
    header = Reader(memoryview(data)[position:])
    size, kind = header.number(4), bytes(header.take(4))
    if size == 1:
        size = header.number(8)
    elif size == 0:
        size = limit - offset
    if size < header.offset:
        raise corrupt(f"box {kind!r} at {offset} has size {size}")
    return Box(kind, offset, header.offset, size)


def file_of_boxes(view: memoryview, max_boxes: int) -> Box:
    """Return a file in memory as the box around its boxes."""
    return Box(b"", 0, 0, len(view), view, Quota(max_boxes, "boxes"))


def first(boxes: list[Box], kind: bytes, *inside: bytes) -> Box | None:
    """Return the first box of that type, or the first one of the types ``inside`` it, and so on; None without one."""
    box = next((box for box in boxes if box.type == kind), None)
    return first(box.children(), *inside) if box and inside else box


def required(boxes: list[Box], kind: bytes, parent: str) -> Box:
    """Return the first box of that type. Raises `ScrubError` (corrupt) if there is none."""
    box = first(boxes, kind)
    if box is None:
        raise corrupt(f"no {kind.decode('latin-1')} in {parent}")
    return box


def clean_aperture(clap: Box) -> tuple[float, float] | None:
    """Return the width and height of a ``clap`` box; None if they have no unit."""
    width, width_unit, height, height_unit = clap.integers("IIII")
    return (width / width_unit, height / height_unit) if width_unit and height_unit else None


class Reader:
    """Reads values from a box's content, one after the other. Raises `ScrubError` (corrupt) at its end."""

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

    def number(self, width: int, *, signed: bool = False) -> int:
        """Return an integer of ``width`` bytes; of no bytes: 0."""
        return int.from_bytes(self.take(width), "big", signed=signed)


def make_box(kind: bytes, *parts: bytes | memoryview) -> bytes:
    """Return a box around the parts."""
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def make_full_box(kind: bytes, version: int, flags: int, *parts: bytes | memoryview) -> bytes:
    """Return a box that begins with a version and flags."""
    return make_box(kind, (version << 24 | flags).to_bytes(4, "big"), *parts)
