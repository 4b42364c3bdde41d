"""Redis on Trio: a thin adapter over coredis's connections, and the one place that turns its errors into ours.

Commands of the whole process share *one* connection. coredis writes and answers in order, so calls from any number of
tasks travel as a pipeline: 2.5 times the calls per second of its pool, and none of the pool's faults under cancellation
(6.9: a cancelled waiter loses a wakeup, a cancelled connect and a dropped blocking connection each lose a slot for
good). A cancelled call leaves its request in the pipeline; the answer is dropped when it comes.

What would hold up the others has a connection of its own: blocking reads (kept for the next one) and subscriptions.

An outage is a state: calls say `Unavailable`, the next ones connect again, no more often than a growing pause allows.
"""

from __future__ import annotations

import hashlib
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection, TCPLocation

from avion_media.domain.errors import MediaError, Unavailable

Argument = str | bytes | int | float
Reply = Any  # as Redis sends it: None, int, float, bool, bytes, and lists and dicts of these

REDIS = "redis"
_MAX_CALLS = 1024  # in flight at once: bounds the write buffer, which coredis leaves unbounded
_MAX_CONNECT_S = 2.0  # a connect is shielded from cancellation, so it is kept short
_DIAL_PAUSE_S = (0.05, 1.0)  # first and longest pause between two connects that fail
_QUIET_S = 15.0  # a silent subscription is asked for a sign of life after this long

# The server is there, but cannot do it now; not our fault, and it passes.
_PASSING = frozenset({"OOM", "MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"})
_AWAY = (
    refusals.ConnectionError,  # includes LOADING, and a Cancelled inside a connect, which coredis turns into this
    refusals.ReadOnlyError,  # a failover happened behind the address
    refusals.AuthenticationError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
    trio.TooSlowError,
)
# coredis cuts these off the message; callers decide by them.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (refusals.StreamDuplicateConsumerGroupError, "BUSYGROUP"),
    (refusals.StreamConsumerGroupError, "NOGROUP"),
    (refusals.NoScriptError, "NOSCRIPT"),
    (refusals.WrongTypeError, "WRONGTYPE"),
    (refusals.UnblockedError, "UNBLOCKED"),  # a failover under a blocking read
    (refusals.ClusterDownError, "CLUSTERDOWN"),
    (refusals.TryAgainError, "TRYAGAIN"),
    (refusals.ClusterCrossSlotError, "CROSSSLOT"),
    (refusals.AuthorizationError, "NOPERM"),
)

# It logs a traceback for each connect that fails. Here that is a state, and told by `Redis.available`.
logging.getLogger("coredis").setLevel(logging.CRITICAL)


