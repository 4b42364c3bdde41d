"""One server, as this process uses it.

All commands of the process share *one* connection to it. coredis writes and replies in order, so calls of any number of
tasks travel as a pipeline. A cancelled call leaves its request in the pipeline, and its reply is dropped. Blocking
commands would delay the others, so they have connections of their own, which are kept for the next one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from coredis import exceptions as refusals
from coredis.connection import TCPConnection

from trio_redis.concurrency import Backoff
from trio_redis.connection import (
    DIAL_PAUSE_S,
    UNAVAILABLE,
    Argument,
    RedisDialler,
    Reply,
    cause_of,
    send,
)
from trio_redis.errors import RedisError
from trio_redis.url import Address

_MAX_CALLS = 1024  # calls in flight: limits the write buffer, which coredis does not limit

_LATE_REPLY_S = 0.1  # to read a reply that is in the socket
UNKNOWN = "unknown"
"""The id of the process of a server that does not return it."""

Undo = Callable[[Reply], Awaitable[None]]


class NotWithin(trio.TooSlowError):
    """No reply within the time that the caller has, which is less than the timeout."""


class RedisNode:
    """A server at ``address``. Its methods raise the errors in `connection.ANY`."""

    def __init__(
        self,
        dialler: RedisDialler,
        address: Address,
        timeout_s: float,
        connection: TCPConnection | None = None,
    ) -> None:
        """``connection`` is one that is already open, for the calls of all tasks."""
        self.address = address
        self._dialler = dialler
        self._timeout_s = timeout_s
        self._shared = connection
        self._process: tuple[TCPConnection | None, str] = None, UNKNOWN
        self._dialling = trio.Lock()
        self._pause = Backoff(*DIAL_PAUSE_S)
        self._calls = trio.CapacityLimiter(_MAX_CALLS)
        self._idle: list[TCPConnection] = []
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """Whether calls find a connection."""
        return self._shared is not None and self._shared.usable

    @property
    def is_busy(self) -> bool:
        """Whether calls wait for its replies."""
        return self._calls.borrowed_tokens > 0

    def close(self) -> None:
        """End its connections. A connection in use by a blocking command ends with that command."""
        self._closed = True
        for connection in (*self._idle, self._shared):
            if connection is not None:
                connection.invalidate()
        self._idle.clear()

    async def call(
        self,
        command: tuple[Argument, ...],
        *,
        asking: bool = False,
        within_s: float = math.inf,
        takes_process: bool = False,
    ) -> Reply:
        """Run one command that does not block on the server. ``asking``: its slot is being moved to this node.
        ``takes_process``: see `Script`.

        Raises `NotWithin` after ``within_s``, if that is less than the timeout. The server may be healthy then, so the
        connection stays.
        """
        is_hasty = within_s < self._timeout_s
        sent_over: TCPConnection | None = None
        request: Awaitable[Reply] | None = None
        with trio.move_on_after(min(within_s, self._timeout_s)):
            try:
                self._calls.acquire_nowait()  # unlike `acquire`, this lets no other task run
            except trio.WouldBlock:
                await self._calls.acquire()
            try:
                sent_over = await self._shared_connection()
                if takes_process:
                    command = (*command, await self._process_at(sent_over))
                if asking:
                    send(sent_over, ("ASKING",))  # applies to the next command, which follows at once
                request = send(sent_over, command)
                return await request
            finally:
                self._calls.release()
        if sent_over is None or request is None:
            raise NotWithin if is_hasty else trio.TooSlowError
        try:
            return await _late_reply(request)
        except trio.TooSlowError:
            if is_hasty:
                raise NotWithin from None
            sent_over.invalidate()  # replies come in order, so all later calls wait as well
            raise

    async def call_blocking(
        self, command: tuple[Argument, ...], block_s: float, undo: Undo | None, *, asking: bool = False
    ) -> Reply:
        """Run one command that waits on the server for at most ``block_s``. `Redis.execute_blocking` says what a cancel
        does."""
        connection = await self._idle_connection()
        if asking:
            send(connection, ("ASKING",))
        request = send(connection, command)
        at_rest = True
        try:
            with trio.move_on_after(block_s + self._timeout_s):
                return await request
            return await _late_reply(request)
        except trio.TooSlowError:
            at_rest = False
            raise
        except trio.Cancelled:
            at_rest = False
            # Shielded, so that no reply is lost. Bounded by the timeout of one call.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._timeout_s):
                at_rest = await self._stop_waiting(connection, request, undo)
            raise
        finally:
            if at_rest and not self._closed:
                self._idle.append(connection)
            else:
                connection.invalidate()

    async def dial(self) -> TCPConnection:
        """Return a connection for the caller alone, which must invalidate it."""
        if self._closed:
            raise refusals.ConnectionError(f"{self.address} is not in charge any more")
        if self._pause.remaining_s:
            raise refusals.ConnectionError(self._pause.detail)
        try:
            connection = await self._dialler.dial(self.address)
        except UNAVAILABLE as error:
            self._pause.failed(cause_of(error))
            raise
        self._pause.succeeded()
        return connection

    async def _stop_waiting(self, connection: TCPConnection, request: Awaitable[Reply], undo: Undo | None) -> bool:
        """Make the server stop waiting. Return whether the connection can be used again."""
        try:
            await self.call(("CLIENT", "UNBLOCK", connection.client_id or 0))
            reply = await request
            if reply is not None and undo is not None:
                await undo(reply)
        except (RedisError, refusals.RedisError, *UNAVAILABLE):
            return False  # a reply that had come is lost
        return True

    async def _idle_connection(self) -> TCPConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await self.dial()

    async def _process_at(self, connection: TCPConnection) -> str:
        """Return the id of the server process at the other end: a connection never outlives it."""
        known_of, process = self._process
        if known_of is not connection:
            process = UNKNOWN
            with suppress(refusals.ResponseError):  # INFO is refused
                info: bytes = await send(connection, ("INFO", "server"))
                process = info.partition(b"run_id:")[2].partition(b"\r")[0].decode() or UNKNOWN
            self._process = connection, process
        return process

    async def _shared_connection(self) -> TCPConnection:
        if self._shared is None or not self._shared.usable:
            async with self._dialling:  # tasks that waited here use the connection of the first one
                if self._shared is None or not self._shared.usable:
                    self._shared = await self.dial()
        return self._shared


async def _late_reply(request: Awaitable[Reply]) -> Reply:
    """Return the reply if it has come, although the time is up. Raises TooSlowError if it has not.

    While a process stands still (SIGSTOP, a paused machine), replies arrive and the time runs out. When the process
    continues, it sees the time before the replies. Without this, each such pause looked like an outage of Redis.
    """
    with trio.fail_after(_LATE_REPLY_S):
        return await request
