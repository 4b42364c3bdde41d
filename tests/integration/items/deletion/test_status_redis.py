"""`STATUS__REDIS_URL`: what is known of media is on a Redis of its own, tasks and events stay on the other one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import DELETE_QUEUE, State, Status
from avion_media.items.deletion import DeletionRecords, DeletionState
from avion_media.items.state import MediaEvents, StatusStore
from tests.services import redis_server, watched_redis

MEDIUM = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(scope="module")
def state_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


def names(url: str) -> set[str]:
    with redis_py.Redis.from_url(url, decode_responses=True) as client:
        return {key.partition(":")[0] if not key.startswith("{") else key for key in client.scan_iter()}


async def test_each_key_is_where_it_belongs(redis_url: str, state_url: str) -> None:
    async with open_redis(redis_url, state_url=state_url) as redis:
        await redis.ping()
        statuses, records = StatusStore(redis), DeletionRecords(redis)
        await statuses.put(Status(MEDIUM, State.PROCESSING), ttl_s=60)
        marks = await records.mark([MEDIUM], delay_s=3600)
        await TaskQueue(redis, DELETE_QUEUE).delay([({"media_id": MEDIUM}, "removal", marks[0].due_ms / 1000)])
        status = await statuses.get(MEDIUM)
        assert status is not None
        assert status.state is State.DELETED
        assert await records.undelete({MEDIUM: marks[0].generation}, await records.issue_undelete())
        record = await records.get(MEDIUM)
        assert record is not None
        assert record.state is DeletionState.UNDELETED
        await MediaEvents(redis).publish("media.ready", MEDIUM, {})
    assert names(state_url) == {"media_status", "media_deletion"}
    there = names(redis_url)
    assert there >= {"{drop_deleted}:last_undelete", "{media_delete_queue}:delayed", "media_events"}
    assert not there & {"media_status", "media_deletion"}


async def test_an_outage_of_either_is_an_outage(redis_url: str) -> None:
    async with open_redis(redis_url, state_url="redis://127.0.0.1:1/0", timeout_s=1.0) as redis:
        with pytest.raises(Unavailable) as unavailable:
            await redis.ping()
        assert unavailable.value.setting == "AVION_MEDIA_STATUS__REDIS_URL"
        assert await redis.execute("GET", "x") is None
        assert not redis.available.up
        assert redis.available.detail.startswith("for statuses: ")


async def test_sentinels_of_either_are_asked_often(redis_url: str) -> None:
    with watched_redis() as watched:
        async with open_redis(redis_url, state_url=watched.url) as redis:
            await redis.ping()
            assert redis.has_sentinels