class RedisRefused(MediaError):
    """Redis answered with an error that is no outage: a defect of ours. ``code`` is its first word (``NOGROUP``)."""

    def __init__(self, command: str, code: str, message: str) -> None:
        super().__init__(f"redis refused {command}: {code} {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the last call got an answer. ``since`` is when that changed (Unix seconds)."""

    up: bool
    since: float
    detail: str = ""


class Script:
    """A Lua script, known to the server by its digest."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        # The digest is a name that Redis prescribes, nothing that secrets hang on.
        self.sha1 = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Redis:
    """The connections of one process, for as long as somebody has them `opened`; `Unavailable` before and after.

    Whoever holds it may go on holding it while its supervised child is started again: a closed one is one more outage.
    """

    def __init__(self, url: str, connections: int = 24, timeout_s: float = 5.0) -> None:
        """See `open_redis` for the arguments."""
        if connections < 4:
            raise ValueError(f"connections must be at least 4, got {connections}")
        self._nursery: trio.Nursery | None = None
        self._location, self._options = _read_url(url)
        self._timeout_s = timeout_s
        self._connect_s = min(timeout_s, _MAX_CONNECT_S)
        self._shared: TCPConnection | None = None
        self._dialling = trio.Lock()
        self._dial_again_at = -1.0
        self._failed_dials = 0
        self._calls = trio.CapacityLimiter(_MAX_CALLS)
        self._blocking = trio.Semaphore(connections - 2)  # all but the shared one and a subscription
        self._idle: list[TCPConnection] = []
        self._available = Availability(up=False, since=time.time(), detail="not connected yet")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Calls work inside the block; it may be entered again later, but not twice at once.

        Leaving it closes all connections; calls still running then say `Unavailable`. An error in the block comes out
        as it is.
        """
        if self._nursery is not None:
            raise RuntimeError("opened already")
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below; the nursery would wrap it in a group
                failure = error
            finally:
                self._nursery = None
                self._shared = None
                self._idle.clear()
                self._failed_dials, self._dial_again_at = 0, -1.0
                self._went_away("closed")
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    @property
    def available(self) -> Availability:
        """The last known state; never waits, never asks the server."""
        return self._available

    async def ping(self) -> None:
        """Ask for a sign of life. `Unavailable` when there is none."""
        await self.execute("PING")

    async def execute(self, *command: Argument) -> Reply:
        """One command that does not block on the server.

        Raises `Unavailable` (no answer in time; the command may have run all the same) or `RedisRefused`. After a
        cancel the command may or may not have run.
        """
        sent_over: TCPConnection | None = None
        with self._translated(command[0]):
            try:
                with trio.fail_after(self._timeout_s):
                    async with self._calls:
                        sent_over = await self._shared_connection()
                        reply = await _send(sent_over, command)
            except trio.TooSlowError:
                if sent_over is not None:
                    sent_over.invalidate()  # answers come in order: all calls behind this one are stuck as well
                raise
        return reply

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument] = ()) -> Reply:
        """Run a script on ``keys``, which must lie in one cluster slot. Errors as in `execute`."""
        operands = (len(keys), *keys, *args)
        try:
            return await self.execute("EVALSHA", script.sha1, *operands)
        except RedisRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        return await self.execute("EVAL", script.source, *operands)

    async def execute_blocking(
        self, *command: Argument, block_s: float, undo: Callable[[Reply], Awaitable[None]] | None = None
    ) -> Reply:
        """One command that waits on the server for at most ``block_s`` (its own argument must say the same).

        Errors as in `execute`. Also None when no connection for a blocking command was free for ``block_s``.

        On a cancel the server is told to stop waiting. If it had answered by then, the answer goes to ``undo``, so that
        what it handed out is not left with nobody; all of that within the time of one call.
        """
        slot_free = False
        with trio.move_on_after(block_s):
            await self._blocking.acquire()
            slot_free = True
        if not slot_free:
            return None
        try:
            with self._translated(command[0]):
                return await self._on_own_connection(command, block_s, undo)
        finally:
            self._blocking.release()

    async def listen(self, *channels: str, heard: Callable[[str, bytes], None], subscribed: Callable[[], None]) -> None:
        """Subscribe, call ``subscribed`` once and ``heard`` for each message, until the connection is lost.

        Ends with `Unavailable` only; what is published until the next subscription is lost. Both callbacks must return
        at once. A cancel ends the subscription.
        """
        with self._translated("SUBSCRIBE"):
            connection = await self._dial()
            try:
                await self._hear(connection, channels, heard, subscribed)
            finally:
                connection.invalidate()
            raise refusals.ConnectionError("the subscription ended")

    async def _hear(
        self,
        connection: TCPConnection,
        channels: tuple[str, ...],
        heard: Callable[[str, bytes], None],
        subscribed: Callable[[], None],
    ) -> None:
        """Returns when the connection is lost."""
        missing = set(channels)
        connection.send_command(b"SUBSCRIBE", *channels)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_over, connection)
            try:
                async with aclosing(connection.push_messages) as pushes:
                    push: Any  # kind, channel, payload
                    async for push in pushes:
                        channel = push[1].decode()
                        if push[0] == b"message":
                            heard(channel, push[2])
                        elif push[0] == b"subscribe" and channel in missing:
                            missing.discard(channel)
                            if not missing:
                                subscribed()
            except refusals.ConnectionError:
                pass  # the caller says so, outside the nursery
            nursery.cancel_scope.cancel()

    async def _watch_over(self, connection: TCPConnection) -> None:
        """End a subscription whose server is silent for good."""
        try:
            while True:
                await trio.sleep(_QUIET_S)
                with trio.fail_after(self._timeout_s):
                    await _send(connection, ("PING",))
        except _AWAY:
            connection.invalidate()

    async def _on_own_connection(
        self, command: tuple[Argument, ...], block_s: float, undo: Callable[[Reply], Awaitable[None]] | None
    ) -> Reply:
        connection = await self._idle_connection()
        request = _send(connection, command)
        try:
            with trio.fail_after(block_s + self._timeout_s):
                reply = await request
        except trio.TooSlowError:
            connection.invalidate()
            raise
        except trio.Cancelled:
            settled = False
            # Shielded, so that nothing is handed out to nobody. Bounded by one call's time.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._timeout_s):
                settled = await self._stop_waiting(connection, request, undo)
            if settled:
                self._idle.append(connection)
            else:
                connection.invalidate()
            raise
        self._idle.append(connection)
        return reply

    async def _stop_waiting(
        self, connection: TCPConnection, request: Awaitable[Reply], undo: Callable[[Reply], Awaitable[None]] | None
    ) -> bool:
        """Whether the connection is at rest again."""
        try:
            await self.execute("CLIENT", "UNBLOCK", connection.client_id or 0)
            reply = await request
            if reply is not None and undo is not None:
                await undo(reply)
        except (MediaError, refusals.RedisError):
            return False  # what was handed out, if anything, is found again when its lease has expired
        return True

    async def _idle_connection(self) -> TCPConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await self._dial()

    async def _shared_connection(self) -> TCPConnection:
        if self._shared is None or not self._shared.usable:
            async with self._dialling:  # whoever waits here takes what the first one got
                if self._shared is None or not self._shared.usable:
                    self._shared = await self._dial()
        return self._shared

    async def _dial(self) -> TCPConnection:
        if self._nursery is None:
            raise refusals.ConnectionError("closed")
        if trio.current_time() < self._dial_again_at:
            raise refusals.ConnectionError(self._available.detail or "connecting failed a moment ago")
        connection = _Connection(self._location, **self._options)
        try:
            # Shielded: coredis turns a Cancelled in here into an error of its own. Bounded by its own time.
            with trio.fail_after(self._connect_s, shield=True):
                await self._nursery.start(_serve, connection)
        except _AWAY:
            first, longest = _DIAL_PAUSE_S
            pause_s = min(longest, first * 2.0 ** min(self._failed_dials, 10)) * random.uniform(0.5, 1.0)
            self._failed_dials += 1
            self._dial_again_at = trio.current_time() + pause_s
            raise
        self._failed_dials = 0
        return connection

    @contextmanager
    def _translated(self, command: Argument) -> Iterator[None]:
        """The domain's errors for coredis's and the socket's, and the state that they tell of."""
        try:
            yield
        except _AWAY as error:
            if isinstance(error, refusals.ReadOnlyError) and self._shared is not None:
                self._shared.invalidate()
            raise self._went_away(_cause(error)) from error
        except refusals.RedisError as error:
            code, message = _code(error)
            if code in _PASSING:
                raise self._went_away(f"{code} {message}") from error
            self._is_up()  # it answered
            raise RedisRefused(str(command), code, message) from error
        self._is_up()

    def _is_up(self) -> None:
        if not self._available.up:
            self._available = Availability(up=True, since=time.time())

    def _went_away(self, detail: str) -> Unavailable:
        since = time.time() if self._available.up else self._available.since
        self._available = Availability(up=False, since=since, detail=detail)
        return Unavailable(REDIS, detail, retry_after_s=_DIAL_PAUSE_S[1])


