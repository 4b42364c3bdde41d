"""The servers and what each of them has: one server with everything, or the masters of a cluster."""

from __future__ import annotations

import random
from binascii import crc_hqx
from collections.abc import Callable, Collection
from dataclasses import dataclass

from coredis import exceptions as refusals

from trio_redis.connection import Argument, Reply
from trio_redis.node import RedisNode
from trio_redis.url import Address

SLOTS = 16384

# Commands that any node can run. A test compares the list with the server's own.
_WITHOUT_KEY = frozenset(
    {
        "ACL", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "ECHO", "FLUSHALL",
        "FLUSHDB", "HELLO", "INFO", "KEYS", "LASTSAVE", "LATENCY", "PING", "PUBLISH", "PUBSUB", "RANDOMKEY", "ROLE",
        "SAVE", "SCAN", "SCRIPT", "SHUTDOWN", "SLOWLOG", "SUBSCRIBE", "TIME", "WAIT", "WAITAOF",
    }
)  # fmt: skip
_WITH_SUBCOMMAND = frozenset({"XGROUP", "XINFO", "OBJECT", "MEMORY"})
_WITH_NUMBER_OF_KEYS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})


def slot_of(command: tuple[Argument, ...]) -> int | None:
    """Return the slot of a command's first key; None without a key. The server checks that the others share it."""
    name = str(command[0]).upper()
    if name in _WITHOUT_KEY:
        return None
    if name in _WITH_NUMBER_OF_KEYS:
        return key_slot(command[3]) if len(command) > 3 and int(command[2]) else None
    if name in ("XREAD", "XREADGROUP"):
        return key_slot(command[[str(each).upper() for each in command].index("STREAMS") + 1])
    first = 2 if name in _WITH_SUBCOMMAND else 1
    return key_slot(command[first]) if len(command) > first else None


def key_slot(key: Argument) -> int:
    """Return the slot of a key: of the text between its first braces, if there is any."""
    raw = key if isinstance(key, bytes) else str(key).encode()
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:
            raw = raw[start + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


OpenNode = Callable[[Address], RedisNode]


@dataclass(frozen=True, slots=True)
class Single:
    """One server. This object lasts as long as the connection; then the server is looked up again.

    ``master`` is the name under which Sentinels watch it; empty without Sentinels.
    """

    node: RedisNode
    master: str = ""

    @property
    def usable(self) -> bool:
        """Whether the server may still be the right one."""
        return self.node.is_connected

    @property
    def nodes(self) -> Collection[RedisNode]:
        """Return all servers."""
        return (self.node,)

    def node_for(self, command: tuple[Argument, ...]) -> RedisNode:
        """Return the server for a command."""
        return self.node

    def any_node(self) -> RedisNode:
        """Return a server for commands that every server can run."""
        return self.node

    def close(self) -> None:
        """End all connections."""
        self.node.close()


class Cluster:
    """The masters of a cluster and their slots, as far as known. A node that gets a wrong command redirects it."""

    usable = True

    def __init__(self, open_node: OpenNode) -> None:
        self._open_node = open_node
        self._known: dict[Address, RedisNode] = {}  # masters, and nodes that a master redirected calls to
        self._masters: list[RedisNode] = []
        self._owners: list[RedisNode | None] = [None] * SLOTS
        self._closed = False

    @property
    def nodes(self) -> Collection[RedisNode]:
        """Return all masters."""
        return self._masters

    def node_for(self, command: tuple[Argument, ...]) -> RedisNode:
        """Return the master for a command. Raises ConnectionError if none is known."""
        slot = slot_of(command)
        owner = self.any_node() if slot is None else self._owners[slot]
        if owner is None:
            raise refusals.ConnectionError(f"no node serves slot {slot}")
        return owner

    def any_node(self) -> RedisNode:
        """Return any master, a connected one if possible. Raises ConnectionError if there is none."""
        nodes = [each for each in self._masters if each.is_connected] or self._masters
        if not nodes:
            raise refusals.ConnectionError("no node is known")
        return random.choice(nodes)

    def adopt(self, rows: Reply, asked: Address) -> None:
        """Use the reply of the node at ``asked`` to CLUSTER SLOTS. Nodes without slots are closed when idle."""
        owners: list[RedisNode | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_replicas in rows:
            owners[first : last + 1] = [self._at(_announced(host, port, asked))] * (last + 1 - first)
        self._owners, masters = owners, set(owners)
        self._masters = [each for each in self._known.values() if each in masters]
        for node in [each for each in self._known.values() if each not in self._masters and not each.is_busy]:
            del self._known[node.address]
            node.close()

    def moved(self, slot: int, host: str, port: int, asked: Address) -> RedisNode:
        """Record that a slot has moved, according to the node at ``asked``. Raises ConnectionError if closed."""
        node = self.at(host, port, asked)
        self._owners[slot] = node
        return node

    def at(self, host: str, port: int, asked: Address) -> RedisNode:
        """Return the node at an address that the node at ``asked`` named. Raises ConnectionError if closed."""
        return self._at(_announced(host.encode(), port, asked))

    def close(self) -> None:
        """End all connections. Calls in progress are not redirected any more."""
        self._closed = True
        for node in self._known.values():
            node.close()

    def _at(self, address: Address) -> RedisNode:
        if self._closed:
            raise refusals.ConnectionError("the cluster is being looked up again")
        if address not in self._known:
            self._known[address] = self._open_node(address)
        return self._known[address]


Topology = Single | Cluster


def _announced(host: bytes | None, port: int, asked: Address) -> Address:
    """Return the announced address. A node that does not know its own name is the one that was asked."""
    name = (host or b"").decode()
    return Address(asked.host if name in ("", "?") else name, port)
