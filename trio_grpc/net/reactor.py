"""Calls functions when sockets are ready, without a task for each: one epoll(7) for all, which Trio watches."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

READ, WRITE, GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
_AT_ONCE = 16  # then other tasks get their turn


class Reactor:
    """For sockets that wait most of their time. In Trio each wait takes a task, and a system call to begin.

    Its functions must not raise.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._functions: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}
        self._later: deque[Callable[[], None]] = deque()

    def watch(self, fd: int, function: Callable[[int], None], events: int = READ) -> None:
        """Call this with what has happened, whenever READ, WRITE or both are possible, or the other side is GONE."""
        self._epoll.register(fd, events)
        self._functions[fd], self._events[fd] = function, events

    def change(self, fd: int, events: int) -> None:
        """Wait for other events, unless it is forgotten. GONE is always one of them."""
        if fd in self._functions and self._events[fd] != events:
            self._events[fd] = events
            self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching, before the descriptor is closed. Can be repeated."""
        if self._functions.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, function: Callable[[], None]) -> None:
        """Call this in a turn of the loop of its own, so that others get theirs. Only from what `run` calls."""
        self._later.append(function)

    def _ready(self, served: set[int]) -> list[tuple[int, Callable[[int], None], int]]:
        """Return what is possible on sockets that had no turn yet; nothing once enough had theirs."""
        events = self._epoll.poll(0, _AT_ONCE) if len(served) < _AT_ONCE else []
        return [(fd, self._functions[fd], what) for fd, what in events if fd not in served]

    async def run(self) -> NoReturn:
        """Watch until cancelled, then forget all."""
        try:
            while True:
                if self._later:
                    await trio.lowlevel.checkpoint()
                    self._later.popleft()()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                served: set[int] = set()
                while ready := self._ready(served):
                    for fd, function, what in ready:
                        served.add(fd)
                        if self._functions.get(fd) is function:  # else an earlier one has closed it, or opened another
                            function(what)
                    if len(ready) == 1:  # a quiet time: another look would find nothing, and costs a system call
                        break
        finally:
            self._functions.clear()
            self._epoll.close()
