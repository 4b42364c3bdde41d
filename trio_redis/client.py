"""Calls to Redis: to one server, a master behind Sentinels, or a cluster."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import trio
from coredis import exceptions as refusals

from trio_redis.concurrency import Backoff, run_all
from trio_redis.connection import (
    ANY,
    DEPOSED,
    LONGEST_PAUSE_S,
    PASSING,
    UNAVAILABLE,
    Argument,
    Channels,
    RedisDialler,
    Reply,
    Subscription,
    cause_of,
    code_of,
)
from trio_redis.directory import Availability, Directory, Locator, OnAvailability
from trio_redis.errors import Errors, RedisFull, RedisRefused, RedisUnavailable
from trio_redis.node import NotWithin, RedisNode, Undo
from trio_redis.scripts import Script, load_script
from trio_redis.topology import Cluster, Single, Topology, key_slot
from trio_redis.url import read_redis_url

T = TypeVar("T")

_HOP_PAUSE_S = 0.05  # pause before a redirected call is redirected once more

_WHEN_FULL = load_script("trio_redis", "when_full", flags="allow-oom")
_OWN_ERRORS = Errors()

Perform = Callable[[RedisNode, bool], Awaitable[Reply]]
"""One attempt at a node. The flag says whether the slot of the command is being moved to that node."""


class Redis:
    """The connections of one process while they are `opened`; before and after, calls raise `RedisUnavailable`.

    Users can keep this object while the block is left and entered again: for them that is a short outage.
    """

    def __init__(
        self,
        url: str,
        connections: int = 24,
        timeout_s: float = 5.0,
        *,
        label: str = "",
        errors: Errors = _OWN_ERRORS,
        on_availability: OnAvailability = lambda _now: None,
    ) -> None:
        """See `open_redis` for the arguments."""
        if connections < 4:
            raise ValueError(f"connections must be at least 4, got {connections}")
        self._timeout_s = timeout_s
        self.label = label
        """What stands before the details of its outages."""
        self.errors = errors
        """What makes the errors that calls raise."""
        target = read_redis_url(url)
        self._dialler = RedisDialler(target, timeout_s)
        self._directory = Directory(Locator(target, self._dialler, timeout_s), self._dialler, on_availability)
        self.max_blocking = connections - 2  # all except the shared one and a subscription
        self._blocking = trio.Semaphore(self.max_blocking)
        self._subscribing = trio.Lock()
        self._first_tick = random.uniform(0, 3600)
        self._subscription: Subscription | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Make calls possible inside the block. The block can be entered again later, but not twice at once.

        At its end all connections are closed, and running calls raise `RedisUnavailable`. An error in the block is
        raised unchanged.
        """
        if self._dialler.nursery is not None:
            raise RuntimeError("opened already")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._dialler.nursery = nursery
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below; the nursery would wrap it in a group
                failure = error
            finally:
                self._dialler.nursery = None
                self._directory.close()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    @property
    def available(self) -> Availability:
        """The last known state. Never waits, and never contacts the server. For a cluster: of all its masters."""
        return self._directory.available

    @property
    def blocking(self) -> int:
        """Number of blocking commands in progress, at most `max_blocking`."""
        return self.max_blocking - self._blocking.value

    @property
    def waiting(self) -> int:
        """Number of blocking commands that wait for a connection."""
        return self._blocking.statistics().tasks_waiting

    @property
    def has_sentinels(self) -> bool:
        """Whether Sentinels name the master. Then only `ping` notices that another server has become the master."""
        topology = self._directory.topology
        return isinstance(topology, Single) and topology.master != ""

    def next_tick_s(self, period_s: float) -> float:
        """Return the time until this process sends what it sends once in a period.

        Loops that wait for ticks wake together, and their requests travel in one packet, which costs the server as much
        as one request. Each process has its own ticks.
        """
        left_s = (self._first_tick - trio.current_time()) % period_s
        return left_s if left_s > period_s / 10 else left_s + period_s

    async def ping(self) -> None:
        """Send PING to all servers. Raises `RedisUnavailable` if one does not respond.

        With Sentinels, also ask them whether the server is still the master: one that is cut off from them still
        responds, and everything written to it is lost.
        """
        topology = await self._located("PING")
        await self._on_each(topology, ("PING",))
        if isinstance(topology, Single) and topology.master:
            await self._directory.confirm(topology)

    async def execute(self, *command: Argument, within_s: float = math.inf, when_full: bool = False) -> Reply:
        """Run one command that does not block on the server.

        Raises `RedisUnavailable` if no response came in time, or within ``within_s`` seconds (the command may have
        run), or `RedisRefused`. After a cancel the command may have run. Raises `RedisFull` if the command needs memory
        and none is left. ``when_full``: then it runs nevertheless, because accepted work needs it, or it stores next to
        nothing.
        """
        try:
            return await self._call(command, within_s)
        except RedisFull:
            if not when_full:
                raise
        return await self.run(_WHEN_FULL, (str(command[1]),), command, within_s=within_s)

    async def execute_on_all(self, *command: Argument) -> dict[str, Reply]:
        """Run one command on every server that has keys. Return the replies by address. Errors as in `execute`."""
        return await self._on_each(await self._located(command[0]), command)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of string keys, on any server. Errors as in `execute`."""
        if not keys:
            return []
        if not await self.is_cluster():
            values: list[bytes | None] = await self.execute("MGET", *keys)
            return values
        return await run_all([partial(self.execute, "GET", key) for key in keys], len(keys))

    async def info(self, section: str = "default") -> dict[str, dict[str, str]]:
        """Return what INFO reports of each server, by address. Errors as in `execute`."""
        replies = await self.execute_on_all("INFO", section)
        lines = {server: reply.decode(errors="replace").splitlines() for server, reply in replies.items()}
        return {server: dict(each.split(":", 1) for each in found if ":" in each) for server, found in lines.items()}

    async def memory_use(self) -> float:
        """Return the share of `maxmemory` that the fullest server uses; 0 without a limit, and where INFO is refused.

        Raises `RedisUnavailable`.
        """
        with suppress(RedisRefused):
            found = (await self.info("memory")).values()
            return max(int(each["used_memory"]) / (int(each.get("maxmemory", 0)) or math.inf) for each in found)
        return 0.0

    async def is_cluster(self) -> bool:
        """Return whether keys are spread over several servers. Raises `RedisUnavailable` while that is unknown."""
        return isinstance(await self._located("EVALSHA"), Cluster)

    async def grouped(self, keys: Sequence[str], most: int) -> list[list[str]]:
        """Return the keys in groups that one script can use: each of one cluster slot, with at most ``most`` keys."""
        by_slot: dict[int, list[str]] = {}
        spread = await self.is_cluster()
        for key in keys:
            by_slot.setdefault(key_slot(key.encode()) if spread else 0, []).append(key)
        return [group[first : first + most] for group in by_slot.values() for first in range(0, len(group), most)]

    async def run_in_groups(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument] = (),
        *,
        of_each: Callable[[str], Sequence[Argument]] = lambda _key: (),
        split: Callable[[Reply], Sequence[Reply]] = lambda reply: reply or (),
        most: int = 400,
        at_once: int = 4,
    ) -> dict[str, Reply]:
        """Run a script on `grouped` keys, a few groups at once. Return its reply for each key; errors as in `execute`.

        ``of_each``: the arguments of one key, which follow ``args``. ``split``: the replies in that for a group.
        """
        found: dict[str, Reply] = {}

        async def run(group: Sequence[str]) -> None:
            reply = await self.run(script, group, (*args, *(part for key in group for part in of_each(key))))
            found.update(zip(group, split(reply), strict=False))

        await run_all([partial(run, group) for group in await self.grouped(keys, most)], at_once)
        return found

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument] = (), *, within_s: float = math.inf
    ) -> Reply:
        """Run a script on ``keys``, which must be in one cluster slot. ``within_s`` and errors as in `execute`."""
        operands = (len(keys), *keys, *args)
        try:
            return await self._call(("EVALSHA", script.sha1, *operands), within_s, script.takes_process)
        except RedisRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        return await self._call(("EVAL", script.source, *operands), within_s, script.takes_process)

    async def _call(self, command: tuple[Argument, ...], within_s: float, takes_process: bool = False) -> Reply:
        def perform(node: RedisNode, asking: bool) -> Awaitable[Reply]:
            return node.call(command, asking=asking, within_s=within_s, takes_process=takes_process)

        return await self._answered(command, perform, within_s)

    async def execute_blocking(self, *command: Argument, block_s: float, undo: Undo | None = None) -> Reply:
        """Run one command that waits on the server for at most ``block_s`` (its own argument must say the same).

        Errors as in `execute`. Returns None also if no connection for a blocking command was free for ``block_s``.

        A cancel makes the server stop waiting. If the server had already replied, ``undo`` gets the reply, so that what
        it took from a list or a stream can be given back. All of that takes at most the timeout of one call, and errors
        of this library end it.
        """
        slot_free = False
        with trio.move_on_after(block_s):
            await self._blocking.acquire()
            slot_free = True
        if not slot_free:
            return None
        try:
            return await self._answered(
                command, lambda node, asking: node.call_blocking(command, block_s, undo, asking=asking)
            )
        finally:
            self._blocking.release()

    async def listen(self, channels: Channels) -> None:
        """Receive the messages of these channels until the connection is lost. All listeners share one connection.

        Ends only with `RedisUnavailable`. Messages until the next subscription are lost. In a cluster, any node can
        deliver messages.
        """
        await self._receive(await self._subscribed(), channels)

    async def keep_listening(self, channels: Channels) -> None:
        """Listen, and subscribe again after each outage. Never returns."""
        pause = Backoff()
        while True:
            try:
                subscription = await self._subscribed()
                pause.succeeded()
                await self._receive(subscription, channels)
            except RedisUnavailable:
                await trio.sleep(pause.failed())

    async def _receive(self, subscription: Subscription, channels: Channels) -> None:
        with subscription.listening(channels):
            await subscription.ended.wait()
        raise self._unavailable("the subscription ended")

    async def _subscribed(self) -> Subscription:
        """Return the connection that receives messages. All that wait here use the one that the first of them makes."""
        async with self._subscribing:
            if self._subscription is None or self._subscription.ended.is_set():
                topology = await self._located("SUBSCRIBE")
                node = self._routed("SUBSCRIBE", topology.any_node)
                try:
                    self._subscription = Subscription(await node.dial())
                except ANY as error:
                    raise self._own_error("SUBSCRIBE", node, error) from error
                self._dialler.start_soon(self._run_subscription, self._subscription, node)
            return self._subscription

    async def _run_subscription(self, subscription: Subscription, node: RedisNode) -> None:
        await subscription.run(self._timeout_s)
        if self._directory.available.up:  # else the cause is known
            self._own_error("SUBSCRIBE", node, refusals.ConnectionError("the subscription ended"))

    async def _answered(self, command: tuple[Argument, ...], perform: Perform, within_s: float = math.inf) -> Reply:
        """Return the reply of the server that has the keys of the command. Follows redirects."""
        topology = self._directory.topology
        if topology is None:
            try:
                with trio.fail_after(within_s):
                    topology = await self._located(command[0])
            except trio.TooSlowError:
                raise self._not_within(within_s) from None
        node, asking = self._routed(command[0], partial(topology.node_for, command)), False
        give_up_at = math.inf
        while True:
            try:
                reply = await perform(node, asking)
            except (refusals.AskError, refusals.TryAgainError) as hop:
                if not isinstance(topology, Cluster) or trio.current_time() >= give_up_at:
                    raise self._own_error(command[0], node, hop) from hop
                if give_up_at == math.inf:
                    give_up_at = trio.current_time() + self._timeout_s
                else:
                    await trio.sleep(_HOP_PAUSE_S)
                node, asking = self._routed(command[0], partial(self._next_hop, topology, node, asking, hop))
            except NotWithin:
                raise self._not_within(within_s) from None
            except ANY as error:
                raise self._own_error(command[0], node, error) from error
            else:
                self._directory.answered(node, command[0])
                return reply

    def _next_hop(
        self, cluster: Cluster, node: RedisNode, asking: bool, hop: refusals.AskError | refusals.TryAgainError
    ) -> tuple[RedisNode, bool]:
        """Return the server to try next, and whether the slot is being moved there."""
        if isinstance(hop, refusals.MovedError):
            self._directory.refresh_soon()
            return cluster.moved(hop.slot_id, hop.host, hop.port, node.address), False
        if isinstance(hop, refusals.AskError):
            return cluster.at(hop.host, hop.port, node.address), True
        return node, asking  # only some keys of the command have moved yet; try again until all have

    async def _on_each(self, topology: Topology, command: tuple[Argument, ...]) -> dict[str, Reply]:
        async def ask(node: RedisNode) -> tuple[str, Reply]:
            try:
                reply = await node.call(command)
            except ANY as error:
                raise self._own_error(command[0], node, error) from error
            self._directory.answered(node, command[0])
            return str(node.address), reply

        return dict(await run_all([partial(ask, node) for node in topology.nodes], len(topology.nodes)))

    async def _located(self, command: Argument) -> Topology:
        topology = self._directory.topology
        if topology is not None:
            return topology
        try:
            return await self._directory.locate()
        except ANY as error:
            raise self._own_error(command, None, error) from error

    def _routed(self, command: Argument, route: Callable[[], T]) -> T:
        try:
            return route()
        except refusals.ConnectionError as error:
            raise self._own_error(command, None, error) from error

    def _own_error(
        self, command: Argument, node: RedisNode | None, error: Exception
    ) -> RedisUnavailable | RedisRefused:
        """Convert an error of coredis or the socket to one of `errors`. Report it to the directory."""
        code, message = code_of(error)
        if isinstance(error, UNAVAILABLE):
            detail = cause_of(error)
        elif code in PASSING:
            detail = f"{code} {message}"
        else:
            if node is not None:
                self._directory.answered(node, command)
            if code == "OOM":
                return self.errors.full()
            return self.errors.refused(str(command), code, message)
        self._directory.failed(node, f"{self.label}{detail}", deposed=isinstance(error, DEPOSED))
        return self._unavailable(detail)

    def _not_within(self, within_s: float) -> RedisUnavailable:
        return self._unavailable(f"no reply within {within_s:g} s")

    def _unavailable(self, detail: str) -> RedisUnavailable:
        return self.errors.unavailable(detail, LONGEST_PAUSE_S)


@asynccontextmanager
async def open_redis(
    url: str,
    connections: int = 24,
    timeout_s: float = 5.0,
    *,
    label: str = "",
    errors: Errors = _OWN_ERRORS,
    on_availability: OnAvailability = lambda _now: None,
) -> AsyncIterator[Redis]:
    """Open the connections to the servers behind ``url`` (see `read_redis_url`). Raises ValueError for what is none.

    An unavailable Redis is not an error here: connections are made when they are first needed. ``connections`` (at
    least 4) limits the connections of the whole process to one server; ``timeout_s`` limits the wait for any reply.
    ``label`` stands before the details of outages, if a process has several of these. ``on_availability`` is called
    with `Redis.available` after each failure and each end of an outage; it must return at once. At the end of the block
    all connections are closed, and running calls raise `RedisUnavailable`. An error in the block is raised unchanged.
    """
    redis = Redis(url, connections, timeout_s, label=label, errors=errors, on_availability=on_availability)
    async with redis.opened():
        yield redis
