"""Limits how many uploads each caller can request without completing them.

Counting needs no I/O and stores no ids: it counts per caller and minute, by the time in the id. A completion is
subtracted on the replica where it arrives, which may be another one than that of the request. On average, as many ids
of one replica are completed elsewhere as the other way round, so each replica's count is right on average. Errors
disappear when the upload URLs expire. For the same reason the limit is per replica.
"""

from __future__ import annotations

import math

from avion_media.common.errors import MediaError

_MINUTE_S = 60


class TooManyPending(MediaError):
    """The caller has too many uploads that it never completed."""


class PendingUploads:
    """The counts of one process. ``max_pending`` 0: unlimited. ``lifetime_s`` is the lifetime of an upload URL."""

    def __init__(self, max_pending: int, lifetime_s: float) -> None:
        self._max_pending = max_pending
        self._minutes = math.ceil(lifetime_s / _MINUTE_S)
        self._counts: dict[str, dict[int, int]] = {}  # caller -> minute -> pending

    def admit(self, caller: str, now: float) -> None:
        """Count one more upload of this caller, or raise `TooManyPending`."""
        if not self._max_pending:
            return
        minute = int(now) // _MINUTE_S
        counts = self._counts.setdefault(caller, {})
        if minute not in counts:
            for old in [each for each in counts if each < minute - self._minutes]:
                del counts[old]
            counts[minute] = 0
        if sum(counts.values()) >= self._max_pending:
            raise TooManyPending(
                f"{caller or 'the caller'} has {self._max_pending} pending uploads;"
                " complete them or wait until their URLs expire"
            )
        counts[minute] += 1

    def completed(self, caller: str, requested_at: float) -> None:
        """Subtract an upload that was completed for the first time; ``requested_at`` is in its id (Unix seconds)."""
        counts = self._counts.get(caller, {})
        minute = int(requested_at) // _MINUTE_S
        if counts.get(minute, 0) > 0:
            counts[minute] -= 1

    def pending(self, caller: str) -> int:
        """The present number of pending uploads."""
        return sum(self._counts.get(caller, {}).values())
