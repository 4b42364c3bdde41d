"""One connection of HTTP/1.1: hypercorn's protocol machine, driven by a loop of our own.

Hypercorn 0.18's own driver waits long for a head that comes byte by byte, switches to HTTP/2 for whoever asks, opens
WebSockets, and can wait for ever: for a request behind a closing one, for an application that reads no body. The
machine itself (h11, and the bridge to ASGI) is sound, so it is kept, and everything around it is here:

- every wait for a client has a deadline: idle, for a head, for a body, for each piece of the response;
- HTTP/1.0 and 1.1 only: no upgrades;
- heads are bounded in bytes and fields, bodies in bytes; GET and HEAD have none;
- when the client has gone, what works for it is cancelled at once;
- what hypercorn itself answers carries the safety headers as well.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import h11
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from avion_media.origin.answers import SAFETY_HEADERS

_READ_BYTES = 64 << 10
_JOINED_BYTES = 64 << 10  # of a body's first piece: beyond that one more write costs less than a copy
_FINISH_S = 5.0  # for an answer under way, and what its application does after it, once nothing more is read
_LINGER_S = 1.0  # how long last words may take to be read
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time
_HOPELESS = (trio.BrokenResourceError, trio.ClosedResourceError)
_ERROR_HEADERS = [
    (b"content-length", b"0"),
    (b"connection", b"close"),
    (b"cache-control", b"no-store"),
    *((name.lower().encode(), value.encode()) for name, value in SAFETY_HEADERS.items()),
]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client, and all of them together, may take."""

    max_connections: int = 1000
    max_connections_per_peer: int = 500
    max_head_bytes: int = 16 << 10
    """Names and values of a request's headers, and its target."""
    max_head_fields: int = 100
    max_body_bytes: int = 64 << 10
    """Of a request that may have a body at all."""
    head_timeout_s: float = 10.0
    """For a request's head, once it has begun."""
    body_timeout_s: float = 30.0
    """For a request's body."""
    keep_alive_s: float = 75.0
    """For the next request to begin."""
    write_timeout_s: float = 30.0
    """For the client to begin with one piece of a response."""
    min_bytes_per_s: float = 2048.0
    """How fast it has to go on then."""


class _Refused(Exception):
    """The request was answered without the application, and the connection ends."""


