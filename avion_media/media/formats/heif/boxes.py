"""Boxes of an ISO base media file: reading them strictly, and writing new ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from avion_media.media.bounds import corrupt
from avion_media.media.formats.isobmff import box_at
from avion_media.media.formats.picture import bounded_parts

# More in one container than any writer makes: a grid of the largest kind has 65 536 item entries.
_MAX_BOXES = 1 << 17


class Reader:
    """Takes values from the front of a view, one after the other; running out is CORRUPT."""

    __slots__ = ("_view", "offset")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.offset = 0

    @property
    def remaining(self) -> int:
        """Bytes that are left."""
        return len(self._view) - self.offset

    def take(self, length: int) -> memoryview:
        """The next ``length`` bytes."""
        start, end = self.offset, self.offset + length
        if length < 0 or end > len(self._view):
            raise corrupt("a structure reaches beyond its end")
        self.offset = end
        return self._view[start:end]

    def rest(self) -> memoryview:
        """All that is left."""
        return self.take(self.remaining)

    def number(self, width: int) -> int:
        """An unsigned integer of ``width`` bytes; of no bytes it is 0."""
        return int.from_bytes(self.take(width), "big")


class Box(NamedTuple):
    """One box: its four-character type and what is inside."""

    kind: bytes
    payload: memoryview


def boxes(view: memoryview) -> Iterator[Box]:
    """The boxes that fill ``view``. CORRUPT when they do not, one is shorter than its header, or they are too many."""
    offset = 0
    for _ in bounded_parts(_MAX_BOXES):
        if offset == len(view):
            return
        found = box_at(view, offset, offset, len(view))
        if found.end > len(view):
            raise corrupt(f"box {found.type!r} reaches beyond its parent")
        yield Box(found.type, view[found.payload : found.end])
        offset = found.end


def find(view: memoryview, kind: bytes) -> memoryview | None:
    """The content of the first box of that type in ``view``, or None."""
    return next((box.payload for box in boxes(view) if box.kind == kind), None)


def require(view: memoryview, kind: bytes) -> memoryview:
    """The content of the first box of that type in ``view``; CORRUPT when there is none."""
    found = find(view, kind)
    if found is None:
        raise corrupt(f"no {kind.decode('ascii', 'replace')} box")
    return found


def make_box(kind: bytes, *parts: bytes | memoryview) -> bytes:
    """A box around the parts."""
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def make_full_box(kind: bytes, version: int, flags: int, *parts: bytes | memoryview) -> bytes:
    """A box that begins with a version and flags."""
    return make_box(kind, (version << 24 | flags).to_bytes(4, "big"), *parts)


def make_handler(kind: bytes) -> bytes:
    """A handler box without a name."""
    return make_full_box(b"hdlr", 0, 0, bytes(4), kind, bytes(12), b"\x00")
