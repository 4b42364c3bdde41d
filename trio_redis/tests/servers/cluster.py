"""A Redis Cluster on this machine: masters that share the slots, each with a replica if asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from .process import ServiceFailed, free_port, working_directory
from .redis import Flavour, RedisServer, answers

_SLOTS = 16384
_NODE_TIMEOUT_MS = 1500
_FORM_S = 30.0


class RedisCluster:
    """``masters`` are those at the begin; after a failover others may be. Raises ServiceFailed."""

    def __init__(
        self, directory: Path, *, masters: int = 3, replicas: bool = False, flavour: Flavour = "redis"
    ) -> None:
        self.servers = [
            self._server(directory / str(number), flavour) for number in range(masters * (2 if replicas else 1))
        ]
        self.masters = self.servers[:masters]
        self.replicas = self.servers[masters:]
        self.url = self.masters[0].url
        self.proxied: dict[int, int] = {}  # port that a node announces in place of its own -> its own

    @staticmethod
    def _server(directory: Path, flavour: Flavour) -> RedisServer:
        directory.mkdir()
        return RedisServer(
            directory, "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
            "--cluster-node-timeout", str(_NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0",
            "--repl-ping-replica-period", "1",
            flavour=flavour,
        )  # fmt: skip

    def start(self) -> None:
        """Start all servers and make a cluster of them."""
        for server in self.servers:
            server.start()
        first, last = 0, 0
        for number, master in enumerate(self.masters):
            last = _SLOTS * (number + 1) // len(self.masters) - 1
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            master.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            first = last + 1
        for server in self.servers[1:]:
            bus = int(self.masters[0].ask("CONFIG", "GET", "cluster-port")["cluster-port"])
            server.ask("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port, bus)
        self._wait("all nodes to know each other", lambda: all(self._knows_all(each) for each in self.servers))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        self._wait("the cluster to be up", lambda: all(is_up(each) for each in self.servers))
        self._wait("the replicas to follow", lambda: all(map(_follows, self.replicas)))
        self._wait("the replicas to be known", lambda: not self.replicas or all(map(_knows_replicas, self.servers)))

    def owner_of(self, key: str) -> RedisServer:
        """The master at the begin that has a key."""
        slot = int(key_slot(key.encode()))
        return next(
            master for number, master in enumerate(self.masters) if slot < _SLOTS * (number + 1) // len(self.masters)
        )

    def past_proxy(self, address: tuple[str, int]) -> tuple[str, int]:
        """Where a node really is."""
        host, port = address
        return host, self.proxied.get(port, port)

    def kill(self) -> None:
        """SIGKILL to all. Safe to repeat."""
        for server in self.servers:
            server.kill()

    def _knows_all(self, server: RedisServer) -> bool:
        info = answers(server, "CLUSTER", "INFO")
        return info is not None and _info(info)["cluster_known_nodes"] == str(len(self.servers))

    @staticmethod
    def _wait(what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _FORM_S
        while not condition():
            if time.monotonic() > deadline:
                raise ServiceFailed(f"waited {_FORM_S:g} s for {what}")
            time.sleep(0.05)


def is_up(server: RedisServer) -> bool:
    """Whether a node finds that its cluster serves all slots."""
    info = answers(server, "CLUSTER", "INFO")
    return info is not None and _info(info)["cluster_state"] == "ok"


def _follows(replica: RedisServer) -> bool:
    role = answers(replica, "ROLE")
    return role is not None and role[0] == "slave" and role[3] == "connected"


def _knows_replicas(server: RedisServer) -> bool:
    rows = answers(server, "CLUSTER", "SLOTS")
    return rows is not None and all(len(row) > 3 for row in rows)


def _info(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return reply
    return dict(line.split(":", 1) for line in str(reply).splitlines() if ":" in line)


@contextmanager
def redis_cluster(*, masters: int = 3, replicas: bool = False, flavour: Flavour = "redis") -> Iterator[RedisCluster]:
    """A running cluster."""
    with working_directory("cluster") as directory:
        cluster = RedisCluster(directory, masters=masters, replicas=replicas, flavour=flavour)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()