class _Protocol(H11Protocol):  # type: ignore[misc] # hypercorn's types are not followed
    """Hypercorn's machine without upgrades, and with bounds on requests."""

    def __init__(self, limits: HttpLimits, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._limits = limits
        self._deaf = False
        self._head = b""  # of an answer whose body has not begun

    @property
    def owes_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self.stream is None and bool(self.connection.trailing_data[0])

    @property
    def owes_body(self) -> bool:
        """Whether a request has begun whose body is not complete."""
        return self.connection.their_state is h11.SEND_BODY

    async def refuse(self, status: int) -> None:
        """Answer without the application, if nothing was answered yet."""
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_error_response(status)

    async def stream_send(self, event: object) -> None:
        """What the application answers. Too late, once the request was answered here or a part was cut off."""
        if self._deaf:
            return
        try:
            await super().stream_send(event)
        except trio.Cancelled:
            self._deaf = True  # h11 has taken the event for sent: nothing that follows would fit
            raise

    async def _send_h11_event(self, event: h11.Event) -> None:
        """Turn an event into bytes: a head goes out with what follows it, and a body's bytes are not copied.

        An interim response is one write: the application's task can send its response while this write waits.
        """
        try:
            pieces = self.connection.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.InformationalResponse):
            await self.send(RawData(data=b"".join(pieces)))
            return
        if isinstance(event, h11.Response):
            self._head = b"".join(pieces)
            return
        if self._head and sum(map(len, pieces)) <= _JOINED_BYTES:
            pieces = [b"".join([self._head, *pieces])]
        elif self._head:
            pieces = [self._head, *pieces]
        self._head = b""
        for piece in pieces:
            await self.send(RawData(data=piece))

    async def _check_protocol(self, _event: h11.Request) -> None:
        """No upgrade to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        status = refusal_of(request, self._limits)
        if status is not None:
            await self.refuse(status)
            raise _Refused
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        begun = Request(
            stream_id=STREAM_ID,
            headers=list(request.headers),
            http_version=request.http_version.decode(),
            method=request.method.decode("ascii").upper(),
            raw_path=request.target,
            state=self.connection_state,
        )
        await self.stream.handle(begun)
        self.keep_alive_requests += 1

    async def _send_error_response(self, status_code: int) -> None:
        self._deaf = True
        headers = _ERROR_HEADERS + self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(headers=headers, status_code=status_code))
        await self._send_h11_event(h11.EndOfMessage())


def refusal_of(request: h11.Request, limits: HttpLimits) -> int | None:
    """The status for a request that is not looked at any further; None for one that may go on."""
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
    if size > limits.max_head_bytes or len(request.headers) > limits.max_head_fields:
        return 431
    if _values(request.headers, b"transfer-encoding"):
        return 411  # nobody who asks us has a body of unknown length
    length = int(next(iter(_values(request.headers, b"content-length")), b"0"))  # h11 has checked that it is one number
    if length and request.method in (b"GET", b"HEAD"):
        return 400  # it means nothing there (RFC 9110, 9.3.1), but caches and proxies disagree about it
    return 413 if length > limits.max_body_bytes else None


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]


class HttpConnection:
    """One client's connection; `run` returns when it has ended, for whatever reason, and has closed the stream."""

    def __init__(
        self,
        app: Any,
        config: HypercornConfig,
        context: WorkerContext,
        stream: trio.SocketStream,
        limits: HttpLimits,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._limits = limits
        self._everything = trio.CancelScope()  # the applications too
        self._reading = trio.CancelScope()
        self._waiting = trio.CancelScope()
        self._sending = trio.Lock()
        self._since = trio.current_time()  # since when the client has been idle, or owed a head or a body
        self._protocol: _Protocol | None = None
        self._over = False

    @property
    def idle_since(self) -> float | None:
        """Since when there is no request and no beginning of one; None when there is."""
        protocol = self._protocol
        busy = protocol is None or protocol.stream is not None or protocol.owes_head
        return None if busy else self._since

    def close_if_idle(self) -> None:
        """End the connection now unless a request is under way."""
        if self.idle_since is not None:
            self._reading.cancel()

    async def run(self) -> None:
        """Serve requests, one after the other."""
        try:
            client, server = self._stream.socket.getpeername()[:2], self._stream.socket.getsockname()[:2]
        except OSError:  # gone already
            return
        with self._everything:
            async with TaskGroup() as tasks:
                self._protocol = _Protocol(
                    self._limits,
                    self._app,
                    self._config,
                    self._context,
                    tasks,
                    ConnectionState({}),
                    False,
                    client,
                    server,
                    self._told,
                )
                with self._reading:
                    await self._read(self._protocol)
                    self._everything.cancel()  # the client has gone, or is to go
        self._end_of_output()
        await self._linger()

    async def _read(self, protocol: _Protocol) -> None:
        """Feed the machine until the client ends the connection, breaks a rule or is too slow."""
        while True:
            with trio.CancelScope(deadline=self._deadline()) as self._waiting:
                try:
                    data = await self._stream.receive_some(_READ_BYTES)
                except _HOPELESS:
                    return
            if self._waiting.cancelled_caught:
                if protocol.owes_head or protocol.owes_body:
                    await protocol.refuse(408)
                return
            if not data:
                return
            owed = protocol.owes_head or protocol.owes_body
            try:
                await protocol.handle(RawData(bytes(data)))
            except _Refused:
                return
            if not owed and (protocol.owes_head or protocol.owes_body):
                self._since = trio.current_time()

    def _deadline(self) -> float:
        protocol = self._protocol
        if protocol is None:
            return math.inf
        if protocol.owes_head:
            return self._since + self._limits.head_timeout_s
        if protocol.stream is None:
            return self._since + self._limits.keep_alive_s
        return self._since + self._limits.body_timeout_s if protocol.owes_body else math.inf

    async def _told(self, event: object) -> None:
        """What the machine has to say: bytes for the client, that a request begins or ends, or that all is over."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated):
            self._since = trio.current_time()
            self._waiting.deadline = self._deadline()
        elif isinstance(event, Closed) and not self._reading.cancel_called:
            # Not the end of output yet: what follows may be wrong while the answer before it is being sent.
            self._everything.deadline = trio.current_time() + _FINISH_S
            self._reading.cancel()

    async def _send(self, data: bytes) -> None:
        if self._over:
            await trio.lowlevel.checkpoint()  # where an application that goes on all the same hears of its cancel
            return
        with trio.move_on_after(self._limits.write_timeout_s) as slow:
            try:
                async with self._sending:
                    await self._send_all(memoryview(data), slow)
            except (OSError, trio.ClosedResourceError):
                self._everything.cancel()
        if slow.cancelled_caught:
            self._everything.cancel()
            self._abandon()

    async def _send_all(self, data: memoryview, slow: trio.CancelScope) -> None:
        """Send everything, and give a client more time as long as it takes some: pieces can be a megabyte."""
        begun = trio.current_time()
        sent = 0
        while sent < len(data):
            sent += await self._stream.socket.send(data[sent:])
            slow.deadline = begun + self._limits.write_timeout_s + sent / self._limits.min_bytes_per_s

    def _end_of_output(self) -> None:
        """Nothing more is sent: the client sees the end once it has read what was sent."""
        self._over = True
        try:
            self._stream.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client was faster

    def _abandon(self) -> None:
        """What the kernel still holds for a client that does not read is not worth keeping."""
        self._over = True
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)

    async def _linger(self) -> None:
        """Let the client read our last words: a socket closed with unread input discards them (RFC 9112, 9.6)."""
        with trio.move_on_after(_LINGER_S):
            try:
                while await self._stream.receive_some(_READ_BYTES):
                    pass
            except _HOPELESS:
                pass
