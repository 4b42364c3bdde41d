"""One check, what it finds, and how it is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

import httpx
import trio

from avion_media.backends.redis import RedisRefused
from avion_media.common.errors import MediaError

CHECK_S: Final = 30.0
T = TypeVar("T")
Attempt = Callable[[T], Awaitable[str | None]]
"""Tries a capability on what is examined. Returns a detail worth showing (or nothing), or raises `CheckFailed`."""


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # the service works, with less safety or fewer features
    FAILED = "failed"  # the service cannot keep one of its guarantees here


class Area(StrEnum):
    """What is examined."""

    STORE = "store"
    REDIS = "redis"
    SANDBOX = "sandbox"
    NATIVE = "native"
    PROCESS = "process"


class CheckFailed(Exception):
    """A check failed. The message says what happened; ``status`` says how bad that is, if not as its `Check` says."""

    def __init__(self, detail: str, status: CheckStatus | None = None) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """A capability that the service relies on, named so that ``failed`` negates it, and how to test it.

    ``impact`` is the consequence if the capability is missing, and ``status`` says how bad that is.
    """

    area: Area
    check: str
    attempt: Attempt[T]
    impact: str
    status: CheckStatus


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. ``detail`` says what was found, ``impact`` what it means (empty if the check passed)."""

    area: Area
    check: str
    status: CheckStatus
    detail: str
    impact: str


Found = Callable[[CheckResult], None]


class Checks(list[Check[T]]):
    """The checks of one area that try the same thing, in order: the most important first."""

    def __init__(self, area: Area) -> None:
        super().__init__()
        self._area = area

    def add(
        self, check: str, impact: str, status: CheckStatus = CheckStatus.FAILED
    ) -> Callable[[Attempt[T]], Attempt[T]]:
        """Decorate the function that tries a capability. The arguments are fields of its `Check`."""

        def added(attempt: Attempt[T]) -> Attempt[T]:
            self.append(Check(self._area, check, attempt, impact, status))
            return attempt

        return added


async def run_checks(checks: Iterable[Check[T]], examined: T, found: Found, label: str = "") -> bool:
    """Run them one after the other, and call ``found`` with each result. Return whether all passed.

    ``label`` begins the names of the checks. Each has half a minute. Any problem counts as a missing capability.
    """
    passed = True
    for each in checks:
        try:
            with trio.fail_after(CHECK_S):
                detail, status, impact = await each.attempt(examined) or "", CheckStatus.OK, ""
        except trio.TooSlowError:
            detail, status, impact = f"no answer within {CHECK_S:g} s", each.status, each.impact
        except (CheckFailed, MediaError, RedisRefused, httpx.HTTPError, OSError) as error:
            detail, impact = str(error) or type(error).__name__, each.impact
            status = getattr(error, "status", None) or each.status
        found(CheckResult(each.area, label + each.check, status, detail, impact))
        passed = passed and status is CheckStatus.OK
    return passed
