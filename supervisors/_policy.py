"""The decisions of a supervisor, pure: no clock, no I/O, no Trio. Times and random numbers are passed in.

The terms and their meaning are those of Erlang/OTP's ``supervisor``; the backoff is an addition (OTP restarts at once).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from supervisors._errors import SpecError

T = TypeVar("T")


class Restart(StrEnum):
    """The kinds of ends after which a child is restarted."""

    PERMANENT = "permanent"  # every end
    TRANSIENT = "transient"  # only an abnormal end
    TEMPORARY = "temporary"  # none, not even with its group


class Strategy(StrEnum):
    """The siblings that are restarted together with a failed child."""

    ONE_FOR_ONE = "one_for_one"  # none
    ONE_FOR_ALL = "one_for_all"  # every sibling
    REST_FOR_ONE = "rest_for_one"  # the siblings right of it: those started after it


class AutoShutdown(StrEnum):
    """When a supervisor stops by itself because significant children have ended and will not be restarted."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


def _check_number(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{what} must be a number, not {value!r}")
    return value


def check_seconds(what: str, value: object, *, zero: bool) -> None:
    """Raise `SpecError` unless ``value`` is a number of seconds that can be waited for; infinity is one."""
    seconds = _check_number(what, value)
    if not (seconds >= 0 if zero else seconds > 0):
        raise SpecError(f"{what} must be {'at least' if zero else 'more than'} 0 s, not {value!r}")


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most ``max_restarts`` restarts, of all children together, in any ``within_s`` seconds; one more escalates.

    With ``math.inf`` restarts it never gives up.
    """

    max_restarts: float = 3
    within_s: float = 5.0

    def __post_init__(self) -> None:
        restarts = _check_number("max_restarts", self.max_restarts)
        if not restarts >= 0 or (restarts != math.inf and restarts != int(restarts)):
            raise SpecError(f"max_restarts must be a whole number of at least 0 or infinite, not {self.max_restarts!r}")
        check_seconds("within_s", self.within_s, zero=False)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed child waits: ``first_s``, ``factor`` times more after each further failure, up to ``max_s``.

    ``jitter`` is the random share of a delay. It only shortens the delay, also one of ``max_s``. If it could lengthen
    a delay, ``max_s`` would cut off the excess, and much of a fleet would restart at the same moment. A child that ran
    for ``healthy_after_s`` starts over at ``first_s``.
    """

    first_s: float = 0.1
    max_s: float = 1.0
    factor: float = 2.0
    jitter: float = 0.2
    healthy_after_s: float = 30.0

    def __post_init__(self) -> None:
        check_seconds("first_s", self.first_s, zero=True)
        check_seconds("max_s", self.max_s, zero=True)
        check_seconds("healthy_after_s", self.healthy_after_s, zero=True)
        if math.isinf(self.max_s) or self.first_s > self.max_s:
            raise SpecError(f"max_s must be finite and at least first_s, not {self.max_s!r}")
        if not 1 <= _check_number("factor", self.factor) < math.inf:
            raise SpecError(f"factor must be at least 1, not {self.factor!r}")
        if not 0 <= _check_number("jitter", self.jitter) <= 1:
            raise SpecError(f"jitter must be between 0 and 1, not {self.jitter!r}")

    def delay_s(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after the ``failures``-th failure in a row (from 1); ``chance`` is in [0, 1)."""
        try:
            delay = min(self.max_s, self.first_s * self.factor ** (failures - 1))
        except OverflowError:  # too large for a float, so beyond any max_s
            delay = self.max_s
        return delay * (1 - self.jitter * chance)

    def least_total_s(self, failures: int) -> float:
        """Return the smallest sum of the delays after that many failures in a row."""
        total, number, last = 0.0, 1, self.delay_s(failures, chance=1.0)
        while (delay := self.delay_s(number, chance=1.0)) < last:
            total, number = total + delay, number + 1
        return total + last * (failures - number + 1)


def check_escalates(child: str, intensity: Intensity, backoff: Backoff) -> None:
    """Raise `SpecError` if a child that fails at once, with this backoff, would never exceed ``intensity``."""
    if math.isinf(intensity.max_restarts):
        return
    least_s = backoff.least_total_s(int(intensity.max_restarts))
    if least_s > intensity.within_s:
        raise SpecError(
            f"{intensity.max_restarts:g} restarts of {child!r} take at least {least_s:.0f} s, so an intensity within"
            f" {intensity.within_s:g} s never escalates; lower the backoff's max_s or raise within_s"
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """How one child is restarted, started and stopped."""

    restart: Restart
    grace_s: float
    start_timeout_s: float
    significant: bool
    backoff: Backoff | None = None  # None: that of its supervisor


class RestartWindow:
    """Counts the restarts of one supervisor over a sliding window."""

    def __init__(self, intensity: Intensity) -> None:
        self._intensity = intensity
        is_endless = math.isinf(intensity.max_restarts)
        self._times: deque[float] = deque(maxlen=0 if is_endless else int(intensity.max_restarts) + 1)

    def admit(self, now: float) -> bool:
        """Count one restart at ``now`` (never earlier than the one before); return False if it is one too many."""
        self._times.append(now)
        is_full = len(self._times) > self._intensity.max_restarts
        return not is_full or now - self._times[0] > self._intensity.within_s


def restart_group(strategy: Strategy, children: Iterable[T], failed: T) -> list[T]:
    """Return the part of ``children`` (in start order) that goes down and up with ``failed``, itself included."""
    if strategy is Strategy.ONE_FOR_ONE:
        return [failed]
    everyone = list(children)
    return everyone if strategy is Strategy.ONE_FOR_ALL else everyone[everyone.index(failed) :]
