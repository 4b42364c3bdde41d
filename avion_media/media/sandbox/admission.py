"""Limits the sandbox: the number of concurrent tasks, and the sum of their memory limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from avion_media.common.errors import Reason, Rejected


class Admission:
    """First come, first served. A small task never overtakes a large one that waits for memory, which would otherwise
    starve."""

    def __init__(self, slots: int, budget_bytes: int, waited: Callable[[float], None] | None = None) -> None:
        """``waited`` is called with the seconds that each admitted task waited."""
        if slots < 1 or budget_bytes < 1:
            raise ValueError("the sandbox needs at least one slot and some memory")
        self.slots = slots
        self.budget_bytes = budget_bytes
        self._waited = waited
        self.used_slots = 0
        self.used_bytes = 0
        self._first_in_line = trio.StrictFIFOLock()
        self._freed = trio.lowlevel.ParkingLot()

    @property
    def waiting(self) -> int:
        """Number of waiting tasks."""
        line = self._first_in_line.statistics()
        return line.locked + line.tasks_waiting

    @asynccontextmanager
    async def admitted(self, memory_bytes: int) -> AsyncIterator[None]:
        """Take a slot and ``memory_bytes`` of the budget for the block. More than the whole budget is DECODER_LIMIT."""
        if memory_bytes > self.budget_bytes:
            raise Rejected(Reason.DECODER_LIMIT, f"needs {memory_bytes} bytes, the sandbox has {self.budget_bytes}")
        asked_at = trio.current_time()
        async with self._first_in_line:
            while self.used_slots == self.slots or self.used_bytes + memory_bytes > self.budget_bytes:
                await self._freed.park()
            self.used_slots += 1
            self.used_bytes += memory_bytes
        try:
            if self._waited is not None:
                self._waited(trio.current_time() - asked_at)
            yield
        finally:
            self.used_slots -= 1
            self.used_bytes -= memory_bytes
            self._freed.unpark()
