"""The admin port's server: hypercorn's `TCPServer`, one for each connection, with bounds around it.

Decision: hypercorn rather than our own HTTP/1.1 driver (`http1`). The console needs what Starlette and an ASGI server
give (forms, cookies, server-sent events), and its CPU does not matter. Hypercorn 0.18 leaves some things to others, and
they are here:

- what a connection raises ends that connection only (hypercorn's own worker would end the server);
- a client that does not read is cut off (`TCPServer` sends without a deadline, and shields it);
- a request's body has a deadline and a bound;
- a client that leaves ends its handler, also behind pipelined requests (a paused `H11Protocol` does not read);
- WebSockets and requests over HTTP/2 are refused; a closed connection lingers, so that its last words are read.

What stays open: hypercorn has no setting against an upgrade to HTTP/2, so its HTTP/2 machine is reachable here, behind
the exception boundary and the deadlines.

An idle connection and a head that drips have one deadline, hypercorn's own `keep_alive_timeout`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from avion_media.http1 import Hangups, HttpLimits, Refused, check
from avion_media.net import Bound, Kind, PeerLimiter, linger, peer_of, reset_at_close, send_steadily
from avion_media.telemetry import get_logger

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_FINISH_S = 5.0  # for what an application does after the end of its connection
_STREAM = "avion_media.stream"  # in the ASGI state

_log = get_logger()


ADMIN_LIMITS = HttpLimits(max_connections=256, max_connections_per_peer=128, keep_alive_s=15.0, head_timeout_s=15.0)
"""A connection that its client has closed counts until `Hangups` sees that, a quarter of a second later."""


class AdminServer:
    """Serves one ASGI application. A cancel of `serve` cuts its connections."""

    def __init__(self, app: AsgiApp, limits: HttpLimits = ADMIN_LIMITS) -> None:
        self._limits = limits
        config = HypercornConfig()
        config.accesslog = None
        config.errorlog = None
        config.include_server_header = False
        config.keep_alive_timeout = _idle_s(limits)
        config.keep_alive_max_requests = 100_000
        config.h11_max_incomplete_size = limits.max_head_bytes
        self._config = config
        self._app = ASGIWrapper(_Guarded(app, limits))
        self._context = WorkerContext(None)
        self._hangups = Hangups()
        self._limiter = PeerLimiter({Kind.CONNECTIONS: Bound(limits.max_connections, limits.max_connections_per_peer)})

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._limiter.held(Kind.CONNECTIONS)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept connections until cancelled; closes the listeners."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hangups.watch)
            await trio.serve_listeners(self._connection, list(listeners))

    async def _connection(self, stream: trio.SocketStream) -> None:
        """One connection; whatever happens in it ends here."""
        account = self._limiter.account(peer_of(stream))
        try:
            if account.take(connections=1):
                with self._hangups.watching(stream.socket.fileno()) as scope:
                    bounded = _BoundedStream(stream, self._limits, scope)
                    await TCPServer(self._app, self._config, self._context, {_STREAM: bounded}, bounded).run()
                if not bounded.is_cut:
                    await linger(stream)
        except Exception as error:  # noqa: BLE001 - a client must not end the server, whatever it makes hypercorn raise
            _log.warning("http.connection_failed", error=repr(error))
        finally:
            account.close()
            await trio.aclose_forcefully(stream)


class _BoundedStream:
    """What hypercorn uses of a `trio.SocketStream`, with a deadline for sending and an end that can be read."""

    def __init__(self, stream: trio.SocketStream, limits: HttpLimits, connection: trio.CancelScope) -> None:
        self.requests = 0  # which applications work on
        self.is_cut = False
        self._stream = stream
        self._limits = limits
        self._connection = connection
        self._receiving = trio.CancelScope()
        self._over = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """For the addresses."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int) -> bytes:
        """What the client sends; b"" at its end, once the connection is over, and after silence without a request.

        Hypercorn has a deadline of its own for idle connections, but stops it for good when HTTP/2 begins.
        """
        if not self._over:
            silence_s = math.inf if self.requests else _idle_s(self._limits)
            with trio.move_on_after(silence_s) as self._receiving:
                return bytes(await self._stream.receive_some(max_bytes))
        await trio.lowlevel.checkpoint()
        return b""

    async def send_all(self, data: bytes) -> None:
        """Send in pieces, each with a deadline. A client that does not read loses its connection."""
        if await send_steadily(self._stream, [data], self._limits.write_timeout_s):
            return
        self.is_cut = self._over = True
        reset_at_close(self._stream)
        self._connection.cancel()
        raise trio.BrokenResourceError("the client has gone, or does not read")

    async def send_eof(self) -> None:
        """Not yet: hypercorn ends its side before a response in progress, once what follows its request is wrong."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Nothing more is received for hypercorn; the socket stays open for what is being sent, and for `linger`.

        Hypercorn can wait forever now, for a request behind a closing one: hence the deadline for all that is left.
        """
        self._over = True
        self._receiving.cancel()
        self._connection.deadline = min(self._connection.deadline, trio.current_time() + _FINISH_S)
        await trio.lowlevel.checkpoint()


class _Guarded:
    """An ASGI application that is asked only for what it should answer."""

    def __init__(self, app: AsgiApp, limits: HttpLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # a WebSocket; hypercorn answers 403
            await receive()
            await send({"type": "websocket.close"})
            return
        try:
            _checked(scope, self._limits)
        except Refused as refusal:
            await PlainTextResponse("", refusal.status, {"Connection": "close"})(scope, receive, send)
            return
        deadline = trio.current_time() + self._limits.body_timeout_s
        more = True

        async def receive_body() -> Any:
            nonlocal more
            if not more:
                await trio.sleep_forever()  # a client that leaves ends the whole connection: see `Hangups`
            with trio.CancelScope(deadline=deadline):
                message = await receive()
                more = message.get("more_body", False)
                return message
            raise HTTPException(408)

        async def respond(message: Any) -> None:
            # Hypercorn closes a connection whose request was answered before its end. The client must know that.
            if more and message["type"] == "http.response.start" and _length_of(scope):
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        stream: _BoundedStream = scope["state"][_STREAM]
        stream.requests += 1
        try:
            await self._app(scope, receive_body, respond)
        finally:
            stream.requests -= 1


def _idle_s(limits: HttpLimits) -> float:
    return min(limits.keep_alive_s, limits.head_timeout_s)


def _checked(scope: Any, limits: HttpLimits) -> None:
    """Raise Refused for a request that no handler sees: by the rules of the origin, and HTTP/2."""
    if scope["http_version"] not in ("1.0", "1.1"):
        raise Refused(505)
    target_bytes = len(scope["raw_path"]) + len(scope["query_string"])
    check(scope["method"], scope["http_version"], target_bytes, scope["headers"], limits)


def _length_of(scope: Any) -> int:
    """The length of the request's body, which is in its head: chunked ones are refused."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return next((int(value) for name, value in headers if name == b"content-length"), 0)
