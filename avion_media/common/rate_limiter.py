"""A limit on how often something is done."""

from __future__ import annotations

import trio


class RateLimiter:
    """Lets ``rate`` callers pass per second, evenly spaced. Unused turns are not saved up."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1.0 / rate
        self._next_at = -1.0

    async def acquire(self) -> None:
        """Wait for the turn of this caller. A cancelled turn is lost."""
        now = trio.current_time()
        turn = max(now, self._next_at)
        self._next_at = turn + self._interval_s
        await trio.sleep_until(turn)
