"""Rates from totals that somebody looks at now and then."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_WINDOW_S: Final = 10.0
_SHORTEST_S: Final = 0.8  # less than that between two looks says little


@dataclass(frozen=True, slots=True)
class Rate:
    """Tasks per second over the last looks."""

    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    begun: int
    ended: int


class Rates:
    """Per queue, over some ten seconds. Any number of viewers may look."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[_Sample]] = {}

    def look(self, queue: str, begun: int, ended: int, now: float) -> Rate | None:
        """Note the totals so far, and say how fast they grow; None at the first look, or after a restart of Redis."""
        samples = self._samples.setdefault(queue, deque())
        while samples and (now - samples[0].at > _WINDOW_S or begun < samples[0].begun):
            samples.popleft()
        rate = None
        if samples and now - samples[0].at >= _SHORTEST_S:
            first = samples[0]
            elapsed_s = now - first.at
            rate = Rate((begun - first.begun) / elapsed_s, max(0, ended - first.ended) / elapsed_s)
        if not samples or now - samples[-1].at >= _SHORTEST_S:
            samples.append(_Sample(now, begun, ended))
        return rate
