"""A listening socket, as the kernel of its machine has it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from ..processes import Process
from .ends import Address, End

if TYPE_CHECKING:
    from .polling import SimulatedPoll


class Listening:
    """Connections that wait for `accept`."""

    def __init__(self, process: Process, address: Address, backlog: int) -> None:
        self.process = process
        self.address = address
        self.closed = False
        self._backlog = max(1, backlog)
        self.polls: dict[SimulatedPoll, None] = {}
        self._queue: deque[End] = deque()
        self._waiting = trio.lowlevel.ParkingLot()
        process.listening[self] = None
        process.node.listening[address] = self

    @property
    def waiting(self) -> bool:
        """Whether `take` would return a connection."""
        return bool(self._queue)

    @property
    def full(self) -> bool:
        """Whether the kernel ignores further connections."""
        return len(self._queue) >= self._backlog

    def offer(self, end: End) -> None:
        """Queue a new connection."""
        self._queue.append(end)
        self._waiting.unpark()
        for poll in self.polls:
            poll.notify()

    def take(self) -> End | None:
        """Return the oldest connection in the queue."""
        return self._queue.popleft() if self._queue else None

    async def until_acceptable(self) -> None:
        """Wait until `take` might return one."""
        await self._waiting.park()

    def close(self, *, silently: bool = False) -> None:
        """Close it, and reset what nobody has accepted. Safe to repeat."""
        if self.closed:
            return
        self.closed = True
        self.process.listening.pop(self, None)
        self.process.node.listening.pop(self.address, None)
        for end in self._queue:
            if silently:
                end.vanish()
            else:
                end.abort()
        self._waiting.unpark_all()
