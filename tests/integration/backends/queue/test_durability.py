"""Servers that can lose tasks are named, with what is wrong; those that keep them are not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from avion_media.backends.redis import open_redis
from avion_media.operations.setup import redis_warnings
from tests.services import RedisCluster, RedisServer, redis_cluster, redis_server

EVICTS = "Redis may evict keys: maxmemory-policy is allkeys-lru, should be noeviction"
FORGETS = "Redis keeps nothing over a restart: neither appendonly nor save is set"


@pytest.fixture
def mixed_cluster() -> Iterator[RedisCluster]:
    with redis_cluster() as cluster:
        yield cluster


async def test_one_server(server: RedisServer) -> None:
    async with open_redis(server.url) as redis:
        assert await redis_warnings(redis) == []
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert await redis_warnings(redis) == [EVICTS]
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "appendonly", "no")
        assert await redis_warnings(redis) == [FORGETS]
        server.ask("CONFIG", "SET", "save", "60 1")
        assert await redis_warnings(redis) == []


async def test_what_may_not_be_asked_is_no_warning(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "appendonly", "no", "maxmemory-policy", "allkeys-lru")
    for user, rights, expected in (("shy", ["-config"], [EVICTS]), ("shyer", ["-config", "-info"], [])):
        server.ask("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", *rights)
        async with open_redis(f"redis://{user}:secret@127.0.0.1:{server.port}") as redis:
            assert await redis_warnings(redis) == expected


async def test_nodes_of_a_cluster_are_named(mixed_cluster: RedisCluster) -> None:
    first, second, third = mixed_cluster.servers
    first.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    second.ask("CONFIG", "SET", "save", "60 1")
    both = sorted(f"127.0.0.1:{each.port}" for each in (first, third))
    async with open_redis(mixed_cluster.url) as redis:
        assert sorted(await redis_warnings(redis)) == sorted(
            [f"{FORGETS} (on {', '.join(both)})", f"{EVICTS} (on 127.0.0.1:{first.port})"]
        )


async def test_the_redis_for_statuses_is_named(server: RedisServer) -> None:
    with redis_server("--maxmemory-policy", "allkeys-lru", "--save", "60 1") as state_url:
        async with open_redis(server.url, state_url=state_url) as redis:
            assert await redis_warnings(redis) == [f"for statuses: {EVICTS}"]
            server.ask("CONFIG", "SET", "appendonly", "no")
            assert await redis_warnings(redis) == [FORGETS, f"for statuses: {EVICTS}"]
