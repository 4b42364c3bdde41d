"""One connection of coredis's: its making, its end, and one command over it."""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection, TCPLocation

from avion_media.domain.redis_url import Address, Credentials, Target
from avion_media.redis.errors import cause_of

Argument = str | bytes | int | float
Reply = Any  # as Redis sends it: None, int, float, bool, bytes, and lists and dicts of these

_MAX_CONNECT_S = 2.0  # a connect is shielded from cancellation, so it is kept short
_DIAL_PAUSE_S = (0.05, 1.0)  # first and longest pause between two connects that fail
LONGEST_PAUSE_S = _DIAL_PAUSE_S[1]

# It logs a traceback for each connect that fails. Here that is a state, which `Redis.available` shows.
logging.getLogger("coredis").setLevel(logging.CRITICAL)


def send(connection: TCPConnection, command: tuple[Argument, ...]) -> Awaitable[Reply]:
    """Queue a command; await the result for its reply. Never decoded here: foreign fields might not be UTF-8."""
    return connection.create_request(str(command[0]).encode(), *command[1:], decode=False)


class Dialler:
    """Makes connections for ``target`` that live in ``nursery``, as long as it is open."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        self.nursery: trio.Nursery | None = None
        self._connect_s = min(timeout_s, _MAX_CONNECT_S)
        tls = ssl.create_default_context(cafile=target.ssl_ca_certs or None) if target.tls else None
        self._options = _options(target.credentials, target.database, tls)
        # A seed's database is chosen when it is known not to be a Sentinel, which has none.
        self._seed_options = _options(target.seed_credentials, 0, tls)

    async def dial(self, address: Address, *, seed: bool = False) -> TCPConnection:
        """Return a new connection; the caller invalidates it. One of `errors.UNAVAILABLE` when there is none."""
        nursery = self._open_nursery()
        connection = _Connection(TCPLocation(*address), **(self._seed_options if seed else self._options))
        try:
            # Shielded: coredis turns a Cancelled in here into an error of its own. Bounded by its own time.
            with trio.fail_after(self._connect_s, shield=True):
                await nursery.start(_serve, connection)
        except refusals.ResponseError as error:  # credentials, database: whatever it is, there is no connection
            raise refusals.ConnectionError(cause_of(error)) from error
        return connection

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a task that nobody waits for, until its end or that of the connections. It raises nothing."""
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


class Pause:
    """Between two tries that fail lies a pause, which grows. A crowd that meets an outage does not try one by one."""

    def __init__(self) -> None:
        self._failures = 0
        self._again_at = -1.0
        self._detail = ""

    def check(self) -> None:
        """ConnectionError while it lasts."""
        if trio.current_time() < self._again_at:
            raise refusals.ConnectionError(self._detail)

    def failed(self, error: BaseException) -> None:
        """Begin one."""
        first, longest = _DIAL_PAUSE_S
        pause_s = min(longest, first * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        self._failures += 1
        self._again_at = trio.current_time() + pause_s
        self._detail = cause_of(error)

    def succeeded(self) -> None:
        """The next one is a short one."""
        self._failures = 0
        self._again_at = -1.0


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
    """Run a connection until it is lost. A failure to connect is the caller's, later failures reach its calls."""
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
