"""Ways in and out of a queue: once, later, again, never."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from avion_media.backends.queue import Lease, QueueKeys, QueueStats, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.tasks import CACHE_QUEUE, CONSUMER_GROUP, DELETE_QUEUE, PROCESSING_QUEUE
from tests.integration.backends.queue.conftest import Client, info
from tests.service.published import fields_of
from trio_telemetry import parse_traceparent

FIELDS = {"media_id": "01HZX", "type": "thumbnail"}
KEYS = QueueKeys(PROCESSING_QUEUE)


async def taken(queue: TaskQueue, consumer: str = "a") -> Lease:
    with trio.fail_after(10):
        lease = await queue.take(consumer, block_s=5)
    assert lease is not None
    return lease


def test_keys_are_those_of_the_contract() -> None:
    assert KEYS.delayed == "{media_processing_queue}:delayed"
    assert KEYS.dead_letters == "{media_processing_queue}:dlq"


async def test_a_read_that_finds_nothing_ends(queue: TaskQueue) -> None:
    with trio.fail_after(20):
        assert await queue.take("a", block_s=0.01) is None
        assert await queue.take("a", block_s=0) is None


async def test_a_waiting_reader_gets_what_comes(queue: TaskQueue, other: Client) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(taken, queue)
        with trio.fail_after(20):
            while info(other, "clients", "blocked_clients") == 0:
                await trio.lowlevel.checkpoint()
        other.xadd(PROCESSING_QUEUE, FIELDS)


async def test_ensure_group_is_idempotent_and_begins_at_the_beginning(queue: TaskQueue, other: Client) -> None:
    other.xadd(PROCESSING_QUEUE, FIELDS)  # a producer was there before any of us
    assert await queue.ensure_group()
    assert not await queue.ensure_group()
    assert (await taken(queue)).task.fields == FIELDS


# Once


async def test_one_key_makes_one_task(queue: TaskQueue, other: Client) -> None:
    first = await queue.enqueue(FIELDS, dedup_key="01HZX")
    assert await queue.enqueue(FIELDS, dedup_key="01HZX") == first
    assert await queue.enqueue(FIELDS, dedup_key="01HZY") != first
    assert other.xlen(PROCESSING_QUEUE) == 2
    assert other.ttl(KEYS.dedup_marker("01HZX")) > 86_400


async def test_callers_at_the_same_time_share_one_task(queue: TaskQueue, other: Client) -> None:
    named: list[str] = []

    async def ask() -> None:
        named.append(await queue.enqueue(FIELDS, dedup_key="01HZX"))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert len(set(named)) == 1
    assert other.xlen(PROCESSING_QUEUE) == 1


@pytest.mark.parametrize("ending", ["complete", "dead_letter"])
async def test_a_key_is_free_again_a_minute_after_the_end(queue: TaskQueue, other: Client, ending: str) -> None:
    first = await queue.enqueue(FIELDS, dedup_key="k")
    lease = await taken(queue)
    await lease.retry(0.0, "failed")
    assert other.ttl(KEYS.dedup_marker("k")) > 86_400  # alive, in the delayed set
    await queue.promote()
    lease = await taken(queue)
    await (lease.complete() if ending == "complete" else lease.dead_letter("failed"))
    assert await queue.enqueue(FIELDS, dedup_key="k") == first
    assert 0 < other.pttl(KEYS.dedup_marker("k")) <= 60_000
    other.delete(KEYS.dedup_marker("k"))
    assert await queue.enqueue(FIELDS, dedup_key="k") != first


# Later and again


async def test_a_retry_keeps_the_task_and_counts_the_attempt(queue: TaskQueue, other: Client) -> None:
    task_id = await queue.enqueue(FIELDS, traceparent="00-abc-def-01")
    first = await taken(queue)
    await first.retry(0.0, "ffmpeg said no")
    assert other.xlen(PROCESSING_QUEUE) == 0
    assert await queue.promote() == 1
    again = await taken(queue)
    assert (again.task.task_id, again.task.fields, again.task.traceparent) == (task_id, FIELDS, "00-abc-def-01")
    assert (again.attempt, again.deaths) == (2, 0)
    assert other.xrange(PROCESSING_QUEUE)[0][1]["error"] == "ffmpeg said no"
    assert again.first_seen == pytest.approx(first.first_seen, abs=0.001)


async def test_a_retry_for_no_fault_of_the_task_is_free(queue: TaskQueue) -> None:
    await queue.enqueue(FIELDS)
    for _ in range(4):
        await (await taken(queue)).retry(0.0, "store away", count=False)
        await queue.promote()
    assert (await taken(queue)).attempt == 1


async def test_a_retry_waits_for_its_backoff(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    await (await taken(queue)).retry(30.0, "failed")
    assert await queue.promote() == 0
    ((_, due),) = other.zrange(KEYS.delayed, 0, -1, withscores=True)
    assert due == pytest.approx(time.time() + 30, abs=5)
    assert (await queue.stats()).next_due == due


async def test_errors_that_travel_are_bounded(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    await (await taken(queue)).retry(0.0, "x" * 100_000)
    ((member, _),) = other.zrange(KEYS.delayed, 0, -1, withscores=True)
    assert len(member) < 2000


async def test_delayed_tasks_collapse_and_the_first_date_stands(redis: Redis, other: Client) -> None:
    replicas = [TaskQueue(redis, DELETE_QUEUE) for _ in range(3)]
    due = time.time() + 3600
    added = [
        await replica.delay([({"media_id": "01HZX"}, "01HZX", due + number)]) for number, replica in enumerate(replicas)
    ]
    assert added == [1, 0, 0]
    ((member, score),) = other.zrange(QueueKeys(DELETE_QUEUE).delayed, 0, -1, withscores=True)
    task = fields_of(member)
    assert parse_traceparent(task.pop("traceparent"))
    assert task == {"task_id": "01HZX", "media_id": "01HZX"}
    assert score == pytest.approx(due, abs=0.001)


async def test_many_tasks_are_delayed_in_steps(redis: Redis, other: Client) -> None:
    queue = TaskQueue(redis, DELETE_QUEUE)
    tasks = [({"media_id": f"m{number}"}, f"t{number}", 4e9) for number in range(1201)]
    assert await queue.delay(tasks) == 1201
    assert await queue.delay(tasks) == 0
    assert other.zcard(QueueKeys(DELETE_QUEUE).delayed) == 1201


async def test_two_replicas_promote_each_task_once(redis: Redis, other: Client) -> None:
    replicas = [TaskQueue(redis, DELETE_QUEUE) for _ in range(2)]
    for number in range(500):
        await replicas[0].delay([({"media_id": f"m{number}"}, f"m{number}", time.time() - 1)])
    moved = 0

    async def promote(replica: TaskQueue) -> None:
        nonlocal moved
        while batch := await replica.promote(batch=7):
            assert batch <= 7
            moved += batch

    async with trio.open_nursery() as nursery:
        for replica in replicas:
            nursery.start_soon(promote, replica)
    assert moved == 500
    promoted = []
    while lease := await replicas[0].take("a", block_s=0):
        promoted.append(lease.task.fields["media_id"])
        await lease.complete()
    assert sorted(promoted) == sorted(f"m{number}" for number in range(500))
    assert other.zcard(QueueKeys(DELETE_QUEUE).delayed) == 0


@pytest.mark.parametrize(
    "member", ["not JSON", "[]", "{}", "17", '["a", {"b": 1}]', '["a"]', "[" * 5000, '["a", "\\ud800"]', ""]
)
async def test_delayed_members_that_cannot_be_read_become_dead_letters(
    queue: TaskQueue, other: Client, member: str
) -> None:
    other.zadd(KEYS.delayed, {member: 1})
    await queue.delay([(FIELDS, "good", 1.0)])
    assert await queue.promote() == 2
    assert (await taken(queue)).task.task_id == "good"
    (dead_letter,) = await queue.dead_letters.list()
    assert dead_letter.error == "malformed_task: not a JSON array of fields"
    assert dead_letter.task.fields == {"member": member}


# Foreign entries


async def test_a_foreign_entry_with_the_contracts_fields_works(queue: TaskQueue, other: Client) -> None:
    other.xadd(PROCESSING_QUEUE, {"task_id": "t1", **FIELDS})
    lease = await taken(queue)
    assert (lease.task.task_id, lease.task.fields, lease.task.traceparent) == ("t1", FIELDS, "")
    await lease.retry(0.0, "failed")
    await queue.promote()
    assert (await taken(queue)).attempt == 2


async def test_a_missing_task_id_comes_from_the_entry_and_stays(queue: TaskQueue, other: Client) -> None:
    entry_id = other.xadd(PROCESSING_QUEUE, FIELDS)
    lease = await taken(queue)
    assert lease.task.task_id == entry_id
    await lease.retry(0.0, "failed")
    await queue.promote()
    assert (await taken(queue)).task.task_id == entry_id


@pytest.mark.parametrize(
    "fields",
    [
        {"nonsense": "1"},
        {"task_id": "t1"},
        {"task_id": "t1", "media_id": ""},
        {"attempts": "many", "first_seen": "yesterday"},
        {b"\xff\xfe": b"\x00\xff"},
        {"media_ID": "x" * 10_000},
    ],
)
async def test_entries_that_nobody_can_do_become_dead_letters_on_the_way(
    queue: TaskQueue, other: Client, fields: Any
) -> None:
    other.xadd(PROCESSING_QUEUE, fields)
    other.xadd(PROCESSING_QUEUE, FIELDS)
    assert (await taken(queue)).task.fields == FIELDS
    (dead_letter,) = await queue.dead_letters.list()
    assert dead_letter.error.startswith("malformed_task: no media_id")
    assert other.xlen(PROCESSING_QUEUE) == 1


@pytest.mark.parametrize("value", ["-3", "nan", "inf", "1e400", "99999999999999999999", "", "two"])
async def test_history_that_is_nonsense_counts_for_nothing(queue: TaskQueue, other: Client, value: str) -> None:
    other.xadd(PROCESSING_QUEUE, {**FIELDS, "attempts": value, "deaths": value, "first_seen": value, "replays": value})
    lease = await taken(queue)
    assert (lease.attempt, lease.deaths) == (1, 0)
    assert lease.first_seen == pytest.approx(time.time(), abs=60)
    await lease.retry(0.0, "failed")


async def test_each_queue_requires_its_own_fields(redis: Redis, other: Client) -> None:
    cache = TaskQueue(redis, CACHE_QUEUE)
    other.xadd(CACHE_QUEUE, {"task_id": "t", "media_id": "01HZX"})
    other.xadd(CACHE_QUEUE, {"task_id": "t", "remote_url": "https://example.org/a.png"})
    assert (await taken(cache)).task.fields == {"remote_url": "https://example.org/a.png"}


# Dead letters


async def buried(queue: TaskQueue, error: str = "corrupt: no end of image") -> str:
    task_id = await queue.enqueue(FIELDS, traceparent="00-abc-def-01")
    await (await taken(queue)).dead_letter(error)
    return task_id


async def test_a_dead_letter_has_the_fields_of_the_contract(queue: TaskQueue, other: Client) -> None:
    task_id = await buried(queue)
    ((_, fields),) = other.xrange(KEYS.dead_letters)
    assert (
        fields.items() >= {**FIELDS, "task_id": task_id, "error": "corrupt: no end of image", "attempts": "1"}.items()
    )
    assert float(fields["failed_at"]) == pytest.approx(time.time(), abs=60)


async def test_dead_letters_are_listed_in_pages(queue: TaskQueue) -> None:
    named = [await buried(queue) for _ in range(5)]
    first = await queue.dead_letters.list(count=3)
    rest = await queue.dead_letters.list(count=3, after=first[-1].entry_id)
    assert [dead_letter.task.task_id for dead_letter in [*first, *rest]] == named
    assert await queue.dead_letters.show(first[0].entry_id) == first[0]


async def test_a_replay_opens_all_attempts_and_keeps_the_history(queue: TaskQueue, other: Client) -> None:
    task_id = await buried(queue)
    for number in (1, 2):
        (dead_letter,) = await queue.dead_letters.list()
        assert await queue.dead_letters.replay(dead_letter.entry_id)
        assert not await queue.dead_letters.replay(dead_letter.entry_id)
        lease = await taken(queue)
        assert (lease.task.task_id, lease.task.fields, lease.attempt) == (task_id, FIELDS, 1)
        assert other.xrange(PROCESSING_QUEUE)[0][1]["error"] == "corrupt: no end of image"
        assert lease.first_seen == pytest.approx(dead_letter.first_seen, abs=0.001)
        await lease.dead_letter("corrupt: no end of image")
        assert (await queue.dead_letters.list())[0].replays == number


async def test_a_dead_letter_can_be_dropped(queue: TaskQueue) -> None:
    await buried(queue)
    (dead_letter,) = await queue.dead_letters.list()
    assert await queue.dead_letters.drop(dead_letter.entry_id)
    assert not await queue.dead_letters.drop(dead_letter.entry_id)
    assert await queue.dead_letters.list() == []


@pytest.mark.parametrize("entry_id", ["", "-", "+", "nonsense", "1", "1-1\n", "(1-1"])
async def test_ids_that_are_none_name_no_dead_letter(queue: TaskQueue, entry_id: str) -> None:
    await buried(queue)
    assert await queue.dead_letters.show(entry_id) is None
    assert not await queue.dead_letters.replay(entry_id)
    assert not await queue.dead_letters.drop(entry_id)


async def test_dead_letters_are_bounded(queue: TaskQueue, other: Client) -> None:
    fill = "for number = 1, 100300 do redis.call('XADD', KEYS[1], number .. '-1', 'media_id', 'm') end"
    other.eval(fill, 1, KEYS.dead_letters)
    await buried(queue)
    assert 100_000 <= other.xlen(KEYS.dead_letters) <= 100_200  # Redis trims whole nodes of about a hundred
    (newest,) = await queue.dead_letters.newest(1)
    assert newest.error


# Looking at it


async def test_stats_of_what_is_not_there(queue: TaskQueue) -> None:
    assert await queue.stats() == QueueStats()


async def test_stats_count_everything(queue: TaskQueue) -> None:
    for _ in range(5):
        await queue.enqueue(FIELDS)
    await (await taken(queue, "a")).complete()
    await (await taken(queue, "a")).retry(60.0, "failed")
    await (await taken(queue, "a")).dead_letter("failed")
    held = await taken(queue, "b")
    stats = await queue.stats()
    assert (stats.depth, stats.lag, stats.pending) == (2, 1, 1)
    assert (stats.delayed, stats.dead_letters, stats.consumers) == (1, 1, 2)
    assert 0 <= stats.oldest_age_s < 60
    assert stats.next_due == pytest.approx(time.time() + 60, abs=5)
    await held.complete()


async def test_a_consumer_that_is_silent_for_too_long_is_not_counted(queue: TaskQueue) -> None:
    """It stays in the group for a while: after a crash of all workers nothing else says that none is left."""
    await queue.enqueue(FIELDS)
    held = await taken(queue, "a")
    for idle_s, counted in ((60.0, 1), (0.0, 0), (60.0, 1)):
        await queue.settle(tenant_cap=0, slots=1, idle_s=idle_s)
        assert (await queue.stats()).consumers == counted
    await held.complete()


async def test_stream_and_backlog_are_the_depth_whatever_the_order_in_which_tasks_end(
    queue: TaskQueue, other: Client
) -> None:
    """XINFO's lag is unknown after this."""
    for _ in range(6):
        await queue.enqueue(FIELDS)
    first, second, third = [await taken(queue, consumer) for consumer in "abc"]
    await third.complete()
    await first.retry(60.0, "failed")
    stats = await queue.stats()
    assert (other.xlen(PROCESSING_QUEUE), stats.depth, stats.lag, stats.pending) == (4, 4, 3, 1)
    await second.complete()
    assert other.xlen(PROCESSING_QUEUE) == (await queue.stats()).depth == 3


async def test_only_consumers_with_empty_hands_are_forgotten(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "busy")
    await (await taken(queue, "gone")).complete()
    assert await queue.remove_idle_consumers(idle_s=3600) == 0
    assert await queue.remove_idle_consumers(idle_s=0) == 1
    assert [each["name"] for each in other.xinfo_consumers(PROCESSING_QUEUE, CONSUMER_GROUP)] == ["busy"]
    await lease.complete()
