"""One connection of coredis: how it is made, how it ends, and one command over it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection, TCPLocation

from avion_media.backends.redis.errors import cause_of
from avion_media.common.redis_url import Address, Credentials, RedisTarget

Argument = str | bytes | int | float
Reply = Any  # as Redis sends it: None, int, float, bool, bytes, and lists and dicts of these

_MAX_CONNECT_S = 2.0  # short, because a connect is shielded from cancellation
DIAL_PAUSE_S = (0.05, 1.0)  # shortest and longest pause between two failed connects
LONGEST_PAUSE_S = DIAL_PAUSE_S[1]

# coredis logs a traceback for each failed connect. Here that is a state, which `Redis.available` shows.
logging.getLogger("coredis").setLevel(logging.CRITICAL)


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
        """Return a new connection, which the caller invalidates. Raises one of `errors.UNAVAILABLE`."""
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
