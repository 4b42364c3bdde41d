"""Which remote media go when the cache is over its budget: the oldest, found in one pass and in bounded memory."""

from __future__ import annotations

import heapq

from avion_media.tasks.sweep.policy import Medium, Verdict, Why

MAX_CANDIDATES = 10_000  # what does not fit in here is the next pass's


class Budget:
    """Sees every remote medium that stays, and names those that should not. ``budget_bytes`` 0 is no bound."""

    def __init__(self, budget_bytes: int, max_candidates: int = MAX_CANDIDATES) -> None:
        self._budget_bytes = budget_bytes
        self._max_candidates = max_candidates
        self._total_bytes = 0
        self._oldest: list[tuple[float, str, Medium]] = []  # a heap with the *youngest* of the oldest on top

    def add(self, medium: Medium, *, removable: bool = True) -> None:
        """A remote medium that stays as far as all other rules go; it counts even if it may not be removed."""
        if not self._budget_bytes:
            return
        self._total_bytes += _size_bytes(medium)
        if medium.original is None or not removable:
            return
        item = (-medium.original.last_modified.timestamp(), medium.name, medium)
        if len(self._oldest) < self._max_candidates:
            heapq.heappush(self._oldest, item)
        else:
            heapq.heappushpop(self._oldest, item)

    def verdicts(self) -> list[Verdict]:
        """As many of the oldest as it takes to come down to the budget, oldest first."""
        excess_bytes = self._total_bytes - self._budget_bytes
        verdicts = []
        for _, _, medium in sorted(self._oldest, reverse=True):
            if excess_bytes <= 0 or not self._budget_bytes:
                break
            verdicts.append(Verdict(medium, Why.OVER_BUDGET, medium.served))
            excess_bytes -= _size_bytes(medium)
        return verdicts


def _size_bytes(medium: Medium) -> int:
    return sum(each.size_bytes for each in medium.served)
