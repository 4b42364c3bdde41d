"""The queue's servers: Redis, Valkey, and a Redis Cluster of three masters. The same tests run on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.tasks import PROCESSING_QUEUE
from trio_redis.tests.fixtures import (
    Client,
    cluster,
    cluster_of_process,
    info,
    infos,
    memory,
    other,
    redis_url,
    server,
    valkey_of_process,
)
from trio_redis.tests.servers import Proxy, RedisCluster, RedisServer, open_proxy

__all__ = [
    "Client",
    "cluster",
    "cluster_of_process",
    "info",
    "infos",
    "memory",
    "other",
    "redis_url",
    "server",
    "valkey_of_process",
]


async def blocked(other: Client, readers: int = 1) -> None:
    """Until that many clients wait on the server."""
    with trio.fail_after(10):
        while info(other, "clients", "blocked_clients") != readers:
            await trio.lowlevel.checkpoint()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        yield opened


@pytest.fixture
async def proxy(redis_url: str, cluster: RedisCluster | None) -> AsyncIterator[Proxy]:
    """The only way to the server that has the queue `PROCESSING_QUEUE`."""
    if cluster is None:
        async with open_proxy(redis_url) as opened:
            yield opened
        return
    async with open_proxy(cluster.owner_of(PROCESSING_QUEUE).url) as opened, announced(cluster, opened):
        yield opened


@asynccontextmanager
async def announced(cluster: RedisCluster, proxy: Proxy) -> AsyncIterator[None]:
    """Have the queue's node say that it is where the proxy is."""
    owner = cluster.owner_of(PROCESSING_QUEUE)
    cluster.proxied[proxy.port] = owner.port
    await _announce(cluster, owner, proxy.port)
    try:
        yield
    finally:
        await _announce(cluster, owner, 0)
        del cluster.proxied[proxy.port]


async def _announce(cluster: RedisCluster, owner: RedisServer, port: int) -> None:
    owner.ask("CONFIG", "SET", "cluster-announce-port", port)
    expected = port or owner.port
    with trio.fail_after(20):
        while not all(_is_announced(each, expected) for each in cluster.servers):  # noqa: ASYNC110 - gossip
            await trio.sleep(0.05)


def _is_announced(server: RedisServer, port: int) -> bool:
    return port in [row[2][1] for row in server.ask("CLUSTER", "SLOTS")]


@pytest.fixture
def queue(redis: Redis) -> TaskQueue:
    return TaskQueue(redis, PROCESSING_QUEUE)


async def taken_over(queue: TaskQueue, consumer: str, idle_s: float, silent_s: float | None = None) -> Lease | None:
    """What a reader gets after the janitor, on the same replica, looked for abandoned tasks."""
    await queue.reclaim(consumer, idle_s, silent_s=silent_s)
    return await queue.take(consumer, block_s=0)
