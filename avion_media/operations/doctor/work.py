"""The work itself: whether it waits, was given up, or is missed, and whether each process reports itself."""

from __future__ import annotations

import time
from typing import Final

from avion_media.backends.queue import QueueStats, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.tasks import QUEUES
from avion_media.items.deletion.notices import notice_backlog
from avion_media.items.state import MediaEvents
from avion_media.operations.doctor.check import Area, CheckFailed, Checks, CheckStatus
from avion_media.process.replicas import SILENT_S, Replicas

WORK: Final = Checks[Redis](Area.REDIS)
_LATE_S: Final = 120.0  # as on the console


async def _stats(redis: Redis) -> dict[str, QueueStats]:
    return {name: await TaskQueue(redis, name).stats() for name in QUEUES}


def _refuse(found: list[str]) -> None:
    if found:
        raise CheckFailed("; ".join(found))


@WORK.add("no queue is paused", "its tasks wait: `avion-media queues`, then `resume`", CheckStatus.WARNING)
async def _paused(redis: Redis) -> str:
    stats = await _stats(redis)
    _refuse([f"{name} by {each.paused_by or 'somebody'}" for name, each in stats.items() if each.paused_since])
    return ""


@WORK.add("no task waits for minutes", "docs/runbooks/queue-stalled.md", CheckStatus.WARNING)
async def _late(redis: Redis) -> str:
    stats = {**await _stats(redis), "drop_deleted": await notice_backlog(redis)}
    late = {name: each for name, each in stats.items() if each.oldest_age_s > _LATE_S and not each.paused_since}
    _refuse([f"{name}: {each.oldest_age_s:,.0f} s, with {each.consumers} consumers" for name, each in late.items()])
    return ""


@WORK.add("no task was given up", "docs/runbooks/dead-letters.md", CheckStatus.WARNING)
async def _given_up(redis: Redis) -> str:
    stats = await _stats(redis)
    _refuse([f"{name}: {each.dead_letters:,} dead letters" for name, each in stats.items() if each.dead_letters])
    return ""


@WORK.add("no consumer misses events", "docs/runbooks/events-missed.md", CheckStatus.WARNING)
async def _missed(redis: Redis) -> str:
    headroom = await MediaEvents(redis).headroom()
    if headroom < 0:
        raise CheckFailed(f"{-headroom:,} events were trimmed before a consumer group read them")
    return ""


@WORK.add("every process reports itself", "it was killed, or hangs: docs/runbooks/target-down.md", CheckStatus.WARNING)
async def _silent(redis: Redis) -> str:
    now = time.time()
    replicas = await Replicas(redis).read(now)
    _refuse([f"{each.name} silent for {now - each.at:,.0f} s" for each in replicas if now - each.at > SILENT_S])
    return f"{len(replicas)} of them"
