"""Sends to clients that read slowly or not at all, and closes connections with unread output."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

import trio

_PIECE_BYTES = 64 << 10  # a client must take so many within the timeout
_LINGER_S = 1.0
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, with a timeout of 0


async def send_steadily(stream: trio.SocketStream, pieces: Sequence[bytes | memoryview], timeout_s: float) -> bool:
    """Send everything. Return False if the client leaves, or takes longer than this for 64 KiB.

    A client that reads steadily may take any time for the whole. Pieces are neither copied nor joined. After a cancel,
    or after False, close the stream, because its state is unknown.
    """
    left = [memoryview(piece) for piece in pieces if piece]
    taken = 0
    try:
        if _forget(left, _send_now(stream, left)):
            await trio.lowlevel.checkpoint()  # the usual case, without a wait
            return True
        with trio.move_on_after(timeout_s) as slow:
            while left:
                await trio.lowlevel.wait_writable(stream.socket)
                sent = _send_now(stream, left)
                taken += sent
                if taken >= _PIECE_BYTES:
                    taken = 0
                    slow.deadline = trio.current_time() + timeout_s
                _forget(left, sent)
    except (OSError, trio.ClosedResourceError):
        return False
    return not slow.cancelled_caught


def _send_now(stream: trio.SocketStream, left: list[memoryview]) -> int:
    try:
        return os.writev(stream.socket.fileno(), left)
    except BlockingIOError:
        return 0


def _forget(left: list[memoryview], sent: int) -> bool:
    """Drop what was sent. Return whether nothing is left."""
    while left and sent >= len(left[0]):
        sent -= len(left.pop(0))
    if sent:
        left[0] = left[0][sent:]
    return not left


def reset_at_close(stream: trio.SocketStream) -> None:
    """Make the close reset the connection, so that an incomplete response does not look complete."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


async def linger(stream: trio.SocketStream) -> None:
    """End our side, and give the client a second to read the rest. A close with unread input would discard it.

    See RFC 9112, 9.6. Close the stream afterwards.
    """
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(_LINGER_S):
        await stream.send_eof()
        while await stream.receive_some(_PIECE_BYTES):
            pass
