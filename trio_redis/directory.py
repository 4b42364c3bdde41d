"""Finds the servers in charge, and keeps track of them and of their availability by the results of calls.

Any server that the URL names can be asked. It reports its kind in HELLO. A standalone server is itself in charge. A
Sentinel names the master that it watches. A node of a cluster names all masters and their slots.

Sentinels learn of a failover one after another, within about two seconds. A former master that comes back within that
time believes that it still is the master, and a Sentinel that has not heard of the failover agrees. So all Sentinels of
the URL are asked, and the one that knows the latest failover (the highest `config-epoch`) is believed.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection

from trio_redis.concurrency import Backoff
from trio_redis.connection import ANY, DIAL_PAUSE_S, Argument, RedisDialler, Reply, cause_of, send
from trio_redis.node import RedisNode
from trio_redis.topology import Cluster, Single, Topology
from trio_redis.url import Address, RedisTarget

T = TypeVar("T")

_NOWHERE = ""  # in place of an address, if no server was found
_CANNOT_SAVE = "MISCONF"  # its disk is full, for example: it refuses writes
_OTHERS_S = 0.5  # how long the other Sentinels may take after the first reply
_REFRESH_PAUSE_S = 0.5  # between two reads of a cluster's slots


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the last calls got a reply. ``since`` is when that changed (Unix seconds)."""

    up: bool
    since: float
    detail: str = ""


OnAvailability = Callable[[Availability], None]


class Directory:
    """The servers and their slots as last read. Only `locate` and `confirm` wait for a server."""

    def __init__(self, locator: Locator, dialler: RedisDialler, on_availability: OnAvailability) -> None:
        self._locator = locator
        self._dialler = dialler
        self._on_availability = on_availability
        self._topology: Topology | None = None
        self._locating = trio.Lock()
        self._pause = Backoff(*DIAL_PAUSE_S)
        self._refreshing = False
        self._refresh_wanted = False
        self._troubles = {_NOWHERE: "not connected yet"}  # by the server's address
        self._available = Availability(up=False, since=time.time(), detail="not connected yet")

    @property
    def available(self) -> Availability:
        """Unavailable as long as one of the servers is."""
        return self._available

    @property
    def topology(self) -> Topology | None:
        """The servers in charge; None if they must be looked up."""
        return self._topology if self._topology is not None and self._topology.usable else None

    async def locate(self) -> Topology:
        """Look up the servers in charge, or raise one of `connection.ANY`. If many tasks call it at once, one does the
        work."""
        async with self._locating:
            found = self.topology
            if self._dialler.nursery is None:
                raise refusals.ConnectionError("closed")
            if found is None:
                if self._pause.remaining_s:
                    raise refusals.ConnectionError(self._pause.detail)
                try:
                    found = await self._locator.locate()
                except ANY as error:
                    self._pause.failed(cause_of(error))
                    raise
                self._pause.succeeded()
                self._replace(found)
        return found

    async def confirm(self, single: Single) -> None:
        """Ask the Sentinels whether the server is still the master. If none responds, it counts as the master."""
        try:
            address = await self._locator.master_address(single.master)
        except ANY:
            return
        if address != single.node.address and single is self._topology:
            self.failed(single.node, f"the master is at {address} now", deposed=True)

    def answered(self, node: RedisNode, command: Argument) -> None:
        """Record that a server replied. One that cannot save its data answers reads, but no PING."""
        if not self._troubles or (command != "PING" and _CANNOT_SAVE in self._troubles.get(str(node.address), "")):
            return
        if self._troubles.pop(str(node.address), None) is not None:
            self._judge()

    def failed(self, node: RedisNode | None, detail: str, *, deposed: bool) -> None:
        """Record that a server did not reply, or that there is none. ``deposed``: another server may be in charge by
        now."""
        topology = self._topology
        if node is None:
            self._troubles[_NOWHERE] = detail
        elif topology is None or node in topology.nodes:
            self._troubles[str(node.address)] = detail
        self._judge()
        if isinstance(topology, Cluster):
            self.refresh_soon()
        elif topology is not None and topology.node is node and (deposed or not topology.usable):
            self._replace(None)

    def refresh_soon(self) -> None:
        """Read the cluster's slots again, in the background."""
        self._refresh_wanted = True
        if not self._refreshing and self._dialler.nursery is not None:
            self._refreshing = True
            self._dialler.start_soon(self._refresh)

    def close(self) -> None:
        """Forget everything, and end all connections."""
        self._replace(None)
        self._pause.succeeded()
        self._refreshing = self._refresh_wanted = False
        self._troubles = {_NOWHERE: "closed"}
        self._judge()

    async def _refresh(self) -> None:
        while self._refresh_wanted and isinstance(self._topology, Cluster):
            self._refresh_wanted = False
            cluster = self._topology
            if not await self._adopt_slots(cluster) and cluster is self._topology:
                self._replace(None)  # the seeds may know other servers
            await trio.sleep(_REFRESH_PAUSE_S)
        self._refreshing = False

    async def _adopt_slots(self, cluster: Cluster) -> bool:
        """Use the slots that any node reports. Return whether one did."""
        nodes = list(cluster.nodes)
        for node in random.sample(nodes, len(nodes)):
            try:
                rows = await node.call(("CLUSTER", "SLOTS"))
            except ANY:
                continue
            if cluster is self._topology:  # else it was closed meanwhile
                cluster.adopt(rows, node.address)
                self._forget_troubles_elsewhere()
            return True
        return False

    def _replace(self, topology: Topology | None) -> None:
        former, self._topology = self._topology, topology
        if former is not None:
            former.close()
        if topology is not None:
            self._forget_troubles_elsewhere()

    def _forget_troubles_elsewhere(self) -> None:
        """Forget failures of servers that are no longer in charge."""
        if self._topology is not None:
            present = {str(each.address) for each in self._topology.nodes}
            self._troubles = {where: what for where, what in self._troubles.items() if where in present}
            self._judge()

    def _judge(self) -> None:
        detail = next(iter(self._troubles.values()), "")
        up = not self._troubles
        since = self._available.since if up == self._available.up else time.time()
        self._available = Availability(up, since, detail)
        if up or self._dialler.nursery is not None:  # else it was closed
            self._on_availability(self._available)


