"""Calls functions when sockets are ready, without a task for each: one epoll(7) for all, which Trio watches."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

READ, WRITE, GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
_AT_ONCE = 16  # then other tasks get their turn


class Readiness:
    """For sockets that wait most of their time. In Trio each wait takes a task, and a system call to begin.

    Its functions must not raise.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._functions: dict[int, Callable[[int], None]] = {}
        self._later: deque[Callable[[], None]] = deque()

    def watch(self, fd: int, events: int, function: Callable[[int], None]) -> None:
        """Call this with what has happened, whenever READ, WRITE or both are possible, or the other side is GONE."""
        self._epoll.register(fd, events)
        self._functions[fd] = function

    def change(self, fd: int, events: int) -> None:
        """Wait for other events. GONE is always one of them."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int, *, closes: bool = False) -> None:
        """Stop watching, before the descriptor is closed (``closes``: now; the kernel forgets it). Can be repeated."""
        if self._functions.pop(fd, None) is not None and not closes:
            self._epoll.unregister(fd)

    def later(self, function: Callable[[], None]) -> None:
        """Call this in a turn of the loop of its own, so that all others get theirs. For functions that are called."""
        self._later.append(function)

    async def run(self) -> NoReturn:
        """Watch until cancelled, then forget all."""
        try:
            while True:
                if self._later:
                    await trio.lowlevel.checkpoint()
                    self._later.popleft()()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, events in self._epoll.poll(0, _AT_ONCE):
                    if fd in self._functions:  # else one of the others has forgotten it
                        self._functions[fd](events)
        finally:
            self._functions.clear()
            self._epoll.close()
