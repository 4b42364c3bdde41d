"""Calls that run at once, as one step, and the pause between attempts during an outage."""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio


class Backoff:
    """The pause between two attempts: twice as long each time, until one succeeds.

    If many tasks share it, they do not fail one after another within moments. Time is Trio's.
    """

    def __init__(self, first_s: float = 0.2, longest_s: float = 5.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._until = 0.0
        self.pause_s = 0.0
        """The present pause; 0 without an outage."""
        self.detail = ""
        """Why the last attempt failed."""

    @property
    def remaining_s(self) -> float:
        """Time until the next attempt."""
        return max(0.0, self._until - trio.current_time())

    def failed(self, detail: str = "") -> float:
        """Record a failure. Return `remaining_s`. Attempts that began before the present pause do not count."""
        if not self.remaining_s:
            self.detail = detail
            self.pause_s = min(self._longest_s, self.pause_s * 2) if self.pause_s else self._first_s
            self._until = trio.current_time() + self.pause_s * random.uniform(0.8, 1.2)
        return self.remaining_s

    def succeeded(self) -> None:
        """Record a success, which ends the outage."""
        self.pause_s = self._until = 0.0


async def run_all(calls: Sequence[Callable[[], Awaitable[Any]]], at_once: int = sys.maxsize) -> list[Any]:
    """Run all calls, at most ``at_once`` at the same time, and return their results in order.

    The first error cancels the rest. It or a cancel is raised itself, not in an exception group, because for the caller
    the calls are one step.
    """
    if len(calls) == 1:
        return [await calls[0]()]
    results: dict[int, Any] = {}
    failures: list[Exception] = []
    todo = iter(enumerate(calls))

    async def work(scope: trio.CancelScope) -> None:
        try:
            for index, call in todo:
                results[index] = await call()
        except Exception as error:  # noqa: BLE001 - raised again below, by the caller's own task
            failures.append(error)
            scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(min(at_once, len(calls))):
                nursery.start_soon(work, nursery.cancel_scope)
    except BaseExceptionGroup as group:
        if group.split(trio.Cancelled)[1] is None:
            await trio.lowlevel.checkpoint_if_cancelled()  # one Cancelled: a caller that catches it catches no group
        raise
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(calls))]
