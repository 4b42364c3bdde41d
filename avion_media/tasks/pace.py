"""A bound on how often something is done."""

from __future__ import annotations

import trio


class Pace:
    """Lets ``rate`` callers a second pass, evenly spaced: what was not used is not saved up."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1.0 / rate
        self._next_at = -1.0

    async def wait(self) -> None:
        """Return when it is this caller's turn. A turn that is cancelled is lost."""
        now = trio.current_time()
        turn = max(now, self._next_at)
        self._next_at = turn + self._interval_s
        await trio.sleep_until(turn)
