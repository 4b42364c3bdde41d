"""Children that go down and up as one unit."""

from __future__ import annotations

import math

from supervisors._record import Record


class Batch:
    """Children that stop right to left and start left to right: the first start, or a group's restart.

    Every child that stops with the batch also has a turn to start. A child that must stay down loses its turn when the
    batch reaches it, and not before: until then `Engine.restart_child` can bring it back. If a further child of the
    batch fails, a new batch replaces this one and takes over its children. A child is in at most one batch.
    """

    def __init__(self, to_stop: list[Record], to_start: list[Record], reason: str) -> None:
        self.to_stop = to_stop
        self.to_start = to_start
        self.reason = reason  # of the stop
        self.deadline = math.inf  # of the wait: nothing starts before
        for record in to_start:
            record.batch = self

    def next_to_stop(self) -> Record | None:
        """Return the rightmost child that is still up, or None when all are down."""
        while self.to_stop and not self.to_stop[-1].up:
            self.to_stop.pop()
        return self.to_stop[-1] if self.to_stop else None

    def next_to_start(self) -> Record | None:
        """Return the leftmost child that has not ended its turn: one to start, or one that is starting."""
        while self.to_start and not self.to_start[0].has_a_turn:
            self.to_start.pop(0).batch = None
        return self.to_start[0] if self.to_start else None

    def dissolve(self) -> None:
        """Leave all children to another batch."""
        self.to_stop, self.to_start, self.deadline = [], [], math.inf
