"""An hour of samples, in the memory of one process, for the charts of the console.

Decision: a ring in memory, not a time series on Redis. The figures of the queues are the same on every replica, so any
replica can draw them, and charts cost Redis nothing. They start empty with each process. Longer ranges belong to
Prometheus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.attempts import READY_BOUNDS_S, ready_within

KEPT_S: Final = 3600.0
_MINUTES: Final = (10, 60)  # minimum and maximum minutes of a chart: a young process has less than an hour
_EVERY_S: Final = 15.0  # between two kept samples: four a minute
_SHORTEST_S: Final = 8.0  # a rate over less time means little


@dataclass(frozen=True, slots=True)
class QueueSample:
    """One queue at one moment; ``added`` and ``buried`` are the numbers of all tasks and dead letters ever."""

    stats: QueueStats
    added: int
    buried: int

    @property
    def ended(self) -> int:
        """Tasks that ever left the stream."""
        return self.added - self.stats.depth


@dataclass(frozen=True, slots=True)
class Sample:
    """All queues at one moment (``at``: Unix seconds), and other figures by name.

    These are `attempts.outcomes`, and of this process what is in use of each limit, ``memory_bytes``, ``loop_lag_s``
    (the longest since the sample before) and ``requests`` of the origin that are in progress.
    """

    at: float
    queues: Mapping[str, QueueSample]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rate:
    """Tasks per second over the last samples."""

    added: float
    ended: float


Values = list[float | None]


class History:
    """The samples of the last hour. Of samples within 15 s only the newest is kept."""

    def __init__(self) -> None:
        self._kept: deque[Sample] = deque()
        self._lag_s = 0.0
        self.latest: Sample | None = None

    def note_lag(self, lag_s: float) -> None:
        """Record a lag of the event loop, for the next sample."""
        self._lag_s = max(self._lag_s, lag_s)

    def take_lag(self) -> float:
        """Return the longest lag since the last call."""
        lag_s, self._lag_s = self._lag_s, 0.0
        return lag_s

    def add(self, sample: Sample) -> None:
        """Add the newest sample, and forget those older than an hour."""
        self.latest = sample
        if not self._kept or sample.at - self._kept[-1].at >= _EVERY_S or sample.at < self._kept[-1].at:
            self._kept.append(sample)
        while self._kept[0].at < sample.at - KEPT_S:
            self._kept.popleft()

    def rate(self, queue: str) -> Rate | None:
        """Return the rates of new and ended tasks; None before two samples, and after a loss of data on Redis."""
        now = self.latest
        if now is None:
            return None
        before = next((each for each in reversed(self._kept) if now.at - each.at >= _SHORTEST_S), None)
        if before is None or queue not in before.queues or queue not in now.queues:
            return None
        first, last = before.queues[queue], now.queues[queue]
        if last.added < first.added:
            return None
        elapsed_s = now.at - before.at
        return Rate((last.added - first.added) / elapsed_s, max(0, last.ended - first.ended) / elapsed_s)

    def total(self, figure: str) -> int:
        """Return the newest value of a figure of `QueueStats`, of all queues together."""
        return sum(getattr(each.stats, figure) for each in (self.latest.queues.values() if self.latest else ()))

    def highest_of(self, figure: str, queue: str = "") -> Values:
        """Return the highest value of a figure in each of the last `minutes`, oldest first; None for a minute without
        one.

        Without ``queue``, a figure of queues is that of all queues: their sum, or the oldest age.
        """
        read = _reader(figure, queue)
        return [max(map(read, each)) if each else None for each in self._by_minute()]

    def growth_of(self, total: str, queue: str = "") -> Values:
        """Return the growth of a total in each of the last `minutes`; None where it is unknown."""
        read = _reader(total, queue)
        grown: Values = []
        before: Sample | None = None
        for minute in self._by_minute():
            last = minute[-1] if minute else before
            known = minute and before is not None and minute[-1].at - before.at < 2 * 60
            grown.append(max(0.0, read(last) - read(before)) if known and last and before else None)
            before = last
        return grown

    def ready_times(self, *shares: float) -> list[Values]:
        """Return for each share the time to ready, in seconds, that it of the uploads of a minute did not exceed."""
        counts = [self.growth_of(ready_within(bound_s)) for bound_s in READY_BOUNDS_S]
        return [[_quantile(minute, share) for minute in zip(*counts, strict=True)] for share in shares]

    @property
    def minutes(self) -> int:
        """The number of minutes in the series: 60, or fewer in a young process."""
        least, most = _MINUTES
        known_s = self.latest.at - self._kept[0].at if self.latest is not None else 0.0
        return min(most, max(least, int(known_s // 60) + 1))

    def _by_minute(self) -> list[list[Sample]]:
        count = self.minutes
        minutes: list[list[Sample]] = [[] for _ in range(count)]
        if self.latest is None:
            return minutes
        samples = [*self._kept] if self._kept[-1] is self.latest else [*self._kept, self.latest]
        for sample in samples:
            index = count - 1 - int((self.latest.at - sample.at) // 60)
            if 0 <= index < count:
                minutes[index].append(sample)
        return minutes


def last_of(values: Values) -> float:
    """Return the newest value that is known; 0 without one."""
    return next((each for each in reversed(values) if each is not None), 0.0)


def _quantile(counts: Sequence[float | None], share: float) -> float | None:
    """Return the value below which this share is, of values that are counted by bounds; None if there are none."""
    known = [each or 0.0 for each in counts]
    left, lower_s = share * sum(known), 0.0
    for bound_s, count in zip(READY_BOUNDS_S[:-1], known, strict=False):
        if left and count >= left:
            return lower_s + (bound_s - lower_s) * left / count
        left, lower_s = left - count, bound_s
    return lower_s if left else None


def _reader(figure: str, queue: str) -> Callable[[Sample], float]:
    join = max if figure == "oldest_age_s" else sum

    def of_sample(sample: Sample) -> float:
        if figure in sample.figures:
            return sample.figures[figure]
        queues = [each for name, each in sample.queues.items() if queue in ("", name)]
        return join([getattr(each, figure, getattr(each.stats, figure, 0.0)) for each in queues] or [0.0])

    return of_sample
