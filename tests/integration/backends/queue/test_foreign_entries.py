"""What other services write is read within bounds: 4,000 fields, or too many bytes, are a dead letter and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

import avion_media
import trio_redis
from avion_media.backends.queue import QueueKeys, TaskQueue
from avion_media.backends.queue.entries import HISTORY, MAX_BYTES, MAX_FIELDS, delayed_member
from avion_media.backends.redis import Redis
from avion_media.common.tasks import CONSUMER_GROUP, DROP_DELETED, PROCESSING_QUEUE
from avion_media.items.deletion import NoticeStream
from tests.integration.backends.queue.conftest import Client, info, taken_over

KEYS = QueueKeys(PROCESSING_QUEUE)
GOOD = {"task_id": "good", "media_id": "m", "type": "thumbnail"}
MANY = {"task_id": "bad", "media_id": "m", **{f"field {number}": "x" * 5 for number in range(4000)}}
LARGE = {"task_id": "bad", "media_id": "m", "note": "x" * 2 * MAX_BYTES}
OVERSIZED = pytest.mark.parametrize("entry", [MANY, LARGE], ids=["4,000 fields", "32 KiB"])


async def next_of(queue: TaskQueue) -> str | None:
    lease = await queue.take("c", block_s=0)
    return None if lease is None else lease.task.task_id


def assert_buried_truncated(other: Client) -> None:
    ((_, dead_letter),) = other.xrange(KEYS.dead_letters)
    assert (dead_letter["task_id"], dead_letter["media_id"], dead_letter["attempts"]) == ("bad", "m", "0")
    assert dead_letter["error"].startswith("malformed_task: ")
    assert len(dead_letter) <= MAX_FIELDS + 3
    assert sum(len(name) + len(value) for name, value in dead_letter.items()) <= MAX_BYTES + 200
    assert other.xpending(PROCESSING_QUEUE, CONSUMER_GROUP)["pending"] == 0


@OVERSIZED
async def test_on_the_stream(queue: TaskQueue, other: Client, entry: dict[str, str]) -> None:
    await queue.ensure_group()
    other.xadd(PROCESSING_QUEUE, entry)
    other.xadd(PROCESSING_QUEUE, GOOD)
    assert await next_of(queue) == "good"
    other.xack(PROCESSING_QUEUE, CONSUMER_GROUP, other.xrange(PROCESSING_QUEUE)[-1][0])
    assert_buried_truncated(other)


@OVERSIZED
async def test_on_the_stream_while_a_reader_waits(queue: TaskQueue, other: Client, entry: dict[str, str]) -> None:
    await queue.ensure_group()
    taken: list[str] = []

    async def wait() -> None:
        lease = await queue.take("c", block_s=20)
        assert lease is not None
        taken.append(lease.task.task_id)
        await lease.complete()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.to_thread.run_sync(_until_blocked, other)
            other.xadd(PROCESSING_QUEUE, entry)
            other.xadd(PROCESSING_QUEUE, GOOD)
    assert taken == ["good"]
    assert_buried_truncated(other)


def _until_blocked(other: Client) -> None:
    while info(other, "clients", "blocked_clients") == 0:
        pass


@OVERSIZED
async def test_left_by_a_dead_reader(queue: TaskQueue, other: Client, entry: dict[str, str]) -> None:
    await queue.ensure_group()
    other.xadd(PROCESSING_QUEUE, entry)
    other.xadd(PROCESSING_QUEUE, GOOD)
    other.xreadgroup(CONSUMER_GROUP, "of another make", {PROCESSING_QUEUE: ">"})
    lease = await taken_over(queue, "c", idle_s=0)
    assert lease is not None
    assert lease.task.task_id == "good"
    await lease.complete()
    assert_buried_truncated(other)


@OVERSIZED
async def test_in_the_delayed_set(queue: TaskQueue, other: Client, entry: dict[str, str]) -> None:
    await queue.ensure_group()
    other.zadd(KEYS.delayed, {delayed_member(entry): 1, delayed_member(GOOD): 2})
    assert await queue.promote() == 2
    assert await next_of(queue) == "good"
    other.xack(PROCESSING_QUEUE, CONSUMER_GROUP, other.xrange(PROCESSING_QUEUE)[-1][0])
    ((_, dead_letter),) = other.xrange(KEYS.dead_letters)
    assert dead_letter["error"].startswith("malformed_task: ")
    assert len(dead_letter) <= MAX_FIELDS + 3


@pytest.mark.parametrize(
    "member", ["x" * (1 << 20), "[" * 5000, '{"a": ' * 2000, "[1, 2]", "7", '"text"', "null", '{"a": "b"}', '["a"]', ""]
)
async def test_members_of_the_delayed_set_that_are_no_tasks(queue: TaskQueue, other: Client, member: str) -> None:
    await queue.ensure_group()
    other.zadd(KEYS.delayed, {member: 1, delayed_member(GOOD): 2})
    assert await queue.promote() == 2
    assert await next_of(queue) == "good"
    ((_, dead_letter),) = other.xrange(KEYS.dead_letters)
    assert dead_letter["error"].startswith("malformed_task: ")
    assert dead_letter.get("member", "") == member[:MAX_BYTES][: MAX_BYTES - len("member")]


@OVERSIZED
async def test_among_the_dead_letters(queue: TaskQueue, other: Client, entry: dict[str, str]) -> None:
    entry_id = other.xadd(KEYS.dead_letters, entry)
    assert await queue.dead_letters.show(entry_id) is not None
    assert await queue.dead_letters.replay(entry_id)
    ((_, again),) = other.xrange(PROCESSING_QUEUE)
    assert again["task_id"] == "bad"
    assert len(again) <= MAX_FIELDS + 2


async def test_one_name_4000_times(queue: TaskQueue, other: Client) -> None:
    """A stream takes one name many times. Only the first ``task_id`` does not count, as with names of the history."""
    await queue.ensure_group()
    other.execute_command("XADD", PROCESSING_QUEUE, "*", "media_id", "m", *["task_id", "bad"] * 4000)
    other.xadd(PROCESSING_QUEUE, GOOD)
    assert await next_of(queue) == "good"
    other.xack(PROCESSING_QUEUE, CONSUMER_GROUP, other.xrange(PROCESSING_QUEUE)[-1][0])
    assert_buried_truncated(other)
    other.delete(PROCESSING_QUEUE, KEYS.dead_letters)

    entry_id = other.execute_command("XADD", KEYS.dead_letters, "*", *["task_id", "bad"] * 4000)
    assert await queue.dead_letters.replay(entry_id)
    ((_, again),) = other.xrange(PROCESSING_QUEUE)
    assert again["task_id"] == "bad"


async def test_on_the_stream_of_deletions(redis: Redis, other: Client) -> None:
    stream = NoticeStream(redis)
    await stream.ensure_group()
    other.xadd(DROP_DELETED, MANY)
    other.xadd(DROP_DELETED, {**MANY, "event": json.dumps({"media_ids": ["01ARZ3NDEKTSV4RRFFQ69G5FAV"]})})
    drops = await stream.take("c", block_s=0.1)
    assert [bool(drop.problem) for drop in drops] == [True, False]
    await stream.done(*drops)


async def test_the_largest_task_goes_through_every_stage(queue: TaskQueue, other: Client) -> None:
    """What is added on the way does not count: no task grows beyond the bounds by being tried again."""
    await queue.ensure_group()
    fields = {"media_id": "m", **{f"f{number:02}": "x" for number in range(MAX_FIELDS - 2)}}
    fields["last"] = "x" * (MAX_BYTES - sum(len(name) + len(value) for name, value in fields.items()) - 4)
    other.xadd(PROCESSING_QUEUE, fields)
    for _ in range(3):
        lease = await queue.take("c", block_s=0)
        assert lease is not None
        await lease.retry(0, "é" * 1000, unavailable_since=1.0)
        assert await queue.promote() == 1
        lease = await queue.take("c", block_s=0)
        assert lease is not None
        assert lease.task.fields == fields
        await lease.dead_letter("é" * 1000)
        (dead_letter,) = await queue.dead_letters.list()
        assert dead_letter.task.fields == fields
        assert await queue.dead_letters.replay(dead_letter.entry_id)


async def test_history_that_another_service_writes_is_bounded_too(queue: TaskQueue, other: Client) -> None:
    await queue.ensure_group()
    for name in HISTORY:
        other.xadd(PROCESSING_QUEUE, {"task_id": "bad", "media_id": "m", name: "1" * 2 * MAX_BYTES})
    assert await next_of(queue) is None
    assert other.xlen(KEYS.dead_letters) == len(HISTORY)


def test_one_place_unpacks_lists() -> None:
    """Lua's stack takes 8,000 values: each `unpack` must be bounded. The commands of this service are."""
    packages = [Path(avion_media.__file__).parent, Path(trio_redis.__file__).parent]
    found = {
        str(each.relative_to(package.parent)): each.read_text().count("unpack(")
        for package in packages
        for each in package.rglob("*.lua")
        if "build" not in each.relative_to(package).parts  # what a build of the wheel leaves
    }
    assert {name: count for name, count in found.items() if count} == {
        "avion_media/backends/queue/lua/_prelude.lua": 2,
        "trio_redis/lua/when_full.lua": 1,
        "avion_media/items/private/lua/write.lua": 1,  # 2,000 at once
    }