class Locator:
    """Asks the seeds: the servers that a URL names. Every method raises one of `connection.ANY` if none knows."""

    def __init__(self, target: RedisTarget, dialler: RedisDialler, timeout_s: float) -> None:
        self._target = target
        self._dialler = dialler
        self._timeout_s = timeout_s
        self._seeds = deque(target.seeds)  # the first is asked next; one that did not reply moves to the end

    async def locate(self) -> Topology:
        """Return the servers in charge."""
        return await self._ask_seeds(self._located_by)

    async def master_address(self, master: str) -> Address:
        """Return the address of the master, according to the Sentinels."""

        async def ask(seed: Address) -> Address:
            sentinel = await self._dial_seed(seed)
            try:
                return await self._address_of(seed, sentinel, master)
            finally:
                sentinel.invalidate()

        return await self._ask_seeds(ask)

    async def _ask_seeds(self, ask: Callable[[Address], Awaitable[T]]) -> T:
        """Return the answer of the first seed that has one. If time runs out, the next call begins with the next
        seed."""
        began = trio.current_time()
        failure: Exception = refusals.ConnectionError("no seed")
        for _ in range(len(self._seeds)):
            try:
                with trio.fail_after(self._timeout_s):
                    return await ask(self._seeds[0])
            except ANY as error:
                failure = error
                self._seeds.rotate(-1)
            if trio.current_time() - began >= self._timeout_s:
                break
        raise failure

    async def _located_by(self, seed: Address) -> Topology:
        connection = await self._dial_seed(seed)
        kept = False
        try:
            mode, role = await _mode_and_role(connection)
            if mode == b"sentinel":
                return await self._watched_by(seed, connection)
            if mode == b"cluster":
                return await self._cluster_of(seed, connection)
            if role != b"master" and len(self._seeds) > 1:
                raise refusals.ConnectionError(f"{seed} is a replica")
            if self._target.database:
                await send(connection, ("SELECT", self._target.database))
            kept = True
        finally:
            if not kept:
                connection.invalidate()
        return Single(self._open_node(seed, connection))

    async def _watched_by(self, seed: Address, sentinel: TCPConnection) -> Single:
        master = self._target.master or await _only_master(sentinel)
        address = await self._address_of(seed, sentinel, master)
        connection = await self._dialler.dial(address)
        is_master = False
        try:
            _, role = await _mode_and_role(connection)
            is_master = role == b"master"
        finally:
            if not is_master:
                connection.invalidate()
        if not is_master:  # there was a failover that the Sentinels have not noticed yet
            raise refusals.ConnectionError(f"{address} is not the master of {master}")
        return Single(self._open_node(address, connection), master)

    async def _address_of(self, seed: Address, sentinel: TCPConnection, master: str) -> Address:
        """Return the reply of the Sentinel at ``seed``, or of another one that knows of a later failover."""
        replies = [await _ask_sentinel(sentinel, master)]
        others = [each for each in self._seeds if each != seed]
        sending, received = trio.open_memory_channel[_SentinelReply](len(others))

        async def ask(other: Address, sending: trio.MemorySendChannel[_SentinelReply]) -> None:
            with sending, suppress(*ANY, trio.BrokenResourceError), trio.fail_after(self._timeout_s):
                connection = await self._dial_seed(other)
                try:
                    reply = await _ask_sentinel(connection, master)
                    sending.send_nowait(reply)  # BrokenResourceError: the receiver has stopped waiting
                finally:
                    connection.invalidate()

        with received, trio.move_on_after(_OTHERS_S):
            with sending:
                for other in others:
                    self._dialler.start_soon(ask, other, sending.clone())
            async for reply in received:
                replies.append(reply)
        return max(replies, key=lambda each: each.epoch).address  # the first reply among equals

    async def _cluster_of(self, seed: Address, connection: TCPConnection) -> Cluster:
        if self._target.database:
            raise refusals.ConnectionError(f"a cluster has database 0 only, not {self._target.database}")
        cluster = Cluster(self._open_node)
        cluster.adopt(await send(connection, ("CLUSTER", "SLOTS")), seed)
        return cluster

    async def _dial_seed(self, seed: Address) -> TCPConnection:
        return await self._dialler.dial(seed, seed=True)

    def _open_node(self, address: Address, connection: TCPConnection | None = None) -> RedisNode:
        return RedisNode(self._dialler, address, self._timeout_s, connection)


async def _mode_and_role(connection: TCPConnection) -> tuple[bytes, bytes]:
    hello: dict[bytes, Reply] = await send(connection, ("HELLO",))
    return hello[b"mode"], hello.get(b"role", b"")


async def _only_master(sentinel: TCPConnection) -> str:
    names = [str(each[b"name"].decode()) for each in await send(sentinel, ("SENTINEL", "MASTERS"))]
    if len(names) != 1:
        watched = ", ".join(sorted(names)) or "nobody"
        raise refusals.ConnectionError(f"the Sentinel watches {watched}: the URL must name one")
    return names[0]


class _SentinelReply(NamedTuple):
    """What a Sentinel reports: the master, and the number of the last failover that it knows of."""

    epoch: int
    address: Address


async def _ask_sentinel(sentinel: TCPConnection, master: str) -> _SentinelReply:
    # Sent together: the Sentinel learns nothing between the two.
    state = send(sentinel, ("SENTINEL", "MASTER", master))
    address = send(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master))
    reply = await address
    if reply is None:
        raise refusals.ConnectionError(f"the Sentinel knows no master {master}")
    host, port = reply
    return _SentinelReply(int((await state)[b"config-epoch"]), Address(host.decode(), int(port)))
