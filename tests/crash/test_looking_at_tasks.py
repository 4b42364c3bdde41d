"""A task that moves during a scan of all tasks is found. Otherwise the sweeper would treat its upload as abandoned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.items.item import Items
from avion_media.workers.sweep.actions import find_tasks
from tests.crash.stage import Steps, stepped
from tests.remote_ids import knowing

MEDIUM = new_media_id(JPEG, 1_700_000_000_000).text
Move = Callable[[TaskQueue], Awaitable[object]]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        yield opened


async def lease_of(queue: TaskQueue) -> Lease:
    lease = await queue.take("worker", block_s=0)
    assert lease is not None
    return lease


async def add_dead_letter(queue: TaskQueue) -> None:
    await (await lease_of(queue)).dead_letter("boom")


async def retry(queue: TaskQueue) -> None:
    await (await lease_of(queue)).retry(0, "boom")


async def replay(queue: TaskQueue) -> None:
    (dead_letter,) = await queue.dead_letters.list()
    assert await queue.dead_letters.replay(dead_letter.entry_id)


async def nothing(_queue: TaskQueue) -> None:
    """Leave the task in the stream."""


@pytest.mark.parametrize(
    ("before", "move"),
    [(nothing, add_dead_letter), (nothing, retry), (add_dead_letter, replay), (retry, TaskQueue.promote)],
    ids=["given up", "retried", "replayed", "due"],
)
async def test_at_every_moment_of_the_look(redis: Redis, before: Move, move: Move) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    moment, ended = 0, False
    while not ended:
        await redis.execute("FLUSHALL")
        await queue.enqueue({"media_id": MEDIUM, "type": "thumbnail"})
        await before(queue)
        steps = Steps({moment: lambda: move(queue)})
        # As if it had no dedup marker, like a task of another service.
        never = datetime.max.replace(tzinfo=UTC)
        items = items_on(stepped(redis, steps))
        found = await find_tasks(items, uploads=[MEDIUM], remote=(), complete_since=never)
        assert MEDIUM in {*found.making, *found.given_up}, steps.names[moment]
        moment += 1
        ended = moment >= steps.count


def items_on(redis: Redis) -> Items:
    """Return the media items of a process that needs no store."""
    return knowing(Items(ResourceSlot(Dependency.STORE), redis))


async def test_a_replayed_task_is_found_in_the_backlog(redis: Redis) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    media = [new_media_id(JPEG, 1_700_000_000_000).text for _ in range(12)]  # more than the stream takes
    for each in media:
        await queue.enqueue({"media_id": each, "type": "thumbnail"})
        await add_dead_letter(queue)
    for dead_letter in await queue.dead_letters.list():
        assert await queue.dead_letters.replay(dead_letter.entry_id)
    assert (await queue.stats()).waiting > 0
    never = datetime.max.replace(tzinfo=UTC)
    found = await find_tasks(items_on(redis), uploads=[*media, MEDIUM], remote=(), complete_since=never)
    assert set(found.making) == set(media)
