"""The children that go down and come up together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from supervisors._record import Record
from supervisors._state import State


class Batch:
    """Children that go down right to left and come up left to right, together: a first start or a group's restart.

    Whoever goes down has a turn to come up too. Who is to stay down loses it only when it comes: until then somebody
    may ask for it back. Another failure among its children makes a new batch, which takes them over.
    """

    def __init__(self, to_stop: Iterable[Record], to_start: Iterable[Record], not_before: float) -> None:
        self.to_stop = list(to_stop)
        self.to_start = list(to_start)
        self.not_before = not_before

    def next_to_stop(self) -> Record | None:
        """The rightmost child that is still up, or None when all are down."""
        while self.to_stop and not self.to_stop[-1].up:
            self.to_stop.pop()
        return self.to_stop[-1] if self.to_stop else None

    def next_to_start(self) -> Record | None:
        """The leftmost child that is not settled yet: one to start, or one that is starting; None when done."""
        while self.to_start and self.to_start[0].state not in (State.WAITING, State.BACKOFF, State.STARTING):
            self.to_start.pop(0)
        return self.to_start[0] if self.to_start else None


class Batches:
    """The batches under way. Each is on its own: one that waits for a child or a backoff keeps no other waiting.

    A child is in one of them at most.
    """

    def __init__(self) -> None:
        self._all: list[Batch] = []

    def __bool__(self) -> bool:
        return bool(self._all)

    def __iter__(self) -> Iterator[Batch]:
        return iter(list(self._all))

    def add(self, batch: Batch) -> None:
        self._all.append(batch)

    def remove(self, batch: Batch) -> None:
        self._all.remove(batch)

    def clear(self) -> None:
        self._all.clear()

    def restart(self, children: Iterable[Record], group: set[Record], not_before: float, now: float) -> None:
        """Take ``group`` (some of ``children``, which are in start order) down and up again, not up before that time.

        Batches that concern any of them are taken over: whole, and with the later of the times.
        """
        taken_over = [batch for batch in self if not group.isdisjoint(batch.to_start)]
        for batch in taken_over:
            self.remove(batch)
        stopping = group.union(*(batch.to_stop for batch in taken_over))
        starting = group.union(*(batch.to_start for batch in taken_over))
        not_before = max([not_before, *(batch.not_before for batch in taken_over)])
        to_start = [record for record in children if record in starting]
        for record in to_start:
            if record.over and not record.held:
                record.enter(State.WAITING, now)
        self.add(Batch([record for record in to_start if record in stopping and record.up], to_start, not_before))

    def restart_one(self, record: Record, now: float) -> None:
        """Have one child started by hand: see `Supervisor.restart_child`."""
        if record.state is State.BACKOFF:
            for batch in self:
                if record in batch.to_start:
                    batch.not_before = now
        elif record.over or record.state is State.STOPPING:
            record.held = False
            if record.over:
                record.enter(State.WAITING, now)
            if not self.takes_down(record):  # otherwise it comes up with those with whom it goes down
                self._discard(record)
                self.add(Batch([record], [record], now))

    def came_up(self, record: Record) -> None:
        """Its turn is over; not if it was too late, and it goes down again with its group."""
        if not self.takes_down(record):
            self._discard(record)

    def _discard(self, record: Record) -> None:
        for batch in self:
            if record in batch.to_start:
                batch.to_start.remove(record)

    def takes_down(self, record: Record) -> bool:
        """Whether it is one of those that a batch stops."""
        return any(record in batch.to_stop for batch in self)

    def went_down(self, record: Record, now: float) -> None:
        """Have it wait for its turn to come up, if it went down with a batch that starts it again."""
        if not record.held and any(record in batch.to_start for batch in self):
            record.enter(State.WAITING, now)

    def due_times(self) -> list[float]:
        """When those that have nobody left to stop may start."""
        return [batch.not_before for batch in self if not batch.to_stop]
