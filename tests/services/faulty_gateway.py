"""A TCP gateway in front of a store that can be made to fail: away, silent, breaking off in the middle, or choosy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import trio

_REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FULL_BODY = b"<Error><Code>QuotaExceeded</Code></Error>"  # as Ceph answers
_FULL = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
_NOT_IMPLEMENTED = b"HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class FaultyGateway:
    """Forwards connections to ``target_url``, but of each answer only so many bytes.

    ``break_after`` closes the connection then, ``stall_after`` says no more; 0 lets requests in and no answer out.
    ``refusals`` is how many of the next requests are answered with 503 instead.
    Requests with a line of ``not_implemented`` in their head are answered 501, as some stores answer unknown headers.
    With ``full``, every PUT is refused as by a store whose quota is used up.
    """

    def __init__(self, target_url: str, port: int) -> None:
        parts = urlsplit(target_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self.url = f"http://127.0.0.1:{port}"
        self.break_after: int | None = None
        self.stall_after: int | None = None
        self.refusals = 0
        self.not_implemented: frozenset[bytes] = frozenset()
        self.full = False
        self.held = trio.Event()  # set when an answer was stalled or broken off
        self.ended = trio.Event()  # set when a client closed a connection

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            async with await trio.open_tcp_stream(*self._target) as server, client, trio.open_nursery() as nursery:
                nursery.start_soon(self._upstream, client, server, nursery.cancel_scope)
                await self._downstream(server, client)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _upstream(self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):  # a reset is what a client sends that closes with bytes unread
            async for data in client:
                if self.refusals:
                    self.refusals -= 1
                    await client.send_all(_REFUSAL)
                    break
                if self.not_implemented.intersection(data.split(b"\r\n")):
                    await client.send_all(_NOT_IMPLEMENTED)
                    break
                if self.full and data.startswith(b"PUT "):
                    await client.send_all(_FULL)
                    async for _ in client:  # a close with bytes unread would be a reset
                        pass
                    break
                await server.send_all(data)
        self.ended.set()
        scope.cancel()

    async def _downstream(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        sent = 0
        async for data in server:
            if self.stall_after is not None and sent + len(data) > self.stall_after:
                await client.send_all(data[: max(0, self.stall_after - sent)])
                self.held.set()
                await trio.sleep_forever()
            if self.break_after is not None and sent + len(data) > self.break_after:
                await client.send_all(data[: max(0, self.break_after - sent)])
                self.held.set()
                return
            await client.send_all(data)
            sent += len(data)


@asynccontextmanager
async def faulty_gateway(target_url: str) -> AsyncIterator[FaultyGateway]:
    """The gateway on a free port, for as long as the block."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    gateway = FaultyGateway(target_url, listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, gateway.serve, [listener])
        yield gateway
        nursery.cancel_scope.cancel()
