"""A Redis at its `maxmemory`: what was accepted ends, new work is refused, and the servers count as available."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import trio

from avion_media.backends.queue import BulkJobs, DeadLetterFilter, Lease, TaskQueue
from avion_media.backends.redis import Lock, Redis, RedisFull
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DELETE_QUEUE, DROP_DELETED, PROCESSING_QUEUE, State, Status
from avion_media.items.deletion import DeletionRecords, NoticeChannel
from avion_media.items.deletion.channel import write_heard
from avion_media.items.deletion.notices import HEARD
from avion_media.items.state import MediaEvents, RemoteStateStore, StatusStore
from avion_media.process.replicas import Replicas
from tests.integration.backends.queue.conftest import Client, infos
from tests.remote_ids import remote_id_for
from trio_redis.tests.fixtures import Memory

MEDIA_ID = str(new_media_id(JPEG, 1_700_000_000_000))


async def taken(queue: TaskQueue) -> Lease:
    lease = await queue.take("w", block_s=0)
    assert lease is not None
    return lease


async def test_every_way_a_task_can_end_stays_open(redis: Redis, queue: TaskQueue, memory: Memory) -> None:
    for number in range(12):
        await queue.enqueue({"media_id": MEDIA_ID, "owner": f"o{number}"}, dedup_key=f"k{number}")
    await queue.delay([({"media_id": MEDIA_ID}, "due", time.time() - 1)])
    left = await taken(queue)
    memory.fill()
    janitor = queue.janitor_lock("w", 60.0)
    assert await janitor.acquire()
    assert await queue.settle(tenant_cap=0, slots=4, idle_s=60) == 1
    assert await janitor.acquire()
    await left.renew()
    await left.complete()
    await (await taken(queue)).retry(0.0, "x")
    await (await taken(queue)).defer(0.0, "x")
    await (await taken(queue)).release()
    await (await taken(queue)).dead_letter("internal: x")
    await queue.enqueue({"media_id": MEDIA_ID}, follow_up=True)
    assert await queue.promote() == 2
    await queue.settle(tenant_cap=0, slots=4, idle_s=60)
    done = 0
    while (lease := await queue.take("w", block_s=0)) is not None:
        await lease.complete()
        done += 1
    assert done == 12
    assert (await queue.stats()).depth == 0
    assert redis.available.up


async def test_what_a_task_does_on_its_way_stays_possible(redis: Redis, memory: Memory) -> None:
    statuses, events, remote = StatusStore(redis), MediaEvents(redis), RemoteStateStore(redis)
    memory.fill()
    assert await statuses.put(Status(MEDIA_ID, State.PROCESSING), 60)
    assert await events.publish("media.ready", MEDIA_ID, {})
    await remote.mark_validated(remote_id_for("https://remote.example/"), 60)
    lock = Lock(redis, "lock", ttl_s=60)
    assert await lock.acquire()
    assert not await Lock(redis, "lock", ttl_s=60).acquire()
    assert await TaskQueue(redis, DELETE_QUEUE).delay([({"media_id": MEDIA_ID}, "d", time.time())])
    assert await Replicas(redis).read(time.time()) == []


async def test_a_message_of_the_channel_is_written_as_soon_as_there_is_memory(
    redis: Redis, other: Client, memory: Memory
) -> None:
    channel = NoticeChannel(redis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(channel.listen, gap=lambda _seconds: None, lost=lambda: None))
        with trio.fail_after(10):
            while not await redis.execute("PUBLISH", DROP_DELETED, "{}"):
                await trio.lowlevel.checkpoint()
        memory.fill()
        other.config_resetstat()
        nursery.start_soon(channel.write)
        with trio.fail_after(10):
            while not infos(other, "errorstats", "errorstat_OOM"):
                await trio.lowlevel.checkpoint()
            assert other.xlen(HEARD) == 0
            memory.limit(0)
            while other.xlen(HEARD) == 0:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_new_work_is_refused_and_changes_nothing(
    redis: Redis, queue: TaskQueue, other: Client, memory: Memory
) -> None:
    await queue.enqueue({"media_id": MEDIA_ID})
    await (await taken(queue)).dead_letter("internal: x")
    (dead_letter,) = await queue.dead_letters.list()
    memory.fill()
    records, jobs = DeletionRecords(redis), BulkJobs(redis, PROCESSING_QUEUE)
    refused: list[Any] = [
        lambda: queue.enqueue({"media_id": MEDIA_ID}, dedup_key="k"),
        lambda: queue.dead_letters.replay(dead_letter.entry_id),
        lambda: jobs.begin_replay(DeadLetterFilter(), rate=1.0, by="me"),
        lambda: records.mark([MEDIA_ID], delay_s=60),
        lambda: write_heard(redis, [(b"{}", 0)]),
        records.issue_undelete,
        lambda: redis.execute("SET", "k", "v"),
    ]
    for call in refused:
        with pytest.raises(RedisFull, match="it is full"):
            await call()
        assert redis.available.up
    memory.limit(0)
    assert (await queue.stats()).depth == 0
    assert await records.get(MEDIA_ID) is None
    assert await queue.enqueue({"media_id": MEDIA_ID}, dedup_key="k")
