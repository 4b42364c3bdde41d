"""Tasks that wait for their turn, or for a remote server: they use up no attempts, until it takes too long."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis as redis_py

from avion_media.backends.queue import QueueKeys, TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.errors import Deferred, Dependency, MediaError, Reason, Unavailable
from avion_media.common.ids import UnknownFormat
from avion_media.common.tasks import PROCESSING_QUEUE
from tests.crash.test_consumer_outages import (
    Work,
    add,
    ago,
    assert_cost_no_attempt,
    consumer_of,
    delayed,
    put_off,
    settled,
    until,
    working,
)
from tests.service.published import fields_of

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
    assert fields_of(member)["attempts"] == "1"
    assert due_at - time.time() > 60


_UNKNOWN = UnknownFormat("this version does not know the format code in the media id")


async def test_a_task_of_an_unknown_format_uses_up_no_attempt(redis_url: str) -> None:
    await assert_cost_no_attempt(redis_url, [_UNKNOWN, _UNKNOWN])


@pytest.mark.parametrize(("waited_s", "delay_s"), [(100, 25), (5 * 3600, 120)])
async def test_a_task_of_an_unknown_format_waits_for_a_newer_worker_up_to_two_minutes_at_a_time(
    redis_url: str, waited_s: float, delay_s: float
) -> None:
    work = Work(lambda: _UNKNOWN)
    async with open_redis(redis_url) as redis:
        await add(redis, unavailable_since=ago(waited_s), first_seen=ago(1e6), attempts="2")
        async with working(consumer_of(redis, work, "only", max_attempts=3)):
            stats = await put_off(TaskQueue(redis, PROCESSING_QUEUE))
        (member,) = await delayed(redis)
    kept = fields_of(member)
    assert kept["attempts"] == "2"
    assert float(kept["unavailable_since"]) == pytest.approx(time.time() - waited_s, abs=5)
    assert stats.next_due is not None
    assert delay_s - 2 < stats.next_due - time.time() < 1.2 * delay_s + 2
    assert work.given_up == []


@pytest.mark.parametrize("gives_up", [True, False], ids=["upload", "deletion"])
async def test_a_task_of_an_unknown_format_that_no_newer_worker_takes_is_a_dead_letter(
    redis_url: str, gives_up: bool
) -> None:
    work = Work(lambda: _UNKNOWN)
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await add(redis, unavailable_since=ago(3601))
        async with working(consumer_of(redis, work, "only", max_age_s=3600.0, gives_up=gives_up)):
            await settled(queue)
        (dead_letter,) = await queue.dead_letters.list()
    assert work.given_up == [Reason.EXPIRED]
    assert dead_letter.error == f"expired: {_UNKNOWN}"
