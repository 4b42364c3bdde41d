"""Virtual time: what `time` and `datetime` answer in a simulation."""

from __future__ import annotations

import datetime as datetime_module
import time as time_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from .patches import Patches

# 15 January 2027, 08:00 UTC: when each run starts by the clocks without skew.
EPOCH_UNIX_S = 1_800_000_000.0
# No machine has just been booted.
_UPTIME_S = 1000.0
_NS = 1_000_000_000

real_perf_counter = time_module.perf_counter


@dataclass(slots=True)
class WallClock:
    """The clock of a machine: ``skew_s`` ahead at ``since``, and ``drift`` seconds faster each second after it."""

    skew_s: float = 0.0
    drift: float = 0.0
    since: float = 0.0
    _stands_at: float | None = None

    def read(self, now: float) -> float:
        """Return the Unix time that the machine shows ``now`` virtual seconds after the start of the run."""
        if self._stands_at is not None:
            return self._stands_at
        return EPOCH_UNIX_S + now + self.skew_s + (now - self.since) * self.drift

    @contextmanager
    def standing_at(self, unix_s: float) -> Iterator[None]:
        """Show the same time while the block runs, which must not wait."""
        self._stands_at = unix_s
        try:
            yield
        finally:
            self._stands_at = None

    def change(self, now: float, *, skew_s: float | None = None, drift: float | None = None) -> None:
        """Set the clock, or make it run faster (drift above 0) or slower from now on."""
        reached_s = self.skew_s + (now - self.since) * self.drift
        self.skew_s = reached_s if skew_s is None else skew_s
        self.drift = self.drift if drift is None else drift
        self.since = now


def patch_clocks(patches: Patches, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
    """Let `time` and `datetime` answer by these two clocks.

    `monotonic` is the virtual time of the run, which all nodes share: Trio's deadlines are measured by it, too.
    """

    def uptime() -> float:
        return _UPTIME_S + monotonic()

    def uptime_ns() -> int:
        return round(uptime() * _NS)

    def wall_ns() -> int:
        return round(wall() * _NS)

    def gmtime(seconds: float | None = None, /) -> time_module.struct_time:
        return real_gmtime(wall() if seconds is None else seconds)

    def localtime(seconds: float | None = None, /) -> time_module.struct_time:
        return real_localtime(wall() if seconds is None else seconds)

    real_gmtime, real_localtime = time_module.gmtime, time_module.localtime
    for old, new in (
        (time_module.time, wall),
        (time_module.time_ns, wall_ns),
        (time_module.monotonic, uptime),
        (time_module.perf_counter, lambda: uptime()),
        (time_module.monotonic_ns, uptime_ns),
        (time_module.perf_counter_ns, lambda: uptime_ns()),
        (time_module.gmtime, gmtime),
        (time_module.localtime, localtime),
        (datetime_module.datetime, _datetime_by(wall)),
        (datetime_module.date, _date_by(wall)),
    ):
        patches.everywhere(old, new)


class _StandsFor(type):
    """A class in place of a real one: it makes real instances, and recognizes them."""

    real: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return cls.real(*arguments, **named)


def _datetime_by(wall: Callable[[], float]) -> type[datetime]:
    class VirtualDatetime(datetime, metaclass=_StandsFor):
        real = datetime

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(wall(), tz)

        @classmethod
        def today(cls) -> Any:
            return datetime.fromtimestamp(wall())

        @classmethod
        def utcnow(cls) -> Any:
            return datetime.fromtimestamp(wall(), UTC).replace(tzinfo=None)

    return VirtualDatetime


def _date_by(wall: Callable[[], float]) -> type[date]:
    class VirtualDate(date, metaclass=_StandsFor):
        real = date

        @classmethod
        def today(cls) -> Any:
            return date.fromtimestamp(wall())

    return VirtualDate
