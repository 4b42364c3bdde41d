"""One probe, what it finds, and how it is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import httpx
import trio

from avion_media.domain.errors import MediaError
from avion_media.redis import RedisRefused

PROBE_S: Final = 30.0


class Verdict(StrEnum):
    """How a probe ended."""

    OK = "ok"
    WARNING = "warning"  # the service works, with less safety or comfort
    FAILED = "failed"  # something that the service promises cannot be kept here


class Area(StrEnum):
    """What is examined."""

    STORE = "store"
    REDIS = "redis"
    SANDBOX = "sandbox"


class DoesNotHold(Exception):
    """What a probe tried did not come out as it should; the message says what happened instead."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One sentence about something outside, and how to try it.

    ``attempt`` returns a detail worth showing (or nothing), and raises `DoesNotHold`. ``otherwise`` is the consequence
    when the sentence does not hold; ``verdict`` how bad that is.
    """

    area: Area
    claim: str
    attempt: Callable[[], Awaitable[str]]
    otherwise: str
    verdict: Verdict = Verdict.FAILED


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found. ``detail`` says what was seen, ``otherwise`` what it means (empty when all is well)."""

    area: Area
    claim: str
    verdict: Verdict
    detail: str
    otherwise: str


async def run_probe(probe: Probe) -> Finding:
    """Try it, for half a minute at most. What goes wrong on the way counts as: does not hold."""
    try:
        with trio.fail_after(PROBE_S):
            detail = await probe.attempt()
    except trio.TooSlowError:
        return _broken(probe, f"no answer within {PROBE_S:g} s")
    except (DoesNotHold, MediaError, RedisRefused, httpx.HTTPError, OSError) as error:
        return _broken(probe, str(error) or type(error).__name__)
    return Finding(probe.area, probe.claim, Verdict.OK, detail, "")


def _broken(probe: Probe, detail: str) -> Finding:
    return Finding(probe.area, probe.claim, probe.verdict, detail, probe.otherwise)
