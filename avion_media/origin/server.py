"""Hypercorn's protocols on our own accept loop.

Hypercorn 0.18's own Trio worker lets one client end the whole server: an application that answers before the request
body has ended over HTTP/2, or a new HTTP/2 request during shutdown, raises out of the connection's task and into the
server's nursery. So each connection here has an exception boundary, connections are counted, and a client that does not
take its bytes is cut off. HTTP/2 is not offered: the CDN in front speaks HTTP/1.1 to its origins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from avion_media.peers import ConnectionCount, TooMany
from avion_media.telemetry import get_logger

_HTTP2_PREFACE = b"PRI * HTTP/2.0"
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class SlowClient(trio.BrokenResourceError):
    """A client took longer than the write timeout for one piece of the body."""


class _BoundedStream(trio.abc.Stream):
    """A socket stream whose sends have a deadline, and which refuses the HTTP/2 preface."""

    def __init__(self, stream: trio.SocketStream, write_timeout_s: float) -> None:
        self._stream = stream
        self._write_timeout_s = write_timeout_s
        self._first = True
        self.socket = stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            with trio.fail_after(self._write_timeout_s):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            raise SlowClient("the client does not read") from None

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if self._first and data.startswith(_HTTP2_PREFACE):
            raise trio.BrokenResourceError("HTTP/2 is not served here")
        self._first = False
        return data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Connection(TCPServer):  # type: ignore[misc] # hypercorn's types are not followed
    """Hypercorn's connection, which ends when its client has gone.

    Hypercorn 0.18 lets its idle timer run on then: a connection that nobody has any more would count as open for the
    whole of the keep-alive time.
    """

    _gone = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._gone = True
        await self.idle_task.stop()

    async def protocol_send(self, event: object) -> None:
        if not (self._gone and isinstance(event, Updated)):  # which would start the timer again
            await super().protocol_send(event)


class HttpServer:
    """Serves one ASGI application. `drain` lets running requests end; a cancel of `serve` cuts them.

    A request's headers must arrive within ``keep_alive_s`` of the connection becoming idle.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        max_connections: int,
        max_connections_per_peer: int | None = None,
        write_timeout_s: float = 30.0,
        keep_alive_s: float = 75.0,
    ) -> None:
        config = HypercornConfig()
        config.accesslog = None
        config.errorlog = None
        config.include_server_header = False
        config.include_date_header = True
        config.keep_alive_timeout = keep_alive_s
        config.keep_alive_max_requests = 100_000
        config.read_timeout = None
        config.h11_max_incomplete_size = 16 * 1024
        self._config = config
        self._wrapper = ASGIWrapper(self._counted(app))
        self._context = WorkerContext(None)
        self._write_timeout_s = write_timeout_s
        self._connections = ConnectionCount(max_connections, max_connections_per_peer or max_connections)
        self._requests = 0
        self._idle = trio.Event()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._connections.total

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
        await self._context.terminated.set()
        with trio.move_on_after(grace_s):
            while self._requests:
                await self._idle.wait()

    async def _connection(self, stream: trio.SocketStream) -> None:
        """One connection; whatever happens in it ends here."""
        try:
            with self._connections.counted(stream):
                bounded = _BoundedStream(stream, self._write_timeout_s)
                await _Connection(self._wrapper, self._config, self._context, ConnectionState({}), bounded)
        except (TooMany, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except Exception as error:  # noqa: BLE001 - a client must not end the server, whatever it makes hypercorn raise
            get_logger(path="service/origin").warning("http.connection_failed", error=repr(error))
        finally:
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
