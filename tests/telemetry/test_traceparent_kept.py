"""The context that a task was queued with is there again whatever happens to it."""

from __future__ import annotations

import pytest

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.tasks import PROCESSING_QUEUE

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def taken(queue: TaskQueue, consumer: str = "a") -> Lease:
    """The only task there is."""
    lease = await queue.take(consumer, block_s=5)
    assert lease is not None
    assert lease.task.traceparent == TRACEPARENT
    return lease


@pytest.fixture
def fields() -> dict[str, str]:
    return {"media_id": "01HF7YAT0005JWZKGXWQT731A6", "type": "thumbnail"}


async def test_through_release_retry_dead_letter_and_replay(redis_url: str, fields: dict[str, str]) -> None:
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue(fields, traceparent=TRACEPARENT)
        await (await taken(queue)).release()
        await (await taken(queue)).retry(0.0, "failed")
        assert await queue.promote() == 1
        await (await taken(queue)).dead_letter("given up")
        (dead_letter,) = await queue.dead_letters.list()
        assert dead_letter.task.traceparent == TRACEPARENT
        assert await queue.dead_letters.replay(dead_letter.entry_id)
        await (await taken(queue)).complete()


async def test_when_another_consumer_takes_it_over(redis_url: str, fields: dict[str, str]) -> None:
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue(fields, traceparent=TRACEPARENT)
        await taken(queue)
        replica = TaskQueue(redis, PROCESSING_QUEUE)
        await replica.reclaim("b", idle_s=0.0)
        lease = await replica.take("b", block_s=0)
        assert lease is not None
        assert lease.task.traceparent == TRACEPARENT
