"""ISO base media boxes (ISO/IEC 14496-12) and QuickTime atoms: headers, and walking them inside a loaded region."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.bounds import corrupt

_HEADER = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, where it begins in the file, and its sizes in bytes, header included."""

    type: bytes
    offset: int
    header: int
    size: int

    @property
    def payload(self) -> int:
        """Where its content begins in the file."""
        return self.offset + self.header

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.size


def box_at(data: bytes | memoryview, position: int, offset: int, limit: int) -> Box:
    """The box whose header is at ``position`` in ``data`` and at ``offset`` in the file, where ``limit`` bounds it.

    A size of 0 means up to ``limit``. The size is as written: it may exceed ``limit``. Raises `Rejected` (corrupt)
    on a size smaller than the header, and when fewer than the header's 8 (or 16) bytes are in ``data``.
    """
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
    return Box(kind, offset, header, size)


class Region:
    """A box and all it contains, in memory. ``data`` begins at ``base`` in the file.

    ``max_boxes`` bounds the boxes ever listed from this region: a forged table of tiny boxes must not cost minutes.
    """

    def __init__(self, data: bytes, base: int, max_boxes: int) -> None:
        self.data = data
        self.base = base
        self._boxes_left = max_boxes

    def children(self, start: int, end: int) -> list[Box]:
        """The boxes that fill ``start`` to ``end`` (file offsets).

        Fewer than 8 bytes may be left over, and a size of 0 ends the list (QuickTime's terminator); `leftover` gives
        where. Raises `Rejected`: corrupt when a box exceeds ``end``, or decoder_limit beyond ``max_boxes``.
        """
        boxes: list[Box] = []
        offset = start
        while offset + 8 <= end:
            position = offset - self.base
            if self.data.startswith(b"\0\0\0\0", position):
                break
            box = box_at(self.data, position, offset, end)
            if box.end > end:
                raise corrupt(f"box {box.type!r} at {offset} exceeds its parent")
            boxes.append(box)
            offset = box.end
            if len(boxes) > self._boxes_left:
                raise Rejected(Reason.DECODER_LIMIT, "too many boxes")
        self._boxes_left -= len(boxes)
        return boxes

    def at(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset`` in the file; `Rejected` (corrupt) when they lie outside the region."""
        start = offset - self.base
        if start < 0 or length < 0 or start + length > len(self.data):
            raise corrupt(f"{length} bytes at {offset} lie outside their box")
        return self.data[start : start + length]

    def content(self, box: Box, skip: int = 0) -> bytes:
        """The box's content without its first ``skip`` bytes; `Rejected` (corrupt) when it is shorter than that."""
        return self.at(box.payload + skip, box.end - box.payload - skip)

    def integers(self, box: Box, layout: str, skip: int = 0) -> tuple[int, ...]:
        """Big-endian integers at the start of the content, ``layout`` as in `struct`, after ``skip`` bytes."""
        size = struct.calcsize(">" + layout)
        if box.payload + skip + size > box.end:
            raise corrupt(f"box {box.type!r} at {box.offset} is too short")
        return struct.unpack(">" + layout, self.at(box.payload + skip, size))


def leftover(boxes: list[Box], start: int) -> int:
    """Where the listed boxes end: what follows up to their parent's end is no box."""
    return boxes[-1].end if boxes else start


def first(boxes: list[Box], kind: bytes) -> Box | None:
    """The first box of that type, or None."""
    return next((box for box in boxes if box.type == kind), None)


def required(boxes: list[Box], kind: bytes, parent: str) -> Box:
    """The first box of that type; `Rejected` (corrupt) when there is none."""
    box = first(boxes, kind)
    if box is None:
        raise corrupt(f"no {kind.decode('latin-1')} in {parent}")
    return box
