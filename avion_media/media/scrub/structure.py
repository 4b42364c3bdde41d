"""Reading hostile structures: every read is checked, and what does not fit is `Rejected` as CORRUPT."""

from __future__ import annotations

from typing import Literal

from avion_media.domain.errors import Reason, Rejected


def corrupt(detail: str) -> Rejected:
    """The error for a structure that does not hold together; ``detail`` is for operators."""
    return Rejected(Reason.CORRUPT, detail)


class Reader:
    """Takes values from the front of a view, one after the other; running out is CORRUPT."""

    __slots__ = ("_order", "_view", "offset")

    def __init__(self, view: memoryview, order: Literal["big", "little"] = "big") -> None:
        self._view = view
        self._order = order
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
        return int.from_bytes(self.take(width), self._order)
