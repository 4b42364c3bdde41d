"""A cluster whose slots move and whose masters die in the middle of work."""

from __future__ import annotations

import pytest
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import PROCESSING_QUEUE, State, Status
from avion_media.items.state import StatusStore
from tests.integration.backends.topology.conftest import Workers
from trio_redis import key_slot
from trio_redis.tests.clusters import (
    begin_move,
    cluster,
    cluster_of_module,
    end_move,
    ends_of_move,
    move_keys,
    replicated_cluster,
)
from trio_redis.tests.outages import persistently, until
from trio_redis.tests.servers import RedisCluster

__all__ = ["cluster", "cluster_of_module", "replicated_cluster"]

FIELDS = {"media_id": "m", "type": "thumbnail"}
SLOT = key_slot(PROCESSING_QUEUE)


def is_up(redis: Redis) -> bool:
    return redis.available.up


async def test_a_queue_that_moves_to_another_node_loses_nothing(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster, SLOT)
    async with open_redis(cluster.url, timeout_s=5.0) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        media_ids = {f"m{number}" for number in range(400)}
        for media_id in sorted(media_ids):
            await queue.enqueue({**FIELDS, "media_id": media_id}, dedup_key=media_id)
        workers = Workers(queue)
        nursery.start_soon(workers.run)
        while len(workers.done) < 30:
            await trio.lowlevel.checkpoint()
        begin_move(source, target, SLOT)
        while len(workers.done) < 60:
            await trio.lowlevel.checkpoint()
        await trio.to_thread.run_sync(move_keys, source, target, SLOT)
        end_move(cluster, target, SLOT)
        await queue.enqueue(FIELDS)
        await workers.until_done(media_ids | {"m"})
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert (await queue.stats()).depth == 0
    assert sorted(workers.done) == sorted(media_ids | {"m"})


async def test_a_script_whose_keys_are_on_their_way_waits_for_them(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster, SLOT)
    async with open_redis(cluster.url, timeout_s=20.0) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue(FIELDS)
        begin_move(source, target, SLOT)
        # Its marker is nowhere yet, the queue is here: neither node may run it.
        nursery.start_soon(lambda: queue.enqueue(FIELDS, dedup_key="new"))
        await until(lambda: "errorstat_TRYAGAIN" in source.ask("INFO", "errorstats"))
        move_keys(source, target, SLOT)
        end_move(cluster, target, SLOT)
    assert target.ask("XLEN", PROCESSING_QUEUE) == 2


async def test_a_blocked_reader_follows_a_slot_that_moves(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster, SLOT)
    async with open_redis(cluster.url) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        found: list[str] = []

        async def read() -> None:
            while not found:
                lease = await persistently(lambda: queue.take("a", block_s=20))
                if lease is not None:
                    found.append(lease.task.fields["media_id"])

        await queue.ensure_group()
        nursery.start_soon(read)
        await until(lambda: source.ask("INFO", "clients")["blocked_clients"] == 1)
        begin_move(source, target, SLOT)
        move_keys(source, target, SLOT)
        end_move(cluster, target, SLOT)
        target.ask("XADD", PROCESSING_QUEUE, "*", "media_id", "m")
        with trio.fail_after(15):
            while not found:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_a_master_dies_and_its_replica_takes_over(replicated_cluster: RedisCluster) -> None:
    cluster = replicated_cluster
    owner = cluster.owner_of(PROCESSING_QUEUE)
    async with open_redis(cluster.url, timeout_s=2.0) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        status_store = StatusStore(redis)
        media_ids = {f"m{number}" for number in range(400)}
        for media_id in sorted(media_ids):
            await queue.enqueue({**FIELDS, "media_id": media_id})
            await status_store.put(Status(media_id, State.PROCESSING), ttl_s=600)
        for master in cluster.masters:
            assert master.ask("WAIT", 1, 5000) == 1
        workers = Workers(queue)
        nursery.start_soon(workers.run)
        while len(workers.done) < 50:
            await trio.lowlevel.checkpoint()
        owner.kill()
        with pytest.raises(Unavailable):
            await queue.stats()
        assert not is_up(redis)
        await workers.until_done(media_ids)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await persistently(redis.ping)
            assert is_up(redis)
            assert (await queue.stats()).depth == 0
            states = [await status_store.get(media_id) for media_id in sorted(media_ids)]
    assert workers.outages > 0
    assert all(status is not None and status.state is State.PROCESSING for status in states)
