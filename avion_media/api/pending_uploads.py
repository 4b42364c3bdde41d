"""How many uploads each caller has asked for and not completed: a bound on what one caller can have in the air.

Counted without any I/O and without remembering ids: per caller and minute, by the time that is in the id. A completion
is subtracted where it arrives. Behind a balancer it may arrive at another replica than its request did; as many of one
replica's ids are completed elsewhere as others' are completed here, so each replica's count is right on average, and
what is left of an error ends with the life of the upload URLs. The bound is per replica for the same reason.
"""

from __future__ import annotations

import math

from avion_media.domain.errors import MediaError

_MINUTE_S = 60


class TooManyPending(MediaError):
    """The caller has too many uploads that it never completed."""


class PendingUploads:
    """The counts of one process. ``max_pending`` 0 means no bound; ``lifetime_s`` is that of an upload URL."""

    def __init__(self, max_pending: int, lifetime_s: float) -> None:
        self._max_pending = max_pending
        self._minutes = math.ceil(lifetime_s / _MINUTE_S)
        self._counts: dict[str, dict[int, int]] = {}  # caller -> minute -> pending

    def admit(self, caller: str, now: float) -> None:
        """Count one more upload of this caller. Raises `TooManyPending`, and then counts nothing."""
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
        """An upload of this caller was completed for the first time; ``requested_at`` is in its id (Unix seconds)."""
        counts = self._counts.get(caller, {})
        minute = int(requested_at) // _MINUTE_S
        if counts.get(minute, 0) > 0:
            counts[minute] -= 1

    def pending(self, caller: str) -> int:
        """How many are counted now."""
        return sum(self._counts.get(caller, {}).values())
