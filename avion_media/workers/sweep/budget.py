"""Selects remote media for removal if the cache exceeds its budget: the least recently used, in bounded memory."""

from __future__ import annotations

import heapq

from avion_media.workers.sweep.policy import NOTHING_KNOWN, Decision, KnownState, Medium, SweepReason, last_needed

MAX_CANDIDATES = 10_000  # the next sweep removes what exceeds this


class Budget:
    """Adds up all remote media that stay, and selects those to remove. ``budget_bytes`` 0: unlimited."""

    def __init__(self, budget_bytes: int, max_candidates: int = MAX_CANDIDATES) -> None:
        self._budget_bytes = budget_bytes
        self._max_candidates = max_candidates
        self._total_bytes = 0
        # A heap of the least recently used. The most recently used of these is on top.
        self._unused: list[tuple[float, str, Medium, KnownState]] = []

    def add(self, medium: Medium, known: KnownState = NOTHING_KNOWN) -> None:
        """Add a remote media item that no other rule removes. Its size counts even if it must not be removed."""
        if not self._budget_bytes:
            return
        self._total_bytes += _size_bytes(medium)
        used_at = last_needed(medium, known)
        if used_at is None or known.tombstone is not None or known.has_task:
            return
        item = (-used_at.timestamp(), medium.name, medium, known)
        if len(self._unused) < self._max_candidates:
            heapq.heappush(self._unused, item)
        else:
            heapq.heappushpop(self._unused, item)

    def decisions(self) -> list[Decision]:
        """Return as many removals as the budget requires, the least recently used first."""
        excess_bytes = self._total_bytes - self._budget_bytes
        decisions = []
        for _, _, medium, known in sorted(self._unused, key=lambda item: item[:2], reverse=True):
            if excess_bytes <= 0 or not self._budget_bytes:
                break
            decisions.append(Decision(medium, SweepReason.OVER_BUDGET, medium.served, known.last_use))
            excess_bytes -= _size_bytes(medium)
        return decisions


def _size_bytes(medium: Medium) -> int:
    return sum(each.size_bytes for each in medium.served)
