"""Calls functions when sockets can be read, without a task for each: one epoll(7) for all, which Trio watches."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import NoReturn

import trio

_AT_ONCE = 16  # then other tasks get their turn


class Readiness:
    """For sockets that wait most of their time. In Trio each wait takes a task, and a system call to begin."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._functions: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, function: Callable[[], None]) -> None:
        """Call this whenever there is something to read, until `forget`. It must read it, and must not raise."""
        self._epoll.register(fd, select.EPOLLIN)
        self._functions[fd] = function

    def forget(self, fd: int) -> None:
        """Stop watching, before the descriptor is closed. Can be repeated."""
        if self._functions.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> NoReturn:
        """Watch until cancelled, then forget all."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, _ in self._epoll.poll(0, _AT_ONCE):
                    if fd in self._functions:  # else one of the others has forgotten it
                        self._functions[fd]()
        finally:
            self._functions.clear()
            self._epoll.close()
