"""Local files: spools, and helpers for descriptors.

Spools have no name, so they disappear with their last descriptor, however the process ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Protocol

from mediascrub.ranges import Range


class LocalFile(Protocol):
    """The bytes of a media item in a local file, which may be sparse."""

    @property
    def fd(self) -> int:
        """Its descriptor."""

    @property
    def size_bytes(self) -> int:
        """Its full length."""

    @property
    def whole(self) -> bool:
        """Whether all bytes are present."""


class SpooledSource:
    """A `MediaSource` whose bytes are all present, in a spool."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self.whole = True
        self.present: Sequence[Range] = (Range(0, size_bytes),)

    async def fetch(self, ranges: Sequence[Range]) -> None:
        """Do nothing, because all bytes are present."""


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file, in as many calls as the system needs.

    Blocks. After an `OSError` a part may have been written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def open_spool() -> Iterator[int]:
    """Open a spool, an unnamed temporary file. Yield its descriptor, and close it after the block."""
    with TemporaryFile(prefix="avion-media-", buffering=0) as file:
        yield file.fileno()
