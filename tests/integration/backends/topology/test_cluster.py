"""A cluster whose slots move and whose masters die in the middle of work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import PROCESSING_QUEUE, State, Status
from avion_media.items.state import StatusStore
from tests.integration.backends.topology.conftest import Workers, until
from tests.integration.outages import persistently
from tests.services import RedisCluster, RedisServer, redis_cluster
from tests.services.cluster import is_up as is_whole
from trio_redis.topology import key_slot

FIELDS = {"media_id": "m", "type": "thumbnail"}
SLOT = key_slot(PROCESSING_QUEUE)


@pytest.fixture(scope="module")
def cluster_of_module() -> Iterator[RedisCluster]:
    with redis_cluster() as started:
        yield started


@pytest.fixture
def cluster(cluster_of_module: RedisCluster) -> RedisCluster:
    """An empty one. Who has which slot is as the test before has left it."""
    for server in cluster_of_module.servers:
        server.ask("FLUSHALL")
        server.ask("CONFIG", "RESETSTAT")
    return cluster_of_module


@pytest.fixture
def replicated_cluster() -> Iterator[RedisCluster]:
    with redis_cluster(replicas=True) as started:
        yield started


def ends_of_move(cluster: RedisCluster) -> tuple[RedisServer, RedisServer]:
    """From where the queue's slot moves, and whereto."""
    source = owner_now(cluster)
    return source, next(each for each in cluster.masters if each is not source)


def owner_now(cluster: RedisCluster) -> RedisServer:
    """Who has the queue's slot."""
    rows = cluster.servers[0].ask("CLUSTER", "SLOTS")
    port = next(master[1] for first, last, master, *_ in rows if first <= SLOT <= last)
    return next(each for each in cluster.servers if each.port == port)


def is_up(redis: Redis) -> bool:
    return redis.available.up


def begin_move(source: RedisServer, target: RedisServer) -> None:
    """As redis-cli does it."""
    target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", target.ask("CLUSTER", "MYID"))


def move_keys(source: RedisServer, target: RedisServer) -> None:
    """All that are there now."""
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 100):
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)


def end_move(cluster: RedisCluster, target: RedisServer) -> None:
    """The target first: it is to know before anybody is sent there."""
    owner = target.ask("CLUSTER", "MYID")
    for server in (target, *cluster.servers):
        server.ask("CLUSTER", "SETSLOT", SLOT, "NODE", owner)


async def test_a_queue_that_moves_to_another_node_loses_nothing(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster)
    async with open_redis(cluster.url, timeout_s=5.0) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        media_ids = {f"m{number}" for number in range(400)}
        for media_id in sorted(media_ids):
            await queue.enqueue({**FIELDS, "media_id": media_id}, dedup_key=media_id)
        workers = Workers(queue)
        nursery.start_soon(workers.run)
        while len(workers.done) < 30:
            await trio.lowlevel.checkpoint()
        begin_move(source, target)
        while len(workers.done) < 60:
            await trio.lowlevel.checkpoint()
        await trio.to_thread.run_sync(move_keys, source, target)
        end_move(cluster, target)
        await queue.enqueue(FIELDS)
        await workers.until_done(media_ids | {"m"})
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert (await queue.stats()).depth == 0
    assert sorted(workers.done) == sorted(media_ids | {"m"})


async def test_keys_that_have_moved_already_are_asked_for_there(cluster: RedisCluster) -> None:
    """In the middle of a move, a single command finds each key where it is."""
    source, target = ends_of_move(cluster)
    async with open_redis(cluster.url) as redis:
        await redis.execute("XADD", PROCESSING_QUEUE, "*", "media_id", "m")
        begin_move(source, target)
        assert await redis.execute("XLEN", PROCESSING_QUEUE) == 1
        move_keys(source, target)
        assert await redis.execute("XLEN", PROCESSING_QUEUE) == 1
        assert await redis.execute("SET", f"{{{PROCESSING_QUEUE}}}:new", "v") == b"OK"
        assert target.ask("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 2
        end_move(cluster, target)
        assert await redis.execute("XLEN", PROCESSING_QUEUE) == 1


async def test_a_script_whose_keys_are_on_their_way_waits_for_them(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster)
    async with open_redis(cluster.url, timeout_s=20.0) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue(FIELDS)
        begin_move(source, target)
        # Its marker is nowhere yet, the queue is here: neither node may run it.
        nursery.start_soon(lambda: queue.enqueue(FIELDS, dedup_key="new"))
        await until(lambda: "errorstat_TRYAGAIN" in source.ask("INFO", "errorstats"))
        move_keys(source, target)
        end_move(cluster, target)
    assert target.ask("XLEN", PROCESSING_QUEUE) == 2


async def test_a_blocked_reader_follows_a_slot_that_moves(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster)
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
        begin_move(source, target)
        move_keys(source, target)
        end_move(cluster, target)
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


async def test_what_one_dead_master_has_not_is_served_all_the_while(cluster: RedisCluster) -> None:
    """Where the cluster is configured so; and it is told that a part is missing."""
    for server in cluster.servers:
        server.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    dead = owner_now(cluster)
    here = next(key for key in map(str, range(100)) if cluster.owner_of(key) is not dead)
    async with open_redis(cluster.url, timeout_s=2.0) as redis:
        await redis.ping()
        dead.kill()
        with pytest.raises(Unavailable):
            await redis.execute("XLEN", PROCESSING_QUEUE)
        for _ in range(20):
            await redis.execute("SET", here, "v")
        with pytest.raises(Unavailable):
            await redis.ping()
        assert not is_up(redis)
        assert str(dead.port) in redis.available.detail
        dead.start()
        await persistently(redis.ping)
        assert is_up(redis)
    await until(lambda: all(map(is_whole, cluster.servers)))


async def test_any_node_of_the_url_will_do(cluster: RedisCluster) -> None:
    first, second, third = (f"127.0.0.1:{each.port}" for each in cluster.servers)
    async with open_redis(f"redis://127.0.0.1:1,{second},{third}") as redis:
        for key in ("a", "b", "c", "d"):
            await redis.execute("SET", key, key)
        assert await redis.get_many(["d", "none", "a", "b", "a"]) == [b"d", None, b"a", b"b", b"a"]
        assert sorted(await redis.execute_on_all("DBSIZE")) == sorted([first, second, third])
    async with open_redis(f"redis+cluster://{first}/3") as redis:
        with pytest.raises(Unavailable, match="database 0 only"):
            await redis.ping()
