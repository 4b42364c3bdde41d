"""Tasks that wait for their turn, or for a remote server: they use up no attempts, until it takes too long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis as redis_py

from avion_media.domain.errors import Deferred, Dependency, MediaError, Reason, Unavailable
from avion_media.domain.tasks import PROCESSING_QUEUE
from avion_media.queue import QueueKeys, TaskQueue
from avion_media.redis import open_redis
from tests.crash.test_consumer_outages import Work, assert_cost_no_attempt, consumer_of, until, working

_DELAYED = QueueKeys(PROCESSING_QUEUE).delayed


async def test_a_task_that_is_deferred_uses_up_no_attempt(redis_url: str) -> None:
    await assert_cost_no_attempt(redis_url, [Deferred("later", 0.01), Deferred("later", 0.01, expires=True)])


@pytest.mark.parametrize(
    ("failure", "given_up"),
    [
        (Deferred("paused", 30.0, expires=True), True),
        (Deferred("full", 30.0), False),
        (Unavailable(Dependency.REMOTE, "HTTP 503", retry_after_s=30.0), True),
        (Unavailable(Dependency.REMOTE, "cannot connect", retry_after_s=0.01), False),
        (Unavailable(Dependency.STORE, retry_after_s=30.0), False),
    ],
)
async def test_a_task_waits_for_a_remote_server_up_to_the_largest_deferral(
    redis_url: str, failure: MediaError, given_up: bool
) -> None:
    work = Work(lambda: failure)
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        with redis_py.Redis.from_url(redis_url, decode_responses=True) as other:
            client: Any = other
            async with working(
                consumer_of(redis, work, "only", max_deferral_s=20.0, backoff_s=60.0, max_backoff_s=0.02)
            ):
                await until(lambda: work.given_up or client.zcard(_DELAYED))
    assert work.given_up == ([Reason.REMOTE_UNREACHABLE] if given_up else [])


async def test_a_server_that_asks_for_time_gets_it_before_the_next_attempt(redis_url: str) -> None:
    work = Work(lambda: Unavailable(Dependency.REMOTE, "HTTP 429", retry_after_s=100.0))
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        with redis_py.Redis.from_url(redis_url, decode_responses=True) as other:
            client: Any = other
            async with working(consumer_of(redis, work, "only")):
                await until(lambda: client.zcard(_DELAYED))
            ((member, due_at),) = client.zrange(_DELAYED, 0, -1, withscores=True)
    assert json.loads(member)["attempts"] == "1"
    assert due_at - time.time() > 60
