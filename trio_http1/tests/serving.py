"""An HTTP server to attack, an application that shows what became of its requests, and a good client."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import starlette.requests
import starlette.responses
import trio
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trio_http1 import AsgiServer, HttpLimits, HttpServer, Request, Response

HARD_LIMIT_S = 30.0
CHUNK = b"x" * 65_536
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
TEXT = {"Content-Type": "text/plain"}
SAFETY_HEADERS = {"X-Content-Type-Options": "nosniff"}
GET = b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n"


@contextmanager
def logged() -> Iterator[list[str]]:
    """The events that the library logs meanwhile."""
    events: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: events.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("trio_http1")
    logger.addHandler(handler)
    try:
        yield events
    finally:
        logger.removeHandler(handler)


class App:
    """``/`` answers, ``/hang`` waits, ``/endless`` streams for ever, ``/body`` counts what it is sent."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.finished = 0
        self._news = trio.Event()

    async def handle(self, request: Request) -> Response:
        """The handler."""
        match request.method, request.path:
            case "GET" | "HEAD", "/":
                self.finished += 1
                return Response(200, TEXT, b"served")
            case "GET", "/hang":
                with self._counted():
                    await trio.sleep_forever()
            case "GET", "/endless":
                return Response(200, TEXT, _Endless(self))
            case "POST", "/body":
                return Response(200, TEXT, str(len(await request.read_body())).encode())
            case _, "/":
                return Response(405, TEXT, b"GET only")
        return Response(404, TEXT, b"Not Found")

    def application(self) -> Starlette:
        """The same as an ASGI application."""

        async def endpoint(request: starlette.requests.Request) -> starlette.responses.Response:
            known = Request(request.method, request.url.path, None, {}, "", request.body)
            response = await self.handle(known)
            if isinstance(response.body, bytes):
                return starlette.responses.Response(response.body, response.status, response.headers)
            windows: Any = response.body.windows()
            return _Streamed(windows, response.status, response.headers)

        return Starlette(routes=[Route("/{path:path}", endpoint, methods=METHODS)])

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.entered += 1
        self._tell()
        try:
            yield
        finally:
            self.cancelled += 1
            self._tell()

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


class _Streamed(StreamingResponse):
    """Closes what it streams, which Starlette leaves to the garbage collector."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


class _Endless:
    """For ever the same."""

    length_bytes = None

    def __init__(self, app: App) -> None:
        self._app = app

    async def windows(self) -> AsyncGenerator[bytes, None]:
        with self._app._counted():
            while True:
                yield CHUNK

    def close(self) -> None:
        """There is nothing to give back."""


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
    server: HttpServer | AsgiServer
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


class Kind(Enum):
    """What answers: a handler, as the origin has one, or an ASGI application, as the admin port has."""

    HANDLER = "handler"
    ASGI = "asgi"


@asynccontextmanager
async def attacked(
    limits: HttpLimits | None = None, kind: Kind = Kind.HANDLER, *, with_good: bool = True
) -> AsyncIterator[Attacked]:
    """The server for the length of the block; the good client was served before, meanwhile and after, and nothing in
    the server has failed.

    ``with_good=False`` where idle connections are ended so early that it would be sent away itself.
    """
    app = App()
    server = _server(kind, app, limits or HttpLimits())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    world = Attacked(listeners[0].socket.getsockname()[1], server, app)
    with logged() as events, trio.fail_after(HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            if with_good:
                nursery.start_soon(world.call_all_the_time)
            yield world
            before = world.served
            while with_good and world.served < before + 2:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert not events, "a connection ended by a defect"


def _server(kind: Kind, app: App, limits: HttpLimits) -> HttpServer | AsgiServer:
    if kind is Kind.ASGI:
        return AsgiServer(app.application(), limits)
    return HttpServer(app.handle, limits, refusal_headers=SAFETY_HEADERS)
