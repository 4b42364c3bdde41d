"""What `os` leaves to its callers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file, however little the system takes at once.

    Blocks. After an `OSError` a part may have been written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def read_only(fd: int) -> Iterator[int]:
    """The file behind ``fd`` again, read-only and with an offset of its own.

    A child that gets this one can neither change the file (``fd`` itself may be writable) nor move our offset.
    """
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield own
    finally:
        os.close(own)
