"""The queue's servers: Redis, Valkey, and a Redis Cluster of three masters. The same tests run on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import redis as redis_py
import trio

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.tasks import PROCESSING_QUEUE
from tests.integration.backends.queue.proxy import Proxy, open_proxy
from tests.services import RedisCluster, RedisServer, redis_cluster, redis_server
from tests.services.process import working_directory

Client: TypeAlias = Any  # redis-py's types allow for options that no test here uses


@pytest.fixture(scope="session")
def valkey_of_process() -> Iterator[str]:
    with redis_server(flavour="valkey") as url:
        yield url


@pytest.fixture(scope="session")
def cluster_of_process() -> Iterator[RedisCluster]:
    with redis_cluster() as cluster:
        yield cluster


@pytest.fixture(params=["redis", "valkey", "cluster"])
def cluster(request: pytest.FixtureRequest) -> RedisCluster | None:
    """The cluster, where the test runs on one."""
    return request.getfixturevalue("cluster_of_process") if request.param == "cluster" else None


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, cluster: RedisCluster | None) -> str:
    """An empty server, or one of the nodes of an empty cluster."""
    if cluster is not None:
        urls = [server.url for server in cluster.servers]
    else:
        urls = [request.getfixturevalue(f"{request.node.callspec.params['cluster']}_of_process")]
    for url in urls:
        with redis_py.Redis.from_url(url) as client:
            client.flushall()
            client.script_flush()
    return urls[0]


@pytest.fixture
def other(redis_url: str, cluster: RedisCluster | None) -> Iterator[Client]:
    """An independent client: plays the other services and looks at the state."""
    if cluster is None:
        with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
            yield client
        return
    # It must never go through a proxy: that runs in this thread, which it blocks.
    with redis_py.RedisCluster.from_url(redis_url, decode_responses=True, address_remap=cluster.past_proxy) as client:
        yield client


def infos(other: Client, section: str, name: str) -> list[Any]:
    """What the servers tell of themselves under a name, those that tell it."""
    if isinstance(other, redis_py.RedisCluster):
        told = list(other.info(section, target_nodes=other.ALL_NODES).values())
    else:
        told = [other.info(section)]
    return [each[name] for each in told if name in each]


def info(other: Client, section: str, name: str) -> int:
    """A number that the servers tell of themselves, summed up."""
    return sum(infos(other, section, name))


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


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of the test's own that loses nothing when it is killed."""
    with working_directory("redis") as directory:
        durable = RedisServer(directory, "--appendonly", "yes", "--appendfsync", "always", flavour=request.param)
        durable.start()
        try:
            yield durable
        finally:
            durable.kill()
