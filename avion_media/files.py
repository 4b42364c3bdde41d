"""What `os` leaves to its callers."""

from __future__ import annotations

import os


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file, however little the system takes at once.

    Blocks. After an `OSError` a part may have been written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
