"""One check, what it finds, and how it is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import httpx
import trio

from avion_media.backends.redis import RedisRefused
from avion_media.common.errors import MediaError

CHECK_S: Final = 30.0


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
    PROCESS = "process"


class CheckFailed(Exception):
    """A check failed. The message says what happened."""


@dataclass(frozen=True, slots=True)
class Check:
    """A capability that the service relies on, named so that ``failed`` negates it, and how to test it.

    ``attempt`` returns a detail worth showing (or nothing), or raises `CheckFailed`. ``impact`` is the consequence if
    the capability is missing, and ``status`` says how bad that is.
    """

    area: Area
    check: str
    attempt: Callable[[], Awaitable[str]]
    impact: str
    status: CheckStatus = CheckStatus.FAILED


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. ``detail`` says what was found, ``impact`` what it means (empty if the check passed)."""

    area: Area
    check: str
    status: CheckStatus
    detail: str
    impact: str


async def run_check(check: Check) -> CheckResult:
    """Try it, for half a minute at most. What goes wrong on the way counts as: does not hold."""
    try:
        with trio.fail_after(CHECK_S):
            detail = await check.attempt()
    except trio.TooSlowError:
        return _broken(check, f"no answer within {CHECK_S:g} s")
    except (CheckFailed, MediaError, RedisRefused, httpx.HTTPError, OSError) as error:
        return _broken(check, str(error) or type(error).__name__)
    return CheckResult(check.area, check.check, CheckStatus.OK, detail, "")


def _broken(check: Check, detail: str) -> CheckResult:
    return CheckResult(check.area, check.check, check.status, detail, check.impact)