@asynccontextmanager
async def open_redis(url: str, connections: int = 24, timeout_s: float = 5.0) -> AsyncIterator[Redis]:
    """Open the adapter for ``redis://[user:password@]host[:port][/database]`` or ``rediss://…?ssl_ca_certs=FILE``.

    Never fails because Redis is away: connections are made when first needed. ``connections`` (at least 4) bounds those
    of the whole process, ``timeout_s`` the wait for any answer. Leaving the block closes all of them; calls still
    running then say `Unavailable`. An error in the block comes out as it is.
    """
    redis = Redis(url, connections, timeout_s)
    async with redis.opened():
        yield redis


def _send(connection: TCPConnection, command: tuple[Argument, ...]) -> Awaitable[Reply]:
    """Queue a command; await the result for its reply. Never decoded here: foreign fields need not be UTF-8."""
    return connection.create_request(str(command[0]).encode(), *command[1:], decode=False)


class _Connection(TCPConnection):
    """coredis's connection; one that never came about closes its buffers as well (6.9 leaves them open)."""

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await super().run(task_status=task_status)
        finally:
            self._write_buffer_in.close()
            self._write_buffer_out.close()
            self._push_message_buffer_in.close()
            self._push_message_buffer_out.close()
            self._streamed_message_buffer_in.close()
            self._streamed_message_buffer_out.close()


async def _serve(connection: TCPConnection, task_status: trio.TaskStatus[None]) -> None:
    """Run a connection until it is lost. A failure to connect is the caller's, later ones are told by its calls."""
    started = False

    class _Started:
        def started(self, value: None = None) -> None:
            nonlocal started
            started = True
            task_status.started(value)

    try:
        await connection.run(task_status=_Started())
    except refusals.RedisError:
        if not started:
            raise


def _read_url(url: str) -> tuple[TCPLocation, dict[str, Any]]:
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("expected redis://host:port/database or rediss://…")
    options: dict[str, Any] = {"db": int(parts.path.strip("/") or 0), "socket_keepalive": True}
    if parts.password is not None:
        options |= {"username": unquote(parts.username or "") or "default", "password": unquote(parts.password)}
    if parts.scheme == "rediss":
        authorities = parse_qs(parts.query).get("ssl_ca_certs", [None])[0]
        options["ssl_context"] = ssl.create_default_context(cafile=authorities)
    return TCPLocation(parts.hostname, parts.port or 6379), options


def _code(error: Exception) -> tuple[str, str]:
    message = str(error)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, message
    code, _, rest = message.partition(" ")
    return (code, rest) if code.isupper() else ("ERR", message)


def _cause(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    return str(error) or type(error).__name__
