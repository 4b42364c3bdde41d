"""The handles of the supervision tree that other modules use: the root, the ports, and what calls depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import trio

from supervisors import Node, NodeState, NotRunning, State, Supervisor, Worker

Address = tuple[str, int]
"""Host and port where a node actually listens: the started value of the node."""


_POOL = "/attempts"  # its children come and go


def lasting_path(path: str) -> str:
    """Return the path of a node, or of its pool if it comes and goes."""
    before, pool, _ = path.partition(f"{_POOL}/")
    return f"{before}{_POOL}" if pool else path


def lasting_nodes(root: Supervisor) -> list[NodeState]:
    """Return all nodes but those that come and go."""
    return [node for node in root.snapshot().walk() if node.path == lasting_path(node.path)]


@dataclass(frozen=True, slots=True)
class Tree:
    """The nodes that other modules need by name."""

    root: Supervisor
    ports: dict[str, Worker[Address]]  # their values are the addresses in use
    calls_need: tuple[Node[Any], ...]  # gRPC calls are sent here while all of these run

    def address(self, port: str) -> Address | None:
        """Return the address where ``port`` listens now; None while it does not."""
        try:
            return self.ports[port].value
        except (KeyError, NotRunning):
            return None

    def down(self) -> frozenset[str]:
        """Return the paths of the lasting nodes that do not run, without the root."""
        nodes = lasting_nodes(self.root)
        return frozenset(node.path for node in nodes if node.state is not State.RUNNING) - {self.root.path}

    def calls_can_run(self) -> bool:
        """Return whether every node that gRPC calls need is running.

        Consumers do not count: other replicas do their work during a restart. If a bug crashed the consumers of every
        replica, none would be left to answer calls.
        """
        return all(node.state is State.RUNNING for node in self.calls_need)

    def kill(self, path: str) -> bool:
        """Crash a node, for chaos tests. Return whether it was up. Raises LookupError for an unknown path."""
        return self.root.find(path).kill()

    def describe(self) -> dict[str, Any]:
        """Return the live tree in the form of ``/tree``, with the number of Trio tasks."""
        tasks = trio.lowlevel.current_statistics().tasks_living
        return {"tasks": tasks, **_with_uptime(asdict(self.root.snapshot()), trio.current_time())}


def walk(described: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a node in the form of ``/tree``, and all below it."""
    yield described
    for child in described["children"]:
        yield from walk(child)


def _with_uptime(node: dict[str, Any], now: float) -> dict[str, Any]:
    """Replace ``since``, which is on Trio's clock, by ``uptime_s``: the seconds in the present state."""
    since = node.pop("since")
    node["uptime_s"] = None if since is None else round(now - since, 3)
    for child in node["children"]:
        _with_uptime(child, now)
    return node
