"""Children that go down and up as one unit, and the times at which something is due."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from itertools import count

from supervisors._record import Record

_PRUNE_FROM = 64  # entries, below which it does not matter how many are out of date


@dataclass(eq=False)
class Batch:
    """Children that stop right to left and start left to right: the first start, or a group's restart.

    Every child that stops with the batch also has a turn to start. A child that must stay down loses its turn when the
    batch reaches it, and not before: until then `Engine.restart_child` can bring it back. If a further child of the
    batch fails, a new batch replaces this one and takes over its children. A child is in at most one batch.
    """

    to_stop: list[Record]
    to_start: deque[Record]
    reason: str  # of the stop
    deadline: float = math.inf  # of the wait: nothing starts before

    def next_to_stop(self) -> Record | None:
        """Return the rightmost child that is still up, or None when all are down."""
        while self.to_stop and not self.to_stop[-1].up:
            self.to_stop.pop()
        return self.to_stop[-1] if self.to_stop else None

    def dissolve(self) -> None:
        """Leave all children to another batch."""
        self.to_stop, self.to_start, self.deadline = [], deque(), math.inf


class Deadlines:
    """The deadlines of children and batches, which keep theirs as ``deadline``. An entry that differs is outdated."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Record | Batch]] = []
        self._numbers = count()
        self._prune_at = _PRUNE_FROM

    def set(self, target: Record | Batch, when: float) -> None:
        """Set or replace the deadline of ``target``."""
        target.deadline = when
        if when < math.inf:
            heapq.heappush(self._heap, (when, next(self._numbers), target))
        if len(self._heap) > self._prune_at:
            self._heap = [each for each in self._heap if each[2].deadline == each[0]]
            heapq.heapify(self._heap)
            self._prune_at = _PRUNE_FROM + 2 * len(self._heap)

    def next(self) -> float:
        """Return the earliest deadline; infinity if there is none."""
        while self._heap:
            when, _, target = self._heap[0]
            if target.deadline == when:
                return when
            heapq.heappop(self._heap)
        return math.inf

    def pop_due(self, now: float) -> Record | Batch | None:
        """Remove and return a target whose deadline has passed; None if there is none."""
        return heapq.heappop(self._heap)[2] if self.next() <= now else None
