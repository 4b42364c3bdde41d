"""One connection of coredis: how it is made, how it ends, one command or a subscription over it, and its errors."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import anyio
import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection, TCPLocation

from trio_redis.url import Address, Credentials, RedisTarget

Argument = str | bytes | int | float
Reply = Any  # as Redis sends it: None, int, float, bool, bytes, and lists and dicts of these

_MAX_CONNECT_S = 2.0  # short, because a connect is shielded from cancellation
DIAL_PAUSE_S = (0.05, 1.0)  # shortest and longest pause between two failed connects
LONGEST_PAUSE_S = DIAL_PAUSE_S[1]
_QUIET_S = 15.0  # a subscription without messages sends a PING after this long

# coredis logs a traceback for each failed connect. Here that is a state, which `Redis.available` shows.
logging.getLogger("coredis").setLevel(logging.CRITICAL)

# The server responds, but cannot run the command now. This passes.
PASSING = frozenset(
    {"MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "REDIRECTED", "UNBLOCKED"}
)
# The server cannot be reached.
UNAVAILABLE = (
    refusals.ConnectionError,  # includes LOADING, and a Cancelled inside a connect, which coredis turns into this
    refusals.ReadOnlyError,  # the address leads to a replica after a failover
    refusals.AuthenticationError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
    trio.TooSlowError,
)
# Every error that a call can raise.
ANY = (*UNAVAILABLE, refusals.RedisError)
# Signs that another server may be in charge by now.
DEPOSED = (refusals.ReadOnlyError, refusals.UnblockedError, refusals.ClusterDownError, refusals.AskError)

# coredis removes these codes from the message; callers need them.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (refusals.StreamDuplicateConsumerGroupError, "BUSYGROUP"),
    (refusals.StreamConsumerGroupError, "NOGROUP"),
    (refusals.NoScriptError, "NOSCRIPT"),
    (refusals.WrongTypeError, "WRONGTYPE"),
    (refusals.UnblockedError, "UNBLOCKED"),  # a failover under a blocking read
    (refusals.ClusterDownError, "CLUSTERDOWN"),
    (refusals.TryAgainError, "TRYAGAIN"),
    (refusals.AskError, "REDIRECTED"),  # also MOVED: in circles, or by a single server that became part of a cluster
    (refusals.ClusterCrossSlotError, "CROSSSLOT"),
    (refusals.AuthorizationError, "NOPERM"),
)


def send(connection: TCPConnection, command: tuple[Argument, ...]) -> Awaitable[Reply]:
    """Queue a command, and return an awaitable of its reply. Replies are not decoded, because fields might not be
    UTF-8."""
    return connection.create_request(str(command[0]).encode(), *command[1:], decode=False)


def as_map(reply: Reply) -> dict[bytes, Reply]:
    """Return ``[name, value, …]`` as a map. If a name is repeated, the last value counts."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def as_text(reply: Reply) -> dict[str, str]:
    """Return the same as text. Invalid UTF-8 is replaced."""
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in as_map(reply).items()}


