"""Redis: what the queues, the status store and the events rely on, at the servers of one URL."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from statistics import median
from typing import Final

from avion_media.backends.redis import NEARLY_FULL, Redis, Script
from avion_media.common.tasks import QUEUES
from avion_media.operations.doctor.check import Area, Check, CheckFailed, Checks, CheckStatus
from avion_media.operations.setup import warnings_of

REACHABLE: Final = Checks[Redis](Area.REDIS)
REDIS: Final = Checks[Redis](Area.REDIS)
OF_QUEUES: Final = Checks[Redis](Area.REDIS)
_MAJOR: Final = {"redis": 7, "valkey": 8}
_MAX_SKEW_S: Final = 5.0
_PINGS: Final = 21
_IMPACTS_ON_STATUSES: Final = {
    "is reachable": "no status is known, and tasks wait",
    "runs Lua scripts": "no status and no deletion can be recorded",
    "clock in sync": "deletions and undeletes may be put in the wrong order",
    "persistence is on and eviction is off": "reasons of failed media items and deletion records can be lost",
}


@REACHABLE.add("is reachable", "no task can be queued or processed: docs/runbooks/redis-unavailable.md")
async def _answers(redis: Redis) -> str:
    took = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await redis.execute_on_all("PING")
        took.append(time.perf_counter() - started)
    return f"median {median(took) * 1000:.1f} ms"


@REDIS.add("is Redis 7, Valkey 8 or newer", "required commands are missing")
async def _version(redis: Redis) -> str:
    info = next(iter((await redis.info("server")).values()))
    kind = "valkey" if "valkey_version" in info else "redis"
    version = info.get(f"{kind}_version", "")
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < _MAJOR[kind]:
        raise CheckFailed(f"{kind} {version or 'of an unknown version'}")
    return f"{kind} {version}, {info.get('redis_mode') or info.get('server_mode') or 'standalone'}"


@REDIS.add("runs Lua scripts", "leases cannot be fenced, so nothing is processed")
async def _scripts(redis: Redis) -> None:
    script = Script("doctor", f"return 'examined by {uuid.uuid4().hex}'")
    reply = await redis.run(script, ["{avion-media-doctor}:none"])
    if reply not in (script.source[8:-1], script.source[8:-1].encode()):
        raise CheckFailed(f"a script returned {reply!r}")


@OF_QUEUES.add("every queue that has entries has its consumer group", "run `avion-media init`", CheckStatus.WARNING)
async def _groups(redis: Redis) -> None:
    missing = []
    for queue in (each.name for each in QUEUES.values() if each.public):
        if not await redis.execute("EXISTS", queue) or not await redis.execute("XINFO", "GROUPS", queue):
            missing.append(queue)
    if missing:
        raise CheckFailed(f"missing on {', '.join(missing)}")


@REDIS.add("clock in sync", "retries and deletions run early or late", CheckStatus.WARNING)
async def _clock(redis: Redis) -> str:
    seconds, microseconds = await redis.execute("TIME")
    skew_s = abs(int(seconds) + int(microseconds) / 1e6 - time.time())
    if skew_s > _MAX_SKEW_S:
        raise CheckFailed(f"clocks differ by {skew_s:.0f} s")
    return f"clocks differ by {skew_s:.1f} s"


@REDIS.add(
    "persistence is on and eviction is off",
    "queued tasks can be lost; only the sweep recovers their uploads",
    CheckStatus.WARNING,
)
async def _durability(redis: Redis) -> None:
    warnings = await warnings_of(redis)
    if warnings:
        raise CheckFailed("; ".join(warnings))


@REDIS.add("has memory left", "at maxmemory it refuses new work", CheckStatus.WARNING)
async def _memory(redis: Redis) -> str:
    used = await redis.memory_use()
    detail = f"{used:.0%} of maxmemory in use" if used else "no maxmemory"
    if used >= NEARLY_FULL:
        raise CheckFailed(detail, CheckStatus.FAILED if used >= 1 else CheckStatus.WARNING)
    return detail


def of_statuses(checks: Checks[Redis]) -> list[Check[Redis]]:
    """Return the same checks for a Redis for statuses alone. Something else follows from their failures."""
    return [replace(each, impact=_IMPACTS_ON_STATUSES.get(each.check, each.impact)) for each in checks]
