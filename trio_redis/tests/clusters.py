"""Clusters whose slots move and whose masters die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .servers import RedisCluster, RedisServer, redis_cluster


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


def ends_of_move(cluster: RedisCluster, slot: int) -> tuple[RedisServer, RedisServer]:
    """From where a slot moves, and whereto."""
    source = owner_now(cluster, slot)
    return source, next(each for each in cluster.masters if each is not source)


def owner_now(cluster: RedisCluster, slot: int) -> RedisServer:
    """Who has a slot."""
    rows = cluster.servers[0].ask("CLUSTER", "SLOTS")
    port = next(master[1] for first, last, master, *_ in rows if first <= slot <= last)
    return next(each for each in cluster.servers if each.port == port)


def begin_move(source: RedisServer, target: RedisServer, slot: int) -> None:
    """As redis-cli does it."""
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))


def move_keys(source: RedisServer, target: RedisServer, slot: int) -> None:
    """All that are there now."""
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)


def end_move(cluster: RedisCluster, target: RedisServer, slot: int) -> None:
    """The target first: it is to know before anybody is sent there."""
    owner = target.ask("CLUSTER", "MYID")
    for server in (target, *cluster.servers):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", owner)
