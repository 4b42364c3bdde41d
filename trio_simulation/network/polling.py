"""`select.epoll` for simulated sockets: level-triggered, and in an order that two runs share."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING, Any, Self

import trio

if TYPE_CHECKING:
    from .network import Network

_WANTED_BY_ALL = select.EPOLLERR | select.EPOLLHUP


class SimulatedPoll:
    """An epoll instance. Sockets of the kernel cannot be registered, because nothing decides when they are ready."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._number = network.number(self)
        self._events: dict[int, int] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self.closed = False

    def fileno(self) -> int:
        """Return a number that `trio.lowlevel.wait_readable` knows."""
        return self._number

    def register(self, fd: Any, eventmask: int = select.EPOLLIN | select.EPOLLOUT) -> None:
        """Watch a socket."""
        number = self._number_of(fd)
        if number in self._events:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._network.find(number).watched_by(self)
        self._events[number] = eventmask
        self.notify()

    def modify(self, fd: Any, eventmask: int) -> None:
        """Watch a socket for other events."""
        number = self._number_of(fd)
        if number not in self._events:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._events[number] = eventmask
        self.notify()

    def unregister(self, fd: Any) -> None:
        """Stop watching a socket."""
        if self._events.pop(self._number_of(fd), None) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """Return what has happened. It cannot wait, so its timeout must be 0."""
        if timeout != 0:
            raise RuntimeError("epoll.poll would stop the whole program: await trio.lowlevel.wait_readable before it")
        found: list[tuple[int, int]] = []
        for number in list(self._events):
            if len(found) == maxevents:
                break
            if what := self._happened(number):
                found.append((number, what))
                self._events[number] = self._events.pop(number)  # the others have their turn first
        return found

    def close(self) -> None:
        """Watch nothing any more. Safe to repeat."""
        if not self.closed:
            self.closed = True
            self._network.forget(self._number)
            self._events.clear()
            self.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def notify(self) -> None:
        """Wake the tasks that wait for it: something might have happened."""
        self._changed.unpark_all()

    async def wait_readable(self) -> None:
        """Wait until `poll` returns something."""
        await trio.lowlevel.checkpoint()
        while not self.closed and not any(self._happened(number) for number in self._events):
            await self._changed.park()
        if self.closed:
            raise trio.ClosedResourceError("another task closed this epoll instance")

    def _happened(self, number: int) -> int:
        if not self._network.is_open(number):
            return 0  # as by Linux, a socket that is closed is forgotten
        return self._network.find(number).poll_events() & (self._events[number] | _WANTED_BY_ALL)

    def _number_of(self, fd: Any) -> int:
        return fd if isinstance(fd, int) else int(fd.fileno())
