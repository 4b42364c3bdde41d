"""Redis: what the queues rely on."""

from __future__ import annotations

import time
import uuid
from functools import partial
from statistics import median
from typing import Final

from avion_media.backends.redis import Redis, Script
from avion_media.common.tasks import QUEUES
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus
from avion_media.operations.setup import warnings_of

_MAJOR: Final = {"redis": 7, "valkey": 8}
_MAX_SKEW_S = 5.0
_PINGS = 21
_NEARLY_FULL = 0.9  # as in the alert


class RedisChecks:
    """What the queues, the status store and the events rely on, at the servers of one URL."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def all(self) -> list[Check]:
        """Return the checks, the most important first."""
        groups = Check(
            Area.REDIS,
            "every queue has its consumer group",
            self._groups,
            "run `avion-media init`",
            CheckStatus.WARNING,
        )
        checks = self._checks(
            unreachable="no task can be queued or processed",
            scriptless="leases cannot be fenced, so nothing is processed",
            askew="retries and deletions run early or late",
            volatile="queued tasks can be lost; only the sweep recovers their uploads",
        )
        return [*checks[:3], groups, *checks[3:]]

    def of_statuses(self) -> list[Check]:
        """Return the checks of a Redis for statuses alone, the most important first."""
        return self._checks(
            unreachable="no status is known, and tasks wait",
            scriptless="no status and no deletion can be recorded",
            askew="deletions and undeletes may be put in the wrong order",
            volatile="reasons of failed media items and deletion records can be lost",
        )

    def _checks(self, *, unreachable: str, scriptless: str, askew: str, volatile: str) -> list[Check]:
        """Return the checks of every Redis. The arguments say what follows if it fails one."""
        label, warning = self._redis.label, CheckStatus.WARNING
        check = partial(Check, Area.REDIS)
        return [
            check(f"{label}is reachable", self._answers, unreachable),
            check(f"{label}is Redis 7, Valkey 8 or newer", self._version, "required commands are missing"),
            check(f"{label}runs Lua scripts", self._scripts, scriptless),
            check(f"{label}clock in sync", self._clock, askew, warning),
            check(f"{label}persistence is on and eviction is off", self._durability, volatile, warning),
            check(f"{label}has memory left", self._memory, "at maxmemory it refuses new work", warning),
        ]

    async def _answers(self) -> str:
        took = []
        for _ in range(_PINGS):
            started = time.perf_counter()
            await self._redis.execute_on_all("PING")
            took.append(time.perf_counter() - started)
        return f"median {median(took) * 1000:.1f} ms"

    async def _version(self) -> str:
        info = next(iter((await self._redis.info("server")).values()))
        kind = "valkey" if "valkey_version" in info else "redis"
        version = info.get(f"{kind}_version", "")
        major = version.partition(".")[0]
        if not major.isdigit() or int(major) < _MAJOR[kind]:
            raise CheckFailed(f"{kind} {version or 'of an unknown version'}")
        return f"{kind} {version}, {info.get('redis_mode') or info.get('server_mode') or 'standalone'}"

    async def _scripts(self) -> str:
        script = Script("doctor", f"return 'examined by {uuid.uuid4().hex}'")
        reply = await self._redis.run(script, ["{avion-media-doctor}:none"])
        if reply not in (script.source[8:-1], script.source[8:-1].encode()):
            raise CheckFailed(f"a script returned {reply!r}")
        return ""

    async def _groups(self) -> str:
        missing = []
        for queue in (each.name for each in QUEUES.values() if each.public):
            if not await self._redis.execute("EXISTS", queue) or not await self._redis.execute(
                "XINFO", "GROUPS", queue
            ):
                missing.append(queue)
        if missing:
            raise CheckFailed(f"missing on {', '.join(missing)}")
        return ""

    async def _clock(self) -> str:
        seconds, microseconds = await self._redis.execute("TIME")
        skew_s = abs(int(seconds) + int(microseconds) / 1e6 - time.time())
        if skew_s > _MAX_SKEW_S:
            raise CheckFailed(f"clocks differ by {skew_s:.0f} s")
        return f"clocks differ by {skew_s:.1f} s"

    async def _durability(self) -> str:
        warnings = await warnings_of(self._redis)
        if warnings:
            raise CheckFailed("; ".join(warnings))
        return ""

    async def _memory(self) -> str:
        used = await self._redis.memory_use()
        detail = f"{used:.0%} of maxmemory in use" if used else "no maxmemory"
        if used > _NEARLY_FULL:
            raise CheckFailed(detail)
        return detail
