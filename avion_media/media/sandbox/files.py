"""Descriptors for the sandbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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
