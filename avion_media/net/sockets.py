"""Sends to clients that read slowly or not at all, and closes connections with unread output."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

PIECE_BYTES = 64 << 10  # a client must take so many within the timeout
_LINGER_S = 1.0
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, with a timeout of 0


def set_inherited(listener: socket.socket, unacknowledged_s: float) -> None:
    """Set what its connections inherit. They break if the other host does not acknowledge sent data for so long."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(int(unacknowledged_s * 1000), 1))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, 16 << 10)  # as Trio does


async def send_steadily(
    stream: trio.abc.SendStream,
    pieces: Sequence[bytes | memoryview],
    timeout_s: float,
    on_progress: Callable[[float], None] = lambda now: None,
) -> bool:
    """Send everything. Return False if the client leaves, or takes longer than this for 64 KiB.

    A client that reads steadily may take any time for the whole. ``on_progress`` gets the time whenever bytes were
    accepted. Pieces are neither copied nor joined. After a cancel, or after False, close the stream, because its state
    is unknown.
    """
    left = [memoryview(piece) for piece in pieces if piece]
    taken = 0
    try:
        if isinstance(stream, trio.SocketStream) and _forget(left, _send_now(stream, left)):
            on_progress(trio.current_time())
            await trio.lowlevel.checkpoint()  # the usual case, without a wait
            return True
        with trio.move_on_after(timeout_s) as slow:
            while left:
                sent = await _send_some(stream, left)
                taken += sent
                if taken >= PIECE_BYTES:
                    taken = 0
                    slow.deadline = trio.current_time() + timeout_s
                on_progress(trio.current_time())
                _forget(left, sent)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        return False
    return not slow.cancelled_caught


async def _send_some(stream: trio.abc.SendStream, left: list[memoryview]) -> int:
    """Send what a socket accepts, once it accepts a lot; over TLS 64 KiB."""
    if isinstance(stream, trio.SocketStream):
        await trio.lowlevel.wait_writable(stream.socket)
        return _send_now(stream, left)
    piece = left[0][:PIECE_BYTES]
    await stream.send_all(piece)
    return len(piece)


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


async def linger(stream: trio.abc.Stream) -> None:
    """End our side, and give the client a second to read the rest. A close with unread input would discard it.

    See RFC 9112, 9.6. Close the stream afterwards.
    """
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(_LINGER_S):
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        while await stream.receive_some(PIECE_BYTES):
            pass