class RedisDialler:
    """Makes connections to ``target``. They live in ``nursery``, as long as it is open."""

    def __init__(self, target: RedisTarget, timeout_s: float) -> None:
        self.nursery: trio.Nursery | None = None
        self._connect_s = min(timeout_s, _MAX_CONNECT_S)
        tls = ssl.create_default_context(cafile=target.ssl_ca_certs or None) if target.tls else None
        self._options = _options(target.credentials, target.database, tls)
        # The database is selected later, because a Sentinel has none.
        self._seed_options = _options(target.seed_credentials, 0, tls)

    async def dial(self, address: Address, *, seed: bool = False) -> TCPConnection:
        """Return a new connection, which the caller invalidates. Raises one of `connection.UNAVAILABLE`."""
        nursery = self._open_nursery()
        connection = _Connection(TCPLocation(*address), **(self._seed_options if seed else self._options))
        try:
            # Shielded, because coredis turns a Cancelled here into an error of its own. Bounded by its own timeout.
            with trio.fail_after(self._connect_s, shield=True):
                await nursery.start(_serve, connection)
        except refusals.ResponseError as error:  # wrong credentials or database, for example
            raise refusals.ConnectionError(cause_of(error)) from error
        return connection

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a background task, until its end or the end of the connections. It must not raise."""
        self._open_nursery().start_soon(task, *args)

    def _open_nursery(self) -> trio.Nursery:
        if self.nursery is None:
            raise refusals.ConnectionError("closed")
        return self.nursery


def _options(credentials: Credentials, database: int, tls: ssl.SSLContext | None) -> dict[str, Any]:
    options: dict[str, Any] = {"db": database, "socket_keepalive": True}
    if credentials.username or credentials.password:
        options |= {"username": credentials.username or "default", "password": credentials.password}
    if tls is not None:
        options["ssl_context"] = tls
    return options


class _Connection(TCPConnection):
    """A connection of coredis that also closes its buffers if it could not connect (6.9 leaves them open)."""

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
    """Run a connection until it is lost. The caller gets an error of the connect; later calls get later errors."""
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


Heard = Callable[[str, bytes], None]


class Channels:
    """The channels of one listener, which can change while it listens. All callbacks return at once.

    ``heard`` is called with channel and message; ``subscribed`` when a subscription to a channel begins, because what
    was published before is not received.
    """

    def __init__(self, *names: str, heard: Heard, subscribed: Callable[[str], None]) -> None:
        self.names = set(names)
        self.heard = heard
        self.subscribed = subscribed
        self.subscription: Subscription | None = None

    def add(self, name: str) -> None:
        """Listen to another channel, too."""
        self.names.add(name)
        if self.subscription is not None:
            self.subscription.subscribe([name])

    def discard(self, name: str) -> None:
        """Do not listen to a channel any more."""
        self.names.discard(name)
        if self.subscription is not None:
            self.subscription.unsubscribe([name])


class Subscription:
    """A connection that receives messages, for all listeners of this process."""

    def __init__(self, connection: TCPConnection) -> None:
        self.ended = trio.Event()
        self._connection = connection
        self._listeners: list[Channels] = []

    @contextmanager
    def listening(self, channels: Channels) -> Iterator[None]:
        """Receive the messages of these channels inside the block."""
        self._listeners.append(channels)
        channels.subscription = self
        self.subscribe(channels.names)
        try:
            yield
        finally:
            channels.subscription = None
            self._listeners.remove(channels)
            self.unsubscribe(channels.names)

    def subscribe(self, names: Collection[str]) -> None:
        """Subscribe to channels, even if that was done: the reply is the call of `Channels.subscribed`."""
        self._send(b"SUBSCRIBE", names)

    def unsubscribe(self, names: Collection[str]) -> None:
        """End the subscriptions that no listener has any more."""
        self._send(b"UNSUBSCRIBE", [name for name in names if not any(name in each.names for each in self._listeners)])

    def _send(self, command: bytes, names: Collection[str]) -> None:
        if names and self._connection.usable:
            self._connection.send_command(command, *sorted(names))

    async def run(self, timeout_s: float) -> None:
        """Receive, until the connection is lost."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_over, self._connection, timeout_s)
                with suppress(refusals.ConnectionError):
                    async with aclosing(self._connection.push_messages) as pushes:
                        push: Any  # kind, channel, payload
                        async for push in pushes:
                            self._receive(push[0], push[1].decode(errors="replace"), push[2])
                nursery.cancel_scope.cancel()
        finally:
            self._connection.invalidate()
            self.ended.set()

    def _receive(self, kind: bytes, channel: str, payload: Any) -> None:
        for each in [each for each in self._listeners if channel in each.names]:
            if kind == b"message":
                each.heard(channel, payload)
            elif kind == b"subscribe":
                each.subscribed(channel)


async def _watch_over(connection: TCPConnection, timeout_s: float) -> None:
    """End a subscription whose server does not respond any more."""
    try:
        while True:
            await trio.sleep(_QUIET_S)
            with trio.fail_after(timeout_s):
                try:
                    await send(connection, ("PING",))
                except refusals.ResponseError as error:
                    if code_of(error)[0] not in PASSING:
                        raise
    except ANY:
        connection.invalidate()


def code_of(error: BaseException) -> tuple[str, str]:
    """Return the first word of an error of Redis, and the rest."""
    message = str(error)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, message
    code, _, rest = message.partition(" ")
    return (code, rest) if code.isupper() else ("ERR", message)


def cause_of(error: BaseException) -> str:
    """Return the innermost cause, in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | anyio.ClosedResourceError):
        return "the connection was closed"
    if isinstance(error, refusals.AuthenticationRequiredError):
        return "it requires a password, and its URL has none (NOAUTH)"
    if isinstance(error, refusals.AuthenticationFailureError):
        return "it refuses the user or the password in its URL (WRONGPASS)"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)  # without "[Errno 111]"
    return str(error) or type(error).__name__
