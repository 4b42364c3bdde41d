"""What happens at a later virtual time, in an order that two runs share."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

import trio


class Postman:
    """Calls functions at their times, those of one time in the order in which they were given."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._sleep = trio.CancelScope()

    def call_at(self, at: float, function: Callable[[], None]) -> None:
        """Call a function at this time of `trio.current_time`."""
        heapq.heappush(self._heap, (at, next(self._number), function))
        if at < self._sleep.deadline:
            self._sleep.deadline = at

    async def run(self) -> None:
        """Call all functions, until cancelled."""
        while True:
            deadline = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=deadline) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2]()
