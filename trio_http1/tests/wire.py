"""A server of this library, and clients that speak in bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import trio

from trio_http1 import BodyLost, HttpLimits, HttpServer, Request, Response

LIMIT_S = 20.0


@dataclass
class Answer:
    """One response, as h11 reads it. ``is_whole``: its body ended as its head had said."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)
    is_whole: bool = True


@dataclass
class Handlers:
    """The handler: what it was asked, and what it answers by path."""

    seen: list[Request] = field(default_factory=list)
    entered: trio.Event = field(default_factory=trio.Event)
    go_on: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)

    async def handle(self, request: Request) -> Response:
        """`/wait` waits for ``go_on``; `/body` sends back what it is sent; others say what they are."""
        self.seen.append(request)
        match request.path:
            case "/wait":
                self.entered.set()
                try:
                    await self.go_on.wait()
                finally:
                    self.left.set()
            case "/body":
                return Response(200, {}, await request.read_body())
            case "/pieces":
                return Response(200, {"Content-Type": "text/event-stream"}, Pieces([b"one", b"two"], None))
            case "/lost":
                return Response(200, {}, Pieces([b"one", BodyLost("gone")], 6))
            case "/short":
                return Response(200, {}, Pieces([b"one"], 6))
            case "/long":
                return Response(200, {}, Pieces([b"one", b"two"], 4))
            case "/fails":
                raise RuntimeError("a bug")
            case "/304":
                return Response(304, {"ETag": '"a"'})
            case "/large":
                return Response(200, {}, Pieces([b"x" * (1 << 20)] * 16, 16 << 20))
        return Response(200, {"Content-Type": "text/plain"}, f"{request.method} {request.path}".encode())


class Pieces:
    """A body of these pieces; an exception is raised where it stands."""

    def __init__(self, pieces: list[bytes | Exception], length: int | None) -> None:
        self._pieces = pieces
        self.length_bytes = length

    async def windows(self) -> AsyncGenerator[bytes, None]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        """There is nothing to give back."""


@dataclass
class Wire:
    """A connection to the server."""

    stream: trio.SocketStream

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def answers(self, *methods: str) -> list[Answer]:
        """The responses to requests with these methods, which were sent already; fewer where the connection ends."""
        reader = h11.Connection(h11.CLIENT)
        found = []
        for method in methods:
            reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
            reader.send(h11.EndOfMessage())
            answer = await self._one(reader)
            if answer is None:
                break
            found.append(answer)
            if not answer.is_whole or reader.our_state is not h11.DONE or reader.their_state is not h11.DONE:
                break
            reader.start_next_cycle()
        return found

    async def answer(self, method: str = "GET") -> Answer:
        """The only response."""
        [found] = await self.answers(method)
        return found

    async def is_over(self) -> bool:
        """Whether the server sends nothing more but its end."""
        try:
            return await self.stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True

    async def _one(self, reader: h11.Connection) -> Answer | None:
        answer: Answer | None = None
        interim = []
        try:
            while True:
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    reader.receive_data(await self.stream.receive_some(65_536))
                elif isinstance(event, h11.InformationalResponse):
                    interim.append(event.status_code)
                elif isinstance(event, h11.Response):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    answer = Answer(event.status_code, headers, b"", interim)
                elif isinstance(event, h11.Data):
                    assert answer is not None
                    answer.body += event.data
                else:
                    return answer
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            if answer is not None:
                answer.is_whole = False
            return answer


@dataclass
class World:
    """The running server."""

    server: HttpServer
    handlers: Handlers
    port: int

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        """A new connection."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield Wire(stream)

    async def ask(self, data: bytes, method: str = "GET") -> Answer:
        """One request on a connection of its own."""
        async with self.wire() as wire:
            await wire.send(data)
            return await wire.answer(method)


@asynccontextmanager
async def serving(limits: HttpLimits | None = None) -> AsyncIterator[World]:
    """The server for the length of the block."""
    handlers = Handlers()
    server = HttpServer(handlers.handle, limits or HttpLimits(), refusal_headers={"X-Refused": "yes"})
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            yield World(server, handlers, listeners[0].socket.getsockname()[1])
            nursery.cancel_scope.cancel()


def head(*lines: bytes, target: bytes = b"/", method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request's head, with a Host."""
    first = method + b" " + target + b" HTTP/" + version
    return b"\r\n".join((first, b"Host: origin", *lines, b"", b""))
