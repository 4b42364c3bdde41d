"""The servers of the tests: Redis, Valkey, and a Redis Cluster of three masters. The same tests run on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import pytest
import redis as redis_py

from .servers import RedisCluster, RedisServer, redis_cluster, redis_server
from .servers.process import working_directory

Client: TypeAlias = Any  # redis-py's types allow for options that no test here uses


@pytest.fixture(scope="session")
def redis_of_process() -> Iterator[str]:
    """One Redis per test process."""
    with redis_server() as url:
        yield url


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


class Memory:
    """The memory of all servers."""

    def __init__(self, other: Client) -> None:
        everywhere = {"target_nodes": other.ALL_NODES} if isinstance(other, redis_py.RedisCluster) else {}
        self.limit = partial(other.config_set, "maxmemory", **everywhere)

    def fill(self) -> None:
        self.limit(1)


@pytest.fixture
def memory(other: Client) -> Iterator[Memory]:
    found = Memory(other)
    yield found
    found.limit(0)


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
