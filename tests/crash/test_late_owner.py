"""A worker that lost its task to another worker must not record how the media item ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.errors import Reason, Rejected
from avion_media.common.tasks import PROCESSING_QUEUE, EnsureLease, Task, TaskHandler
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from supervisors import Supervisor
from trio_telemetry import NO_TELEMETRY


class LosesItsTask(TaskHandler):
    """A handler whose process counts as dead while it works, so that another one gets the task."""

    def __init__(self, queue: TaskQueue, failure: Exception) -> None:
        self._queue = queue
        self._failure = failure
        self.given_up = False
        self.ended = trio.Event()

    async def run(self, _task: Task, _ensure_lease: EnsureLease) -> None:
        assert await self._queue.reclaim("the other one", idle_s=0) == 1
        assert await self._queue.take("the other one", block_s=0) is not None
        self.ended.set()
        raise self._failure

    async def record_failure(self, _task: Task, _reason: Reason, *, is_file_suspect: bool = False) -> None:
        self.given_up = True


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[TaskQueue]:
    async with open_redis(redis_url) as redis:
        yield TaskQueue(redis, PROCESSING_QUEUE)


@pytest.mark.parametrize("failure", [Rejected(Reason.CORRUPT), RuntimeError("a defect")], ids=["rejected", "defect"])
async def test_a_late_owner_is_silent(redis_url: str, queue: TaskQueue, failure: Exception) -> None:
    await queue.enqueue({"media_id": "m1", "type": "thumbnail"})
    async with open_redis(redis_url) as redis:
        handler = LosesItsTask(queue, failure)
        consumer = Consumer(
            TaskQueue(redis, PROCESSING_QUEUE),
            handler,
            ConsumerPolicy(slots=1, max_attempts=1, claim_after_s=60, backoff_s=1, max_backoff_s=1),
            name="the first one",
            accepting_tasks=lambda: True,
            telemetry=NO_TELEMETRY,
        )
        root = Supervisor("root", consumer.children[1:3])
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(root.run)
                await handler.ended.wait()
                await consumer.drain(10)
                root.stop()
    assert not handler.given_up
    stats = await queue.stats()
    assert (stats.pending, stats.dead_letters) == (1, 0)
