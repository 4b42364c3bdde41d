"""Independent children: each is started at once, never affects another, and is forgotten after its end.

There can be thousands of them, so nothing here iterates over all, except once when the supervisor stops.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from supervisors._engine import Engine
from supervisors._record import Record
from supervisors._state import State


class DynamicEngine(Engine):
    """The engine of a `DynamicSupervisor`."""

    forgets = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_start: deque[Record] = deque()
        self._asked_until: float | None = None  # the stop deadline that all children have been given

    def _place(self, records: list[Record], now: float) -> None:
        self._to_start.extend(records)

    def _advance(self, nursery: trio.Nursery, now: float) -> bool:
        while self._to_start:
            record = self._to_start.popleft()
            if record.state in (State.WAITING, State.BACKOFF):
                record.deadline = math.inf
                self._start(record, nursery, now)
        return False

    def _advance_stop(self, now: float) -> bool:
        if self._asked_until is None or self.stop_deadline < self._asked_until:
            self._asked_until = self.stop_deadline
            for record in list(self.records.values()):
                if record.up:
                    self._ask_to_stop(record, self._reason_below, now)
        return not self.records

    def _went_down(self, record: Record, now: float) -> None:
        if record.comes_back and not record.removed and not self.stopping:
            record.comes_back = False
            record.enter(State.WAITING, now)
            self._to_start.append(record)

    def _restart_later(self, record: Record, delay_s: float, now: float) -> None:
        self._set_deadline(record, now + delay_s)

    def _backoff_over(self, record: Record) -> None:
        self._to_start.append(record)

    @enable_ki_protection
    def restart_child(self, record: Record, now: float) -> None:
        if record.state is State.BACKOFF:
            self._to_start.append(record)
        elif record.up:
            record.comes_back = True
            self._ask_to_stop(record, "restart", now)
        self.wake()
