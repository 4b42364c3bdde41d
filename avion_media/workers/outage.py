"""Pauses a consumer while a shared dependency is unavailable: a few tasks test it, the others stay in the queue."""

from __future__ import annotations

import random

import trio


class OutagePause:
    """The pause between two attempts, longer each time, until one succeeds.

    Without it, all tasks of the queue would be taken, fail, and be delayed within moments, repeatedly.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._pause_s = 0.0
        self._until = 0.0

    @property
    def pause_s(self) -> float:
        """The present pause; 0 without an outage."""
        return self._pause_s

    @property
    def remaining_s(self) -> float:
        """Time until the next attempt."""
        return max(0.0, self._until - trio.current_time())

    def failed(self) -> None:
        """Record a failure. Attempts that began before the present pause do not count."""
        if self.remaining_s:
            return
        self._pause_s = min(self._longest_s, self._pause_s * 2) if self._pause_s else self._first_s
        self._until = trio.current_time() + self._pause_s * random.uniform(0.8, 1.2)

    def succeeded(self) -> None:
        """Record a success, which ends the outage."""
        self._pause_s = self._until = 0.0
