"""A source for the pipeline that is all there, or of which only what was asked for is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mediascrub.ranges import Range, merged, missing

_PIECE_BYTES = 4 << 10


class Pieces:
    """The file at ``path``, or of these bytes, in the empty file ``fd``.

    What is asked for is rounded to 4 KiB, unless it is ``whole``.
    """

    def __init__(self, path: Path | bytes, fd: int, *, whole: bool = False) -> None:
        self.fd = fd
        self._content = path if isinstance(path, bytes) else path.read_bytes()
        self.size_bytes = len(self._content)
        self.present: list[Range] = []
        self.asked: list[Range] = []
        os.ftruncate(fd, self.size_bytes)
        if whole:
            self._make_present(0, self.size_bytes)

    @property
    def whole(self) -> bool:
        """Whether all of it is present."""
        return merged(self.present) == (Range(0, self.size_bytes),)

    async def fetch(self, ranges: Sequence[Range]) -> None:
        """Note what is asked for, and make it present."""
        self.asked += ranges
        for offset, length in missing([_rounded(each, self.size_bytes) for each in ranges], merged(self.present)):
            self._make_present(offset, offset + length)

    def _make_present(self, start: int, end: int) -> None:
        os.pwrite(self.fd, self._content[start:end], start)
        self.present.append(Range(start, end - start))


def _rounded(part: Range, size_bytes: int) -> Range:
    start = part.offset - part.offset % _PIECE_BYTES
    return Range(start, min(size_bytes, -(-part.end // _PIECE_BYTES) * _PIECE_BYTES) - start)
