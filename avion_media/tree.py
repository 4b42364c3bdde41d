"""The handles of the supervision tree that others need: the root, the ports, and what calls depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from supervisors import Node, State, Supervisor, Worker

Address = tuple[str, int]
"""Host and port where a node really listens; the started value of its node."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The nodes that others need by name; everything else stays inside."""

    root: Supervisor
    ports: dict[str, Worker[Address]]  # their values are the addresses in use
    calls_need: tuple[Node[Any], ...]  # gRPC calls are sent here while all of these run

    def address(self, port: str) -> Address | None:
        """Return where ``port`` listens now; None while it does not."""
        node = self.ports.get(port)
        return None if node is None or node.state is not State.RUNNING else node.value

    def down(self) -> frozenset[str]:
        """Return the paths of the nodes that do not run, without the root."""
        root = self.root.snapshot()
        return frozenset(node.path for node in root.walk() if node.state is not State.RUNNING) - {root.path}

    def calls_can_run(self) -> bool:
        """Return whether every node runs that a gRPC call needs.

        A consumer is not among them: the other replicas do its work while it restarts, and if the same bug hit the
        consumers of every replica, none would be left to answer.
        """
        return all(node.state is State.RUNNING for node in self.calls_need)

    def kill(self, path: str) -> bool:
        """Crash a node, for chaos tests; return whether it was up. Raises LookupError if no node has that path."""
        return self.root.find(path).kill()

    def describe(self) -> dict[str, Any]:
        """Return the live tree as ``/tree`` shows it, with the number of Trio tasks."""
        tasks = trio.lowlevel.current_statistics().tasks_living
        return {"tasks": tasks, **_with_uptime(self.root.snapshot().to_dict(), trio.current_time())}


def _with_uptime(node: dict[str, Any], now: float) -> dict[str, Any]:
    """Trio's clock means nothing outside: ``since`` becomes ``uptime_s``, the seconds in the present state."""
    since = node.pop("since")
    node["uptime_s"] = None if since is None else round(now - since, 3)
    for child in node["children"]:
        _with_uptime(child, now)
    return node
