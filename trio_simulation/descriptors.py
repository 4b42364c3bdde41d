"""Calls that programs make with a file descriptor instead of a socket: `os.write`, `os.splice`, `select.epoll`, …

A simulated socket has a number that no kernel gives out. These functions recognize it, and pass all others on.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable
from typing import Any

import trio

from .network import Network
from .network.plain import PlainSocket
from .network.polling import SimulatedPoll
from .network.sockets import FIRST_NUMBER, SimulatedSocket
from .patches import Patches
from .processes import current


def patch_descriptors(patches: Patches, network: Network) -> None:
    """Let functions on file descriptors work with simulated sockets."""

    def simulated(file: Any) -> SimulatedSocket | None:
        if isinstance(file, SimulatedSocket):
            return file
        return network.find(file) if isinstance(file, int) and file >= FIRST_NUMBER else None

    def write(fd: int, data: Any, /) -> int:
        sock = simulated(fd)
        return real_write(fd, data) if sock is None else sock.send_nowait(data)

    def writev(fd: int, buffers: Iterable[Any], /) -> int:
        sock = simulated(fd)
        return real_writev(fd, list(buffers)) if sock is None else sock.send_nowait(b"".join(buffers))

    def read(fd: int, length: int, /) -> bytes:
        sock = simulated(fd)
        return real_read(fd, length) if sock is None else sock.receive_nowait(length)

    def readv(fd: int, buffers: Any, /) -> int:
        sock = simulated(fd)
        if sock is None:
            return real_readv(fd, buffers)
        views = [memoryview(each).cast("B") for each in buffers]
        data = sock.receive_nowait(sum(len(view) for view in views))
        left = data
        for view in views:
            part, left = left[: len(view)], left[len(view) :]
            view[: len(part)] = part
        return len(data)

    def splice(src: int, dst: int, count: int, **options: Any) -> int:
        source, target = simulated(src), simulated(dst)
        if source is not None:
            written = os.write(dst, source.receive_nowait(count, peek=True))
            source.receive_nowait(written)
            return written
        if target is not None:
            # What a pipe gave must not be lost: no more is read than there is room for.
            return target.send_nowait(real_read(src, min(count, target.room_nowait())))
        return real_splice(src, dst, count, **options)

    async def wait_readable(file: Any) -> None:
        if isinstance(file, int) and file >= FIRST_NUMBER:
            await network.find_waitable(file).wait_readable()
        elif isinstance(file, SimulatedSocket | SimulatedPoll):
            await file.wait_readable()
        else:
            await real_wait_readable(file)

    async def wait_writable(file: Any) -> None:
        sock = simulated(file)
        await (real_wait_writable(file) if sock is None else sock.wait_writable())

    def epoll(*arguments: Any, **options: Any) -> Any:
        in_program = current.get(None) is not None  # Trio makes its own before
        return network.poll() if in_program else real_epoll(*arguments, **options)

    def fromfd(fd: int, family: int, type: int, proto: int = 0) -> Any:
        sock = simulated(fd)
        return real_fromfd(fd, family, type, proto) if sock is None else PlainSocket(sock, owns=False)

    def notify_closing(file: Any) -> None:
        if simulated(file) is None:
            real_notify_closing(file)

    real_write, real_writev, real_read, real_readv, real_splice = os.write, os.writev, os.read, os.readv, os.splice
    real_wait_readable, real_wait_writable = trio.lowlevel.wait_readable, trio.lowlevel.wait_writable
    real_epoll = select.epoll
    real_fromfd = socket.fromfd
    real_notify_closing = trio.lowlevel.notify_closing
    for old, new in (
        (real_write, write),
        (real_writev, writev),
        (real_read, read),
        (real_readv, readv),
        (real_splice, splice),
        (real_wait_readable, wait_readable),
        (real_wait_writable, wait_writable),
        (real_notify_closing, notify_closing),
        (real_fromfd, fromfd),
        (real_epoll, epoll),
    ):
        patches.everywhere(old, new)
