"""Collects what a scrub changes, leaving out what is so already: scrubbing twice changes nothing."""

from __future__ import annotations

from avion_media.domain.ranges import Patch


class Edits:
    """Changes to bytes that are at hand (``data``, at ``base`` in the file)."""

    def __init__(self, data: bytes, base: int) -> None:
        self.patches: list[Patch] = []
        self._data = data
        self._base = base

    def zero(self, offset: int, length: int) -> None:
        """Zeros over ``length`` bytes at ``offset`` in the file."""
        start = offset - self._base
        if length > 0 and self._data.count(0, start, start + length) != length:
            self.patches.append(Patch(offset, length))

    def put(self, offset: int, new: bytes) -> None:
        """``new`` over the bytes at ``offset`` in the file."""
        if not self._data.startswith(new, offset - self._base):
            self.patches.append(Patch(offset, len(new), new))
