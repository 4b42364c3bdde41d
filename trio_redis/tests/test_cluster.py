"""A cluster whose slots move and whose masters die in the middle of calls."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from trio_redis import Redis, RedisUnavailable, Script, key_slot, open_redis

from .clusters import (
    begin_move,
    cluster,
    cluster_of_module,
    end_move,
    ends_of_move,
    move_keys,
    owner_now,
    replicated_cluster,
)
from .outages import persistently, until
from .servers import RedisCluster
from .servers.cluster import is_up as is_whole

__all__ = ["cluster", "cluster_of_module", "replicated_cluster"]

KEY = "key"
SLOT = key_slot(KEY)
PUSH = Script("push", "redis.call('SET', KEYS[2], 'v') return redis.call('RPUSH', KEYS[1], 'v')")


def is_up(redis: Redis) -> bool:
    return redis.available.up


async def test_keys_that_have_moved_already_are_asked_for_there(cluster: RedisCluster) -> None:
    """In the middle of a move, a single command finds each key where it is."""
    source, target = ends_of_move(cluster, SLOT)
    async with open_redis(cluster.url) as redis:
        await redis.execute("XADD", KEY, "*", "field", "value")
        begin_move(source, target, SLOT)
        assert await redis.execute("XLEN", KEY) == 1
        move_keys(source, target, SLOT)
        assert await redis.execute("XLEN", KEY) == 1
        assert await redis.execute("SET", f"{{{KEY}}}:new", "v") == b"OK"
        assert target.ask("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 2
        end_move(cluster, target, SLOT)
        assert await redis.execute("XLEN", KEY) == 1


async def test_a_script_whose_keys_are_on_their_way_waits_for_them(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster, SLOT)
    async with open_redis(cluster.url, timeout_s=20.0) as redis, trio.open_nursery() as nursery:
        await redis.execute("RPUSH", KEY, "v")
        begin_move(source, target, SLOT)
        # Its second key is nowhere yet, the first is here: neither node may run it.
        nursery.start_soon(redis.run, PUSH, (KEY, f"{{{KEY}}}:new"))
        await until(lambda: "errorstat_TRYAGAIN" in source.ask("INFO", "errorstats"))
        move_keys(source, target, SLOT)
        end_move(cluster, target, SLOT)
    assert target.ask("LLEN", KEY) == 2


async def test_a_blocking_command_follows_a_slot_that_moves(cluster: RedisCluster) -> None:
    source, target = ends_of_move(cluster, SLOT)
    async with open_redis(cluster.url) as redis, trio.open_nursery() as nursery:
        found: list[bytes] = []

        async def read() -> None:
            while not found:
                reply = await persistently(lambda: redis.execute_blocking("BLPOP", KEY, 20, block_s=20))
                found.extend(reply or ())

        nursery.start_soon(read)
        await until(lambda: source.ask("INFO", "clients")["blocked_clients"] == 1)
        begin_move(source, target, SLOT)
        move_keys(source, target, SLOT)
        end_move(cluster, target, SLOT)
        target.ask("RPUSH", KEY, "v")
        with trio.fail_after(15):
            while not found:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert found == [KEY.encode(), b"v"]


async def test_a_master_dies_and_its_replica_takes_over(replicated_cluster: RedisCluster) -> None:
    cluster = replicated_cluster
    async with open_redis(cluster.url, timeout_s=2.0) as redis:
        keys = [f"k{number}" for number in range(100)]
        for key in [KEY, *keys]:
            await redis.execute("SET", key, key)
        for master in cluster.masters:
            assert master.ask("WAIT", 1, 5000) == 1
        cluster.owner_of(KEY).kill()
        with pytest.raises(RedisUnavailable):
            await redis.execute("GET", KEY)
        assert not is_up(redis)
        assert await persistently(partial(redis.execute, "GET", KEY)) == KEY.encode()
        await persistently(redis.ping)
        assert is_up(redis)
        assert await redis.get_many(keys) == [key.encode() for key in keys]


async def test_what_one_dead_master_has_not_is_served_all_the_while(cluster: RedisCluster) -> None:
    """If the cluster is configured so. The state names the part that is missing."""
    for server in cluster.servers:
        server.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    dead = owner_now(cluster, SLOT)
    here = next(key for key in map(str, range(100)) if cluster.owner_of(key) is not dead)
    async with open_redis(cluster.url, timeout_s=2.0) as redis:
        await redis.ping()
        dead.kill()
        with pytest.raises(RedisUnavailable):
            await redis.execute("XLEN", KEY)
        for _ in range(20):
            await redis.execute("SET", here, "v")
        with pytest.raises(RedisUnavailable):
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
        with pytest.raises(RedisUnavailable, match="database 0 only"):
            await redis.ping()
