"""What a consumer in a unit test works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import trio

from avion_media.backends.queue import TaskQueue
from avion_media.common.tasks import PROCESSING_QUEUE, TaskHandler
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from trio_telemetry import NO_TELEMETRY

CLAIM_AFTER_S = 60.0


class FakeLock:
    """Another replica is the janitor."""

    async def acquire(self) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def release(self) -> None:
        await trio.lowlevel.checkpoint()


class FakeQueue:
    """A queue whose subclass has the tasks."""

    name = PROCESSING_QUEUE
    max_deaths = 3
    must_look = False

    def next_tick_s(self, period_s: float) -> float:
        return period_s

    async def send_heartbeat(self, _consumer: str) -> None:
        await trio.lowlevel.checkpoint()

    def janitor_lock(self, _name: str, _ttl_s: float) -> FakeLock:
        return FakeLock()


def consumer_of(
    queue: FakeQueue, handler: TaskHandler, slots: int = 1, accepting: Callable[[], bool] = lambda: True
) -> Consumer:
    return Consumer(
        cast("TaskQueue", queue),
        handler,
        ConsumerPolicy(slots=slots, max_attempts=1, claim_after_s=CLAIM_AFTER_S, backoff_s=1, max_backoff_s=1),
        name="the only one",
        accepting_tasks=accepting,
        telemetry=NO_TELEMETRY,
    )
