"""Dead letters are found by their media item, also those that other services wrote."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from avion_media.backends.queue import QueueKeys, TaskQueue, task_scan
from avion_media.backends.queue.task_scan import DeadLetterIndex
from avion_media.backends.redis import Redis
from avion_media.common.formats import PNG
from avion_media.common.ids import new_media_id, remote_id_for
from avion_media.common.tasks import CACHE_QUEUE, PROCESSING_QUEUE

KEYS = QueueKeys(PROCESSING_QUEUE)
URL = "https://remote.example/a.png"


def some_ids(count: int) -> list[str]:
    return [str(new_media_id(PNG, 1_790_000_000_000 + number)) for number in range(count)]


async def given_up(queue: TaskQueue, fields: dict[str, str]) -> None:
    await queue.enqueue(fields)
    lease = await queue.take("worker", 0)
    assert lease is not None
    await lease.dead_letter("internal: a test")


def foreign(other: Any, media_ids: list[str]) -> None:
    for media_id in media_ids:
        other.xadd(KEYS.dead_letters, {"media_id": media_id, "error": "poison: a test"})


@pytest.fixture(autouse=True)
def in_small_pages(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    other.flushall()
    for name, value in {"_PAGE": 3, "_AT_ONCE": 2, "_STALE": 4, "_PRUNED": 50}.items():
        monkeypatch.setattr(task_scan, name, value)


async def test_they_are_found_until_they_are_replayed_or_dropped(redis: Redis) -> None:
    queue, index, (once, twice, never) = (
        TaskQueue(redis, PROCESSING_QUEUE),
        DeadLetterIndex(redis, KEYS.stream),
        some_ids(3),
    )
    for media_id in (once, twice, twice):
        await given_up(queue, {"media_id": media_id, "type": "thumbnail"})
    assert [each.subject for each in await index.find([once, twice, never])] == [once, twice, twice]
    dead_letters = await queue.dead_letters.list()
    assert await queue.dead_letters.replay(dead_letters[0].entry_id)
    assert await queue.dead_letters.drop(dead_letters[1].entry_id)
    (left,) = await index.find([once, twice, never])
    assert (left.subject, left.entry.entry_id) == (twice, dead_letters[2].entry_id)


async def test_a_media_item_with_many_is_read_in_pages(redis: Redis, other: Any) -> None:
    one, many, another = some_ids(3)
    foreign(other, [one, *[many] * 7, another])
    found = await DeadLetterIndex(redis, KEYS.stream).find([one, many, another])
    assert [each.subject for each in found] == [one, *[many] * 7, another]
    assert len({each.entry.entry_id for each in found}) == 9


async def test_a_remote_media_item_is_found_by_its_id(redis: Redis) -> None:
    await given_up(TaskQueue(redis, CACHE_QUEUE), {"remote_url": "HTTPS://Remote.example:443/a.png"})
    (found,) = await DeadLetterIndex(redis, CACHE_QUEUE).find([str(remote_id_for(URL))])
    assert found.entry.error == "internal: a test"


async def test_several_replicas_read_on_at_the_same_time(redis: Redis, other: Any) -> None:
    media_ids = some_ids(20)
    foreign(other, [*media_ids[:10], "of no media item"])
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(DeadLetterIndex(redis, KEYS.stream).advance)
    foreign(other, media_ids[10:])
    found = await DeadLetterIndex(redis, KEYS.stream).find(media_ids)
    assert [each.subject for each in found] == media_ids


async def test_a_cancel_between_any_two_steps_loses_none(redis: Redis, other: Any) -> None:
    media_ids = some_ids(8)
    foreign(other, media_ids)
    steps = 0
    while True:
        other.delete(KEYS.dead_letter_index)
        with trio.CancelScope() as scope:
            await DeadLetterIndex(_Cancelling(redis, scope, steps), KEYS.stream).advance()  # type: ignore[arg-type]
        await DeadLetterIndex(redis, KEYS.stream).advance()  # as a lookup does
        assert len(await DeadLetterIndex(redis, KEYS.stream).find(media_ids)) == len(media_ids), steps
        if not scope.cancelled_caught:
            break
        steps += 1
    assert steps > len(media_ids)


async def test_members_without_a_dead_letter_do_not_pile_up(redis: Redis, other: Any) -> None:
    media_ids, index = some_ids(40), DeadLetterIndex(redis, KEYS.stream)
    foreign(other, media_ids)
    await index.advance()
    other.xtrim(KEYS.dead_letters, maxlen=2, approximate=False)
    await index.advance()
    assert other.zcard(KEYS.dead_letter_index) == 2 + 1  # and how far the stream was read
    assert [each.subject for each in await index.find(media_ids)] == media_ids[-2:]


class _Cancelling:
    """A Redis whose user is cancelled after some calls."""

    def __init__(self, redis: Redis, scope: trio.CancelScope, after: int) -> None:
        self._redis = redis
        self._scope = scope
        self._left = after

    async def execute(self, *command: Any, **options: Any) -> Any:
        reply = await self._redis.execute(*command)
        self._left -= 1
        if self._left < 0:
            self._scope.cancel()
            await trio.lowlevel.checkpoint()
        return reply
