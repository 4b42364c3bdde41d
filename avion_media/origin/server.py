"""The HTTP server: connections accepted, counted and ended.

Hypercorn 0.18's own Trio worker lets one client end the whole server: what a connection raises goes into the server's
nursery. So each connection here has an exception boundary. HTTP/2 is not offered: the CDN in front speaks HTTP/1.1 to
its origins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext

from avion_media.net import Bound, Kind, PeerLimiter, peer_of
from avion_media.origin.http1 import HttpConnection, HttpLimits
from avion_media.telemetry import get_logger

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class HttpServer:
    """Serves one ASGI application. `drain` lets running requests end; a cancel of `serve` cuts them."""

    def __init__(self, app: AsgiApp, limits: HttpLimits) -> None:
        config = HypercornConfig()
        config.accesslog = None
        config.errorlog = None
        config.include_server_header = False
        config.include_date_header = True
        config.keep_alive_max_requests = 100_000
        config.h11_max_incomplete_size = limits.max_head_bytes
        self._config = config
        self._wrapper = ASGIWrapper(self._counted(app))
        self._context = WorkerContext(None)
        self._limits = limits
        self._limiter = PeerLimiter({Kind.CONNECTIONS: Bound(limits.max_connections, limits.max_connections_per_peer)})
        self._open: set[HttpConnection] = set()
        self._requests = 0
        self._idle = trio.Event()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._limiter.held(Kind.CONNECTIONS)

    @property
    def requests(self) -> int:
        """Requests whose answer has not ended."""
        return self._requests

    def _counted(self, app: AsgiApp) -> AsgiApp:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self._requests += 1
            try:
                await app(scope, receive, send)
            finally:
                self._requests -= 1
                if not self._requests:
                    self._idle.set()
                    self._idle = trio.Event()

        return counted

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept connections until cancelled or drained; closes the listeners."""
        async with trio.open_nursery() as connections:
            with self._accepting:
                await trio.serve_listeners(self._connection, list(listeners), handler_nursery=connections)

    async def drain(self, grace_s: float) -> None:
        """Accept nothing new, end idle connections, and wait up to ``grace_s`` for running requests."""
        self._accepting.cancel()
        await self._context.terminated.set()  # the others end after the request at hand
        for connection in list(self._open):
            connection.close_if_idle()
        with trio.move_on_after(grace_s):
            while self._requests:
                await self._idle.wait()

    def _end_an_idle_one(self) -> None:
        """End the connection that has been idle for the longest time, if there is one."""
        idle = [(since, connection) for connection in self._open if (since := connection.idle_since) is not None]
        if idle:
            min(idle, key=lambda each: each[0])[1].close_if_idle()

    async def _connection(self, stream: trio.SocketStream) -> None:
        """One connection; whatever happens in it ends here."""
        if self._limiter.is_scarce(Kind.CONNECTIONS):
            self._end_an_idle_one()
        account = self._limiter.account(peer_of(stream))
        try:
            if account.take(connections=1):
                connection = HttpConnection(self._wrapper, self._config, self._context, stream, self._limits)
                self._open.add(connection)
                try:
                    await connection.run()
                finally:
                    self._open.discard(connection)
        except Exception as error:  # noqa: BLE001 - a client must not end the server, whatever it makes hypercorn raise
            get_logger(path="service/origin").warning("http.connection_failed", error=repr(error))
        finally:
            account.close()
            await trio.aclose_forcefully(stream)


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """TCP listeners on ``host``; port 0 takes a free one. An `OSError` says what is in the way."""
    try:
        return await trio.open_tcp_listeners(port, host=host or None)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def listener_address(listeners: Sequence[trio.SocketListener]) -> tuple[str, int]:
    """Where the first listener really listens."""
    host, port, *_ = listeners[0].socket.getsockname()
    return str(host), int(port)
