"""Calls to Redis, whatever of it there is behind the URL."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import trio
from coredis import exceptions as refusals

from avion_media.domain.errors import Dependency, Unavailable
from avion_media.domain.redis_url import read_redis_url
from avion_media.redis.connection import LONGEST_PAUSE_S, Argument, Dialler, Reply
from avion_media.redis.directory import Availability, Directory
from avion_media.redis.errors import ANY, DEPOSED, PASSING, UNAVAILABLE, RedisRefused, cause_of, code_of
from avion_media.redis.locator import Locator
from avion_media.redis.node import Node, Undo
from avion_media.redis.slots import key_slot
from avion_media.redis.subscription import hear
from avion_media.redis.topology import Cluster, Single, Topology

T = TypeVar("T")

_HOP_PAUSE_S = 0.05  # before a call that was sent elsewhere is sent elsewhere once more

Perform = Callable[[Node, bool], Awaitable[Reply]]
"""One try at a node; the flag says that the slot is just moving there."""


class Script:
    """A Lua script, known to the server by its digest."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        # The digest is a name that Redis prescribes, nothing that secrets hang on.
        self.sha1 = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Redis:
    """The connections of one process, for as long as somebody has them `opened`; `Unavailable` before and after.

    Its users can keep it while its supervised child restarts: a closed one is one more outage.
    """

    def __init__(self, url: str, connections: int = 24, timeout_s: float = 5.0, *, state_url: str = "") -> None:
        """See `open_redis` for the arguments."""
        if connections < 4:
            raise ValueError(f"connections must be at least 4, got {connections}")
        self._timeout_s = timeout_s
        self.state = Redis(state_url, connections, timeout_s) if state_url and state_url != url else self
        """The Redis of statuses, deletion records and remote state: this one, unless another one is configured."""
        target = read_redis_url(url)
        self._dialler = Dialler(target, timeout_s)
        self._directory = Directory(Locator(target, self._dialler, timeout_s), self._dialler)
        self.max_blocking = connections - 2  # all but the shared one and a subscription
        self._blocking = trio.Semaphore(self.max_blocking)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Calls work inside the block; it may be entered again later, but not twice at once.

        Leaving it closes all connections; calls still running then say `Unavailable`. An error in the block comes out
        as it is.
        """
        if self._dialler.nursery is not None:
            raise RuntimeError("opened already")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._dialler.nursery = nursery
            try:
                async with nullcontext() if self.state is self else self.state.opened():
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
        """The last known state; never waits, never asks the server. In a cluster: of all its masters.

        With a Redis of its own for statuses: that of the one that is unavailable, if one is.
        """
        mine = self._directory.available
        return mine if self.state is self or not mine.up else self.state.available

    @contextmanager
    def observed(self, observer: Callable[[Availability], None]) -> Iterator[None]:
        """Call ``observer`` with `available` at each failure, and when an outage ends, for the length of the block.

        It is called synchronously, in the task whose call failed or succeeded.
        """
        self._directory.observer = observer
        try:
            yield
        finally:
            self._directory.observer = None

    @property
    def blocking(self) -> int:
        """Blocking commands in progress, of `max_blocking` at most."""
        return self.max_blocking - self._blocking.value

    @property
    def waiting(self) -> int:
        """Blocking commands that wait for a connection."""
        return self._blocking.statistics().tasks_waiting

    @property
    def has_sentinels(self) -> bool:
        """Whether Sentinels say which server is the master: then only `ping` notices that it was deposed."""
        topology = self._directory.topology
        return isinstance(topology, Single) and bool(topology.master)

    async def ping(self) -> None:
        """Ask all servers for a sign of life. `Unavailable` when one gives none.

        Where Sentinels watch, they are asked as well whether this is still the master: one that was cut off from them
        answers as if nothing had happened, and what it takes is lost.
        """
        topology = await self._located("PING")
        await self._on_each(topology, ("PING",))
        if self.state is not self:
            await self.state.ping()
        if isinstance(topology, Single) and topology.master:
            await self._directory.confirm(topology)

    async def execute(self, *command: Argument) -> Reply:
        """One command that does not block on the server.

        Raises `Unavailable` (no answer in time; the command may have run all the same) or `RedisRefused`. After a
        cancel it is not known whether the command has run.
        """
        return await self._answered(command, lambda node, asking: node.call(command, asking=asking))

    async def execute_on_all(self, *command: Argument) -> dict[str, Reply]:
        """One command on every server that has keys; the replies by the servers' addresses. Errors as in `execute`."""
        return await self._on_each(await self._located(command[0]), command)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of string keys, wherever they lie. Errors as in `execute`."""
        if not keys:
            return []
        if isinstance(await self._located("MGET"), Single):
            values: list[bytes | None] = await self.execute("MGET", *keys)
            return values
        found: dict[str, bytes | None] = {}

        async def get(key: str) -> None:
            found[key] = await self.execute("GET", key)

        await _all([partial(get, key) for key in dict.fromkeys(keys)])
        return [found[key] for key in keys]

    async def is_cluster(self) -> bool:
        """Whether keys are spread over several servers. `Unavailable` while nobody can tell."""
        return isinstance(await self._located("EVALSHA"), Cluster)

    async def grouped(self, keys: Sequence[str], most: int) -> list[list[str]]:
        """The keys in groups that one script may touch: of one cluster slot, and at most ``most`` in each."""
        by_slot: dict[int, list[str]] = {}
        spread = await self.is_cluster()
        for key in keys:
            by_slot.setdefault(key_slot(key.encode()) if spread else 0, []).append(key)
        return [group[first : first + most] for group in by_slot.values() for first in range(0, len(group), most)]

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument] = ()) -> Reply:
        """Run a script on ``keys``, which must lie in one cluster slot. Errors as in `execute`."""
        operands = (len(keys), *keys, *args)
        try:
            return await self.execute("EVALSHA", script.sha1, *operands)
        except RedisRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        return await self.execute("EVAL", script.source, *operands)

    async def execute_blocking(self, *command: Argument, block_s: float, undo: Undo | None = None) -> Reply:
        """One command that waits on the server for at most ``block_s`` (its own argument must say the same).

        Errors as in `execute`. Also None when no connection for a blocking command was free for ``block_s``.

        A cancel makes the server stop waiting. If it had answered by then, the answer goes to ``undo``, so that
        what it handed out is not left with nobody; all of that within the time of one call.
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

    async def listen(self, *channels: str, heard: Callable[[str, bytes], None], subscribed: Callable[[], None]) -> None:
        """Subscribe, call ``subscribed`` once and ``heard`` for each message, until the connection is lost.

        Ends with `Unavailable` only; what is published until the next subscription is lost. Both callbacks must return
        at once. A cancel ends the subscription. In a cluster, messages are heard at whichever node.
        """
        topology = await self._located("SUBSCRIBE")
        node = self._routed("SUBSCRIBE", topology.any_node)
        try:
            connection = await node.dial()
            try:
                await hear(connection, channels, heard, subscribed, self._timeout_s)
            finally:
                connection.invalidate()
            raise refusals.ConnectionError("the subscription ended")
        except ANY as error:
            raise self._to_domain_error("SUBSCRIBE", node, error) from error

    async def _answered(self, command: tuple[Argument, ...], perform: Perform) -> Reply:
        """Return the reply of the server in charge of the command's keys, found by following redirects."""
        topology = await self._located(command[0])
        node, asking = self._routed(command[0], partial(topology.node_for, command)), False
        give_up_at = math.inf
        while True:
            try:
                reply = await perform(node, asking)
            except (refusals.AskError, refusals.TryAgainError) as hop:
                if not isinstance(topology, Cluster) or trio.current_time() >= give_up_at:
                    raise self._to_domain_error(command[0], node, hop) from hop
                if give_up_at == math.inf:
                    give_up_at = trio.current_time() + self._timeout_s
                else:
                    await trio.sleep(_HOP_PAUSE_S)
                node, asking = self._routed(command[0], partial(self._next_hop, topology, node, asking, hop))
            except ANY as error:
                raise self._to_domain_error(command[0], node, error) from error
            else:
                self._directory.answered(node)
                return reply

    def _next_hop(
        self, cluster: Cluster, node: Node, asking: bool, hop: refusals.AskError | refusals.TryAgainError
    ) -> tuple[Node, bool]:
        """Where to ask next, and whether the slot is just moving there."""
        if isinstance(hop, refusals.MovedError):
            self._directory.refresh_soon()
            return cluster.moved(hop.slot_id, hop.host, hop.port, node.address), False
        if isinstance(hop, refusals.AskError):
            return cluster.at(hop.host, hop.port, node.address), True
        return node, asking  # some of its keys have moved, and some not; they come together again

    async def _on_each(self, topology: Topology, command: tuple[Argument, ...]) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}

        async def ask(node: Node) -> None:
            try:
                replies[str(node.address)] = await node.call(command)
            except ANY as error:
                raise self._to_domain_error(command[0], node, error) from error
            self._directory.answered(node)

        await _all([partial(ask, node) for node in topology.nodes])
        return replies

    async def _located(self, command: Argument) -> Topology:
        topology = self._directory.topology
        if topology is not None:
            return topology
        try:
            return await self._directory.locate()
        except ANY as error:
            raise self._to_domain_error(command, None, error) from error

    def _routed(self, command: Argument, route: Callable[[], T]) -> T:
        try:
            return route()
        except refusals.ConnectionError as error:
            raise self._to_domain_error(command, None, error) from error

    def _to_domain_error(self, command: Argument, node: Node | None, error: Exception) -> Unavailable | RedisRefused:
        """Convert an error of coredis or the socket to an error of the domain. Report it to the directory."""
        code, message = code_of(error)
        if isinstance(error, UNAVAILABLE):
            detail = cause_of(error)
        elif code in PASSING:
            detail = f"{code} {message}"
        else:
            if node is not None:
                self._directory.answered(node)
            return RedisRefused(str(command), code, message)
        self._directory.failed(node, detail, deposed=isinstance(error, DEPOSED))
        return Unavailable(Dependency.REDIS, detail, retry_after_s=LONGEST_PAUSE_S)


async def _all(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Make all calls at once, and wait for all; then the first failure, if any, is raised."""
    failures: list[Unavailable | RedisRefused] = []

    async def attempt(call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except (Unavailable, RedisRefused) as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(attempt, call)
    if failures:
        raise failures[0]


@asynccontextmanager
async def open_redis(
    url: str, connections: int = 24, timeout_s: float = 5.0, *, state_url: str = ""
) -> AsyncIterator[Redis]:
    """Open the adapter for what ``url`` leads to: see `avion_media.domain.redis_url`.

    Never fails because Redis is unavailable: connections are made when first needed. ``connections`` (at least 4)
    bounds those of the whole process to one server, ``timeout_s`` the wait for any answer. ``state_url`` leads to the
    Redis of statuses, deletion records and remote state, if that is another one: `Redis.state`. Leaving the block
    closes all of them; calls still running then say `Unavailable`. An error in the block comes out as it is.
    """
    redis = Redis(url, connections, timeout_s, state_url=state_url)
    async with redis.opened():
        yield redis
