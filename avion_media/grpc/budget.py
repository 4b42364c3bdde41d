"""The allowance of nuisance frames of one connection."""

from __future__ import annotations

RESET_COST = 2
"""A reset has cost us a stream: its headers were decoded, maybe a handler began."""
CALL_CREDIT = 2
DATA_CREDIT = 3
"""Clients answer our data with window updates, and measure their bandwidth with pings."""


class NuisanceBudget:
    """A token bucket. Honest work earns credit; it comes back with time as well, up to the burst."""

    def __init__(self, burst: int, per_s: float, now: float) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._tokens = float(burst)
        self._then = now

    def earn(self, tokens: int) -> None:
        """Add credit for honest work."""
        self._tokens = min(self._tokens + tokens, self._burst)

    def spend(self, tokens: int, now: float) -> bool:
        """Take ``tokens``; false when the allowance is used up."""
        self._tokens = min(self._tokens + (now - self._then) * self._per_s, self._burst) - tokens
        self._then = now
        return self._tokens >= 0
