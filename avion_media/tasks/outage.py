"""How a consumer waits while what its tasks need is away: a few tasks find out, the others stay where they are."""

from __future__ import annotations

import random

import trio


class OutagePause:
    """The pause between two tries, longer each time, until one comes through.

    Without it a whole queue would be taken, fail and be put away within moments, repeatedly.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._pause_s = 0.0
        self._until = 0.0

    @property
    def pause_s(self) -> float:
        """The present pause; 0 while all is well."""
        return self._pause_s

    @property
    def remaining_s(self) -> float:
        """How long not to try, from now."""
        return max(0.0, self._until - trio.current_time())

    def failed(self) -> None:
        """A try failed. Those that began before the present pause tell nothing new."""
        if self.remaining_s:
            return
        self._pause_s = min(self._longest_s, self._pause_s * 2) if self._pause_s else self._first_s
        self._until = trio.current_time() + self._pause_s * random.uniform(0.8, 1.2)

    def succeeded(self) -> None:
        """One came through: it is over."""
        self._pause_s = self._until = 0.0
