"""Descriptors for jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def read_only(fd: int) -> Iterator[int]:
    """Open the file of ``fd`` again, read-only and with its own offset.

    A child with this descriptor can neither change the file (``fd`` itself may be writable) nor move our offset.
    """
    own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield own
    finally:
        os.close(own)
