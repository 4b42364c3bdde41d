"""Which server has what: one that has everything, or the masters of a cluster."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from coredis import exceptions as refusals

from avion_media.domain.redis_url import Address
from avion_media.redis.connection import Argument, Reply
from avion_media.redis.node import Node
from avion_media.redis.slots import SLOTS, slot_of

OpenNode = Callable[[Address], Node]


@dataclass(frozen=True, slots=True)
class Single:
    """One server. It lasts as long as its connection: who is asked next is found out again.

    ``master`` is the name under which Sentinels watch it; empty when none do.
    """

    node: Node
    master: str = ""

    @property
    def usable(self) -> bool:
        """Whether the server may still be the right one."""
        return self.node.is_connected

    @property
    def nodes(self) -> Collection[Node]:
        """All servers."""
        return (self.node,)

    def node_for(self, command: tuple[Argument, ...]) -> Node:
        """The server that a command goes to."""
        return self.node

    def any_node(self) -> Node:
        """A server that anything can be asked of that lies with none."""
        return self.node

    def close(self) -> None:
        """End all connections."""
        self.node.close()


class Cluster:
    """The masters of a cluster and their slots, as far as is known: a wrong guess is put right by the node asked."""

    usable = True

    def __init__(self, open_node: OpenNode) -> None:
        self._open_node = open_node
        self._known: dict[Address, Node] = {}  # masters, and others that calls were sent to by one
        self._masters: list[Node] = []
        self._owners: list[Node | None] = [None] * SLOTS
        self._closed = False

    @property
    def nodes(self) -> Collection[Node]:
        """All masters."""
        return self._masters

    def node_for(self, command: tuple[Argument, ...]) -> Node:
        """The master that a command goes to. ConnectionError when none is known."""
        slot = slot_of(command)
        owner = self.any_node() if slot is None else self._owners[slot]
        if owner is None:
            raise refusals.ConnectionError(f"no node serves slot {slot}")
        return owner

    def any_node(self) -> Node:
        """Some master, a connected one if possible. ConnectionError when there is none."""
        nodes = [each for each in self._masters if each.is_connected] or self._masters
        if not nodes:
            raise refusals.ConnectionError("no node is known")
        return random.choice(nodes)

    def adopt(self, rows: Reply, asked: Address) -> None:
        """Take what the node at ``asked`` answered to CLUSTER SLOTS. Nodes without slots are closed when at rest."""
        owners: list[Node | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_replicas in rows:
            owners[first : last + 1] = [self._at(_announced(host, port, asked))] * (last + 1 - first)
        self._owners = owners
        self._masters = [each for each in self._known.values() if each in set(owners)]
        for node in [each for each in self._known.values() if each not in self._masters and not each.is_busy]:
            del self._known[node.address]
            node.close()

    def moved(self, slot: int, host: str, port: int, asked: Address) -> Node:
        """The slot is elsewhere from now on, says the node at ``asked``. ConnectionError when closed."""
        node = self.at(host, port, asked)
        self._owners[slot] = node
        return node

    def at(self, host: str, port: int, asked: Address) -> Node:
        """The node at an address that the node at ``asked`` names. ConnectionError when closed."""
        return self._at(_announced(host.encode(), port, asked))

    def close(self) -> None:
        """End all connections; calls in progress are sent nowhere any more."""
        self._closed = True
        for node in self._known.values():
            node.close()

    def _at(self, address: Address) -> Node:
        if self._closed:
            raise refusals.ConnectionError("the cluster is being looked for anew")
        if address not in self._known:
            self._known[address] = self._open_node(address)
        return self._known[address]


Topology = Single | Cluster


def _announced(host: bytes | None, port: int, asked: Address) -> Address:
    """A node that does not know its own name is reached as the one that was asked."""
    name = (host or b"").decode()
    return Address(asked.host if name in ("", "?") else name, port)
