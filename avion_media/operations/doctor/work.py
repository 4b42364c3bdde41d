"""The work itself: whether it waits, was given up, or is missed, and whether each process reports itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from avion_media.backends.queue import LATE_S, QueueStats, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.tasks import DROP_DELETED, QUEUES
from avion_media.items.deletion.notices import notice_backlog
from avion_media.items.state import MediaEvents
from avion_media.operations.doctor.check import Area, Attempt, CheckFailed, Checks, CheckStatus
from avion_media.process.replicas import Replicas

WORK: Final = Checks[Redis](Area.REDIS)


def _refuse(found: Iterable[str]) -> None:
    if told := "; ".join(filter(None, found)):
        raise CheckFailed(told)


def _of_queues(tell: Callable[[str, QueueStats], str]) -> Attempt[Redis]:
    """Return an attempt that names what ``tell`` says of each queue and of the notices; empty: nothing."""

    async def attempt(redis: Redis) -> None:
        stats = {name: await TaskQueue(redis, name).stats() for name in QUEUES}
        stats[DROP_DELETED] = await notice_backlog(redis)
        _refuse(tell(name, each) for name, each in stats.items())

    return attempt


WORK.add("no queue is paused", "its tasks wait: `avion-media queues`, then `resume`", CheckStatus.WARNING)(
    _of_queues(lambda name, each: f"{name} by {each.paused_by or 'somebody'}" if each.paused_since else "")
)
WORK.add("no task waits for minutes", "docs/runbooks/queue-stalled.md", CheckStatus.WARNING)(
    _of_queues(
        lambda name, each: (
            f"{name}: {each.oldest_age_s:,.0f} s, with {each.consumers} consumers"
            if each.oldest_age_s > LATE_S and not each.paused_since
            else ""
        )
    )
)
WORK.add("no task was given up", "docs/runbooks/dead-letters.md", CheckStatus.WARNING)(
    _of_queues(lambda name, each: f"{name}: {each.dead_letters:,} given up" if each.dead_letters else "")
)


@WORK.add("no consumer misses events", "docs/runbooks/events-missed.md", CheckStatus.WARNING)
async def _missed(redis: Redis) -> None:
    headroom = await MediaEvents(redis).headroom()
    if headroom < 0:
        raise CheckFailed(f"{-headroom:,} events were trimmed before a consumer group read them")


@WORK.add("every process reports itself", "it was killed, or hangs: docs/runbooks/target-down.md", CheckStatus.WARNING)
async def _silent(redis: Redis) -> str:
    now = time.time()
    replicas = await Replicas(redis).read(now)
    _refuse(f"{each.name} silent for {now - each.at:,.0f} s" for each in replicas if each.is_silent(now))
    return f"{len(replicas)} of them"
