"""The windows of a body on their way into the kernel."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import trio

from trio_http1 import HttpLimits, HttpServer, Request, Response
from trio_http1.server import HttpConnection

_WINDOWS = (64 << 10, 1 << 20, 4 << 20, 100)
_LIMIT_S = 20.0


@dataclass
class WatchedBody:
    """Notes how much the kernel may hold unsent, each time that a window was sent."""

    stream: trio.SocketStream
    unsent: list[int] = field(default_factory=list)
    length_bytes: int = sum(_WINDOWS)

    async def windows(self) -> AsyncGenerator[bytes, None]:
        for size in _WINDOWS:
            yield bytes(size)
            self.unsent.append(int(self.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)))

    def close(self) -> None:
        """Nothing to do."""


async def test_only_large_windows_are_taken_ahead_of_the_client() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(_LIMIT_S):
        async with listeners[0], await trio.open_tcp_stream(*listeners[0].socket.getsockname()[:2]) as client:
            stream = await listeners[0].accept()
            body = WatchedBody(stream)

            async def handle(request: Request) -> Response:
                return Response(200, {}, body)

            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(HttpConnection(stream, "127.0.0.1", HttpServer(handle, HttpLimits())).run)
                await client.send_all(b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n")
                received = 0
                while data := await client.receive_some():
                    received += len(data)
                await client.aclose()
    assert received > sum(_WINDOWS)
    assert body.unsent == [16 << 10, 1 << 20, 1 << 20, 16 << 10]
