"""Finds out what a URL leads to, and which servers are in charge. Any server that responds can be asked.

A server reports its kind in HELLO. A standalone server is itself in charge. A Sentinel names the master that it
watches. A node of a cluster names all masters and their slots.

Sentinels learn of a failover one after another, within about two seconds. A former master that comes back within that
time believes that it still is the master, and a Sentinel that has not heard of the failover agrees. So all Sentinels of
the URL are asked, and the one that knows the latest failover (the highest `config-epoch`) is believed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection

from avion_media.backends.redis.connection import RedisDialler, Reply, send
from avion_media.backends.redis.errors import ANY
from avion_media.backends.redis.node import RedisNode
from avion_media.backends.redis.topology import Cluster, Single, Topology
from avion_media.common.redis_url import Address, RedisTarget

T = TypeVar("T")

_OTHERS_S = 0.5  # how long the other Sentinels may take after the first reply


class Locator:
    """Asks the seeds, which are the servers that a URL names. Every method raises one of `errors.ANY` if none knows."""

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
