"""An HTTP server to attack, an application that shows what became of its requests, and a good client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from avion_media.origin.http1 import HttpLimits
from avion_media.origin.server import HttpServer

HARD_LIMIT_S = 30.0
CHUNK = b"x" * 65_536
GET = b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n"


class App:
    """``/`` answers, ``/hang`` waits, ``/endless`` streams for ever, ``/body`` counts what it is sent."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.finished = 0
        self._news = trio.Event()
        self.application = Starlette(
            routes=[
                Route("/", self._answer),
                Route("/hang", self._hang),
                Route("/endless", self._endless),
                Route("/body", self._body, methods=["POST"]),
            ]
        )

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until_cancelled(self, count: int) -> None:
        """Until so many handlers were cancelled."""
        while self.cancelled < count:
            await self._news.wait()

    async def until_entered(self, count: int) -> None:
        """Until so many handlers have begun."""
        while self.entered < count:
            await self._news.wait()

    async def _answer(self, _request: Request) -> Response:
        self.finished += 1
        return PlainTextResponse("served")

    async def _body(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def _hang(self, _request: Request) -> Response:
        self.entered += 1
        self._tell()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled += 1
            self._tell()
            raise

    async def _endless(self, _request: Request) -> Response:
        app = self

        class Endless(StreamingResponse):
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                app.entered += 1
                app._tell()
                try:
                    await super().__call__(scope, receive, send)
                finally:
                    app.cancelled += 1
                    app._tell()

        return Endless(_Chunks())


class _Chunks:
    """For ever the same."""

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        return CHUNK


@dataclass
class Client:
    """A connection on which any bytes can be sent, and what came back."""

    stream: trio.SocketStream
    received: bytearray = field(default_factory=bytearray)

    async def send(self, data: bytes) -> None:
        """Send; that the server has closed meanwhile is seen when reading."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def read_until(self, end: bytes) -> bytes:
        """Read until this has come; what came after it stays for the next read. Fails when the connection ends."""
        while end not in self.received:
            data = await self.stream.receive_some(65_536)
            assert data, f"the connection ended after {bytes(self.received[-500:])!r}"
            self.received += data
        at = self.received.index(end) + len(end)
        part = bytes(self.received[:at])
        del self.received[:at]
        return part

    async def read_to_end(self) -> bytes:
        """Everything until the server closes."""
        try:
            while data := await self.stream.receive_some(65_536):
                self.received += data
        except trio.BrokenResourceError:
            pass
        return bytes(self.received)

    async def get(self) -> None:
        """One good request on this connection."""
        await self.send(GET)
        assert (await self.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await self.read_until(b"served")


@dataclass
class Attacked:
    """A running server, with a good client that calls all the time."""

    port: int
    server: HttpServer
    app: App
    served: int = 0

    @asynccontextmanager
    async def client(self, local_address: str | None = None) -> AsyncIterator[Client]:
        """A new connection."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port, local_address=local_address) as stream:
            yield Client(stream)

    async def until_connections(self, count: int) -> None:
        """Until only so many are left; the good client's is one of them."""
        while self.server.connections > count:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)

    async def call_all_the_time(self) -> None:
        """The good client: one connection, one request after the other, each of which must be answered."""
        async with self.client() as client:
            while True:
                await client.get()
                self.served += 1
                await trio.sleep(0.05)


@asynccontextmanager
async def attacked(limits: HttpLimits | None = None, *, with_good: bool = True) -> AsyncIterator[Attacked]:
    """The server for the length of the block; the good client was served before, meanwhile and after, and nothing in
    the server has failed.

    ``with_good=False`` where idle connections are ended so early that it would be sent away itself.
    """
    app = App()
    server = HttpServer(app.application, limits or HttpLimits())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    world = Attacked(listeners[0].socket.getsockname()[1], server, app)
    with capture_logs() as logs, trio.fail_after(HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            if with_good:
                nursery.start_soon(world.call_all_the_time)
            yield world
            before = world.served
            while with_good and world.served < before + 2:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert not logs, "a connection ended by a defect"
