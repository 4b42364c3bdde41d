"""Dead letters are found by their media item: the script that makes one writes it into the index."""

from __future__ import annotations

from typing import Any

import pytest

from avion_media.backends.queue import QueueKeys, TaskQueue, task_scan
from avion_media.backends.queue.task_scan import FoundTask, find_dead_letters
from avion_media.backends.redis import Redis
from avion_media.common.formats import PNG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import CACHE_QUEUE, PROCESSING_QUEUE
from tests.remote_ids import known_remote_ids, remote_id_for

KEYS = QueueKeys(PROCESSING_QUEUE)
URL = "https://remote.example/a.png"


def some_ids(count: int) -> list[str]:
    return [str(new_media_id(PNG, 1_790_000_000_000 + number)) for number in range(count)]


async def given_up(queue: TaskQueue, fields: dict[str, str]) -> None:
    await queue.enqueue(fields)
    lease = await queue.take("worker", 0)
    assert lease is not None
    await lease.dead_letter("internal: a test")


async def found(redis: Redis, *media_ids: str) -> list[FoundTask]:
    return await find_dead_letters(redis, PROCESSING_QUEUE, media_ids)


@pytest.fixture(autouse=True)
def in_small_pages(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    other.flushall()
    monkeypatch.setattr(task_scan, "_AT_ONCE", 2)


async def test_they_are_found_until_they_are_replayed_or_dropped(redis: Redis) -> None:
    queue, (once, twice, never) = TaskQueue(redis, PROCESSING_QUEUE), some_ids(3)
    for media_id in (once, twice, twice):
        await given_up(queue, {"media_id": media_id, "type": "thumbnail"})
    assert [each.entry.task.subject for each in await found(redis, once, twice, never)] == [once, twice, twice]
    dead_letters = await queue.dead_letters.list()
    assert await queue.dead_letters.replay(dead_letters[0].entry_id)
    assert await queue.dead_letters.drop(dead_letters[1].entry_id)
    (left,) = await found(redis, once, twice, never)
    assert (left.entry.task.subject, left.entry.entry_id) == (twice, dead_letters[2].entry_id)


async def test_a_media_item_with_many_is_read_in_pages(redis: Redis) -> None:
    queue, (one, many, another) = TaskQueue(redis, PROCESSING_QUEUE), some_ids(3)
    for media_id in (one, *[many] * 7, another):
        await given_up(queue, {"media_id": media_id, "type": "thumbnail"})
    letters = await found(redis, one, many, another)
    assert [each.entry.task.subject for each in letters] == [one, *[many] * 7, another]
    assert len({each.entry.entry_id for each in letters}) == 9


async def test_a_remote_media_item_is_found_by_its_id(redis: Redis) -> None:
    await given_up(
        TaskQueue(redis, CACHE_QUEUE, remote_ids=known_remote_ids()), {"remote_url": "HTTPS://Remote.example:443/a.png"}
    )
    (letter,) = await find_dead_letters(redis, CACHE_QUEUE, [str(remote_id_for(URL))])
    assert letter.entry.error == "internal: a test"


async def test_one_that_is_malformed_is_found_too(redis: Redis, other: Any) -> None:
    (media_id,), queue = some_ids(1), TaskQueue(redis, PROCESSING_QUEUE)
    await queue.ensure_group()
    other.xadd(PROCESSING_QUEUE, {"media_id": media_id, **{f"f{number}": "" for number in range(100)}})
    assert await queue.take("worker", 0) is None
    (letter,) = await found(redis, media_id)
    assert letter.entry.error.startswith("malformed_task: ")


async def test_members_without_a_dead_letter_do_not_pile_up(redis: Redis, other: Any) -> None:
    queue, (media_id,) = TaskQueue(redis, PROCESSING_QUEUE), some_ids(1)
    for first in range(0, 5_000, 1_000):
        other.zadd(KEYS.dead_letter_index, {f"gone\0{number}-1": 0 for number in range(first, first + 1_000)})
    for _ in range(50):
        await given_up(queue, {"media_id": media_id, "type": "thumbnail"})
    assert other.zcard(KEYS.dead_letter_index) <= 1_000 + 2 * 50
    assert len(await found(redis, media_id)) == 50
