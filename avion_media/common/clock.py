"""The time that all replicas share: Redis' own, as this process last heard it.

The scripts on Redis date leases, schedules and deletions by it. By the clock of this machine, which can be wrong or set
at any moment, a replica would sign URLs that the store refuses, give up tasks too early, or take a fresh object for an
old one. Before Redis has answered, and in commands, it is this machine's time.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

_since_boot_s: float | None = None  # Redis' Unix time, minus the monotonic clock


def now_s() -> float:
    """Return the Unix time."""
    return time.time() if _since_boot_s is None else time.monotonic() + _since_boot_s


def utc_now() -> datetime:
    """Return the same, as a date."""
    return datetime.fromtimestamp(now_s(), UTC)


def read_time(text: str) -> datetime:
    """Return a time that a person wrote in ISO 8601; it is in UTC unless it says otherwise. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def follow(seconds: bytes | int, microseconds: bytes | int) -> None:
    """Continue from this time, the reply to TIME."""
    global _since_boot_s
    _since_boot_s = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
