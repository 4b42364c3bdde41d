"""Writing to clients that read slowly, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import trio

_PIECE_BYTES = 64 << 10


def bound_unacknowledged(stream: trio.SocketStream, seconds: float) -> None:
    """Break the connection once the other host has not acknowledged what was sent for so long: it may be gone."""
    with suppress(OSError):  # it is gone already
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(int(seconds * 1000), 1))


async def send_steadily(
    stream: trio.abc.SendStream, data: bytes, timeout_s: float, on_progress: Callable[[], None] | None = None
) -> bool:
    """Send everything in pieces of 64 KiB; return false once the client has gone or takes longer for one piece.

    A client that reads steadily may take as long as it wants for the whole. ``on_progress`` is called after each piece.
    A cancel leaves the stream in an unknown state: close it then, and also after a false.
    """
    view = memoryview(data)
    for start in range(0, len(view), _PIECE_BYTES):
        with trio.move_on_after(timeout_s) as slow:
            try:
                await stream.send_all(view[start : start + _PIECE_BYTES])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        if slow.cancelled_caught:
            return False
        if on_progress is not None:
            on_progress()
    return True
