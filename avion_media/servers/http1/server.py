"""The HTTP server: accepts, counts and ends connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import trio

from avion_media.common.telemetry import get_logger
from avion_media.servers.http1.connection import HttpConnection, Shared
from avion_media.servers.http1.messages import HttpLimits, Request, Response
from trio_grpc.net import Bound, PeerLimiter, ResourceKind, peer_at

Handler = Callable[[Request], Awaitable[Response]]

_log = get_logger()


class HttpServer:
    """Serves one handler. `drain` lets running requests end; a cancel of `serve` cuts them.

    ``refusal_headers`` go with every response that the server makes itself.
    """

    def __init__(
        self, handler: Handler, limits: HttpLimits, *, refusal_headers: Mapping[str, str] | None = None
    ) -> None:
        self._shared = Shared(handler, limits, refusal_headers or {})
        self._limiter = PeerLimiter(
            {ResourceKind.CONNECTIONS: Bound(limits.max_connections, limits.max_connections_per_peer)}
        )
        self._open: set[HttpConnection] = set()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._limiter.held(ResourceKind.CONNECTIONS)

    @property
    def requests(self) -> int:
        """Requests whose response has not ended."""
        return sum(connection.is_answering for connection in self._open)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept connections until cancelled or drained. Closes the listeners."""
        async with trio.open_nursery() as watching:
            watching.start_soon(self._shared.hangups.watch)
            async with trio.open_nursery() as connections:
                with self._accepting:
                    await trio.serve_listeners(self._connection, list(listeners), handler_nursery=connections)
            watching.cancel_scope.cancel()

    async def drain(self, grace_s: float) -> None:
        """Accept nothing new, close idle connections, and wait up to ``grace_s`` for running requests.

        Responses that begin from now on have ``Connection: close``.
        """
        self._accepting.cancel()
        self._shared.draining = True
        for connection in list(self._open):
            connection.close_if_idle()
        with trio.move_on_after(grace_s):
            while self.requests:
                await self._shared.answered.park()

    async def _connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection. All of its errors end here."""
        if self._limiter.is_scarce(ResourceKind.CONNECTIONS):
            longest_idle = min(self._open, key=lambda connection: connection.idle_since, default=None)
            if longest_idle is not None:
                longest_idle.close_if_idle()
        peer = ""
        with suppress(OSError):  # the client has left
            peer = peer_at(stream.socket.getpeername()[0])
        account = self._limiter.account(peer)
        try:
            if account.take(connections=1):
                connection = HttpConnection(stream, peer, self._shared)
                self._open.add(connection)
                try:
                    await connection.run()
                finally:
                    self._open.discard(connection)
        except Exception:  # noqa: BLE001 - an error of one client must not end the server
            _log.error("http.connection_failed", exc_info=True)
        finally:
            account.close()
            await trio.aclose_forcefully(stream)
