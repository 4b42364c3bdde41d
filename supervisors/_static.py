"""Ordered children: the first start, the restart of a group, the stop from right to left, automatic shutdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from supervisors._engine import Engine
from supervisors._policy import AutoShutdown, Strategy, restart_group
from supervisors._record import Record
from supervisors._state import State


class Batch:
    """Children that stop right to left and start left to right as one unit: the first start, or a group's restart.

    Every child that stops with the batch also has a turn to start. A child that must stay down loses its turn when the
    batch reaches it, and not before: until then `restart_child` can bring it back. If a further child of the batch
    fails, a new batch replaces this one and takes over its children.
    """

    def __init__(self, to_stop: Iterable[Record], to_start: Iterable[Record], not_before: float, reason: str) -> None:
        self.to_stop = list(to_stop)
        self.to_start = list(to_start)
        self.not_before = not_before
        self.reason = reason  # of the stop

    def next_to_stop(self) -> Record | None:
        """Return the rightmost child that is still up, or None when all are down."""
        while self.to_stop and not self.to_stop[-1].up:
            self.to_stop.pop()
        return self.to_stop[-1] if self.to_stop else None

    def next_to_start(self) -> Record | None:
        """Return the leftmost child that has not ended its turn: one to start, or one that is starting."""
        while self.to_start and not self.to_start[0].has_a_turn:
            self.to_start.pop(0)
        return self.to_start[0] if self.to_start else None


class StaticEngine(Engine):
    """The engine of a `Supervisor`."""

    def __init__(self, *args: Any, strategy: Strategy, auto_shutdown: AutoShutdown, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._strategy = strategy
        self._auto_shutdown = auto_shutdown
        # The batches in progress. They are independent: a batch that waits for a child or a backoff blocks no other. A
        # child is in at most one batch.
        self._batches: list[Batch] = []

    def _place(self, records: list[Record], now: float) -> None:
        self._batches.append(Batch((), records, now, ""))

    def _advance(self, nursery: trio.Nursery, now: float) -> bool:
        for batch in list(self._batches):
            last = batch.next_to_stop()
            if last is not None:
                self._ask_to_stop(last, batch.reason, now)
                continue
            first = batch.next_to_start()
            if first is None:
                self._batches.remove(batch)
            elif not first.up and now >= batch.not_before:
                self._start(first, nursery, now)
        return bool(self._batches)

    def _advance_stop(self, now: float) -> bool:
        self._batches.clear()
        last = next((record for record in reversed(self.records.values()) if record.up), None)
        if last is not None:
            self._ask_to_stop(last, self._reason_below, now)
            # A child that was stopped by hand may still be on its way, beside the one whose turn it is.
            for record in self.records.values():
                if record.stop_requested:
                    self._shorten(record, self.stop_deadline, now)
        return last is None

    def _restart_later(self, record: Record, delay_s: float, now: float) -> None:
        """Stop the group and start it again. Batches that share a child with it are merged, with the latest time."""
        everyone = list(self.records.values())
        group = set(restart_group(self._strategy, everyone, record))
        taken_over = [batch for batch in self._batches if not group.isdisjoint(batch.to_start)]
        self._batches = [batch for batch in self._batches if batch not in taken_over]
        stopping = group.union(*(batch.to_stop for batch in taken_over))
        starting = group.union(*(batch.to_start for batch in taken_over))
        not_before = max([now + delay_s, *(batch.not_before for batch in taken_over)])
        to_start = [each for each in everyone if each in starting]
        for each in to_start:
            if each.over and not each.remains_down:
                each.enter(State.WAITING, now)
        to_stop = [each for each in to_start if each in stopping and each.up]
        self._batches.append(Batch(to_stop, to_start, not_before, f"restart of {record.path}"))
        self._wake_at(not_before)

    @enable_ki_protection
    def restart_child(self, record: Record, now: float) -> None:
        record.stays_down = False
        if record.state is State.BACKOFF:
            for batch in self._batches:
                if record in batch.to_start:
                    batch.not_before = now
        elif record.over or record.up:
            record.ran = False  # otherwise a temporary child that ran would stay down
            if record.over:
                record.enter(State.WAITING, now)
            if not self._takes_down(record):  # otherwise its batch starts it again
                self._end_turn(record)
                self._batches.append(Batch([record], [record], now, "restart"))
        if record.up:
            self._ask_to_stop(record, "restart", now)
        self.wake()

    def _end_turn(self, record: Record) -> None:
        for batch in self._batches:
            if record in batch.to_start:
                batch.to_start.remove(record)

    def _came_up(self, record: Record) -> None:
        if not self._takes_down(record):  # otherwise it goes down again with its group
            self._end_turn(record)

    def _takes_down(self, record: Record) -> bool:
        return any(record in batch.to_stop for batch in self._batches)

    def _went_down(self, record: Record, now: float) -> None:
        if not record.remains_down and any(record in batch.to_start for batch in self._batches):
            record.enter(State.WAITING, now)

    def _lost(self, record: Record) -> None:
        if not record.policy.significant:
            return
        left = [each for each in self.records.values() if each.policy.significant and not each.over]
        if self._auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not left:
            self.request_stop("automatic shutdown")
