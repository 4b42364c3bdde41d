"""HTTP to the store on Trio: h11 for the head of a response, and `recv_into` for the body of an object.

A store that stalls holds no thread. Responses are acknowledged at once; `acknowledge_at_once` says why.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

import h11
import trio

from trio_s3.objects import Bytes, Source
from trio_s3.relay import Relay

T = TypeVar("T")

_IDLE_S = 15.0  # after so long, something in between may have closed an idle connection
PIECE_BYTES = 1 << 20  # of a large body, in one go


class Broken(Exception):
    """The connection ended early, or its bytes are not HTTP."""


class Http:
    """Sends requests to one endpoint, and keeps connections for later ones. The owner must `close` it."""

    def __init__(
        self, endpoint_url: str, *, connect_timeout_s: float, timeout_s: float, tls: ssl.SSLContext | None
    ) -> None:
        parts = urlsplit(endpoint_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = tls
        self.timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._kept: list[tuple[float, _Wire]] = []
        self._keeps = True

    def close(self) -> None:
        """Close the connections that are kept for later requests, and keep none from now on."""
        self._keeps = False
        while self._kept:
            self._kept.pop()[1].close()

    async def send(self, head: bytes, body: Source, read: Callable[[StoreResponse], Awaitable[T]]) -> T:
        """Send a request, whose ``head`` is sent as it is, and return what ``read`` makes of its response.

        It is sent on an idle connection, and again on a new one if the store closed the first before it responded.
        Raises `Broken`, TooSlowError (nothing came or went for ``timeout_s``), OSError (of the file). A cancel closes
        the connection, but once the last byte of a PUT or DELETE has been sent, it waits for the response.
        """
        wire = self._take()
        if wire is not None:
            try:
                return await self._exchange(wire, head, body, read)
            except Broken:
                if wire.has_received:
                    raise
        return await self._exchange(await self._connect(), head, body, read)

    def _take(self) -> _Wire | None:
        """Return the most recently used idle connection that looks alive; None if there is none. Close all old ones."""
        while self._kept and self._kept[0][0] < trio.current_time() - _IDLE_S:
            self._kept.pop(0)[1].close()
        while self._kept:
            wire = self._kept.pop()[1]
            if wire.is_quiet():
                return wire
            wire.close()
        return None

    async def _connect(self) -> _Wire:
        with _breaking(), trio.fail_after(self._connect_timeout_s):
            stream = await trio.open_tcp_stream(self._host, self._port)
            stream.setsockopt(socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, PIECE_BYTES)  # Trio's is 16 KiB
            secure = self.tls and trio.SSLStream(stream, self.tls, server_hostname=self._host, https_compatible=True)
            return _Wire(secure or stream, stream.socket)

    async def _exchange(
        self, wire: _Wire, head: bytes, body: Source, read: Callable[[StoreResponse], Awaitable[T]]
    ) -> T:
        response: StoreResponse | None = None
        try:
            with trio.move_on_after(self.timeout_s) as waiting:

                def progressed() -> None:
                    waiting.deadline = trio.current_time() + self.timeout_s

                last = await _send_most(wire, head, body, progressed)
                waiting.shield = head.startswith((b"PUT", b"DELETE"))
                await wire.send(last)
                http = h11.Connection(h11.CLIENT)
                while not isinstance(event := await _next_event(wire, http), h11.Response):
                    pass
                response = StoreResponse(wire, http, event, progressed)
                return await read(response)
            raise trio.TooSlowError
        finally:
            if self._keeps and response is not None and response.ends_well:
                self._kept.append((trio.current_time(), wire))
            else:
                wire.close()


class StoreResponse:
    """A response whose head has come. One of its methods must read its body, if it has one."""

    def __init__(self, wire: _Wire, http: h11.Connection, head: h11.Response, progressed: Callable[[], None]) -> None:
        self.status = head.status_code
        self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        self._persists = head.http_version == b"1.1" and self.headers.get("connection", "").lower() != "close"
        self._wire = wire
        self._http = http
        self._progressed = progressed
        self._is_at_end = False

    @property
    def ends_well(self) -> bool:
        """Whether the connection can be used again."""
        return self._is_at_end and self._persists

    def has_no_body(self) -> None:
        """Record that it answers HEAD."""
        self._is_at_end = not self._http.trailing_data[0]

    async def content(self, max_bytes: int) -> bytes:
        """Return the body, or its beginning if it is longer."""
        body = bytearray()
        while len(body) < max_bytes:
            event = await _next_event(self._wire, self._http)
            if not isinstance(event, h11.Data):
                self._is_at_end = self._http.their_state is h11.DONE
                break
            body += event.data
        return bytes(body)

    async def exactly(self, length: int) -> Bytes:
        """Return a body of that length."""
        first = self._first(length)
        body = first if len(first) == length else await self._fill(memoryview(bytearray(length)), first)
        self._is_at_end = True
        return body

    async def to_file(self, length: int, fd: int, offset: int) -> None:
        """Write a body of that length to an open file. After an error or a cancel a part may have been written."""
        first, end = self._first(length), offset + length
        buffer = memoryview(bytearray(min(PIECE_BYTES, length)))
        while offset < end:
            piece = await self._fill(buffer[: end - offset], first)
            if length <= PIECE_BYTES:
                write_at(fd, piece, offset)
            else:
                await trio.to_thread.run_sync(write_at, fd, piece, offset)
            first, offset = b"", offset + len(piece)
        self._is_at_end = True

    async def relay(self, length: int, relay: Relay) -> None:
        """Pass on a body of that length, until the client falls behind."""
        first = self._first(length)
        await relay.put(first)
        left = length - len(first)
        while left and not relay.is_behind:
            left -= await self._wire.relay(left, relay)
            self._progressed()
        self._is_at_end = not relay.is_behind

    async def _fill(self, piece: memoryview, first: bytes) -> memoryview:
        """Receive the next bytes of the body, which begin with ``first``. Return ``piece``."""
        piece[: len(first)] = first
        rest = piece[len(first) :]
        while rest:
            count = await self._wire.receive_into(rest)
            rest = rest[count:]
            self._wire.came(count, len(rest))
            self._progressed()
        return piece

    def _first(self, length: int) -> bytes:
        """Return what has come of the body."""
        first = bytes(self._http.trailing_data[0])
        if len(first) > length:
            raise Broken(f"{len(first) - length} bytes after the response")
        return first


class _Wire:
    """A connection to the store, over TLS or not. Its methods raise `Broken`."""

    def __init__(self, stream: trio.abc.Stream, tcp: trio.socket.SocketType) -> None:
        self._stream = stream
        self._tcp = tcp
        self._is_tls = isinstance(stream, trio.SSLStream)
        self._wakes_at = 1
        self._buffer = memoryview(bytearray(64 << 10))  # for heads

    def is_quiet(self) -> bool:
        """Return whether the store has sent nothing since the last response, not even its end."""
        return not self._tcp.is_readable()

    def close(self) -> None:
        """Close without a TLS farewell. Safe to repeat."""
        self._tcp.close()

    async def send(self, data: bytes) -> None:
        """Send all of it: usually at once, because an idle socket takes it."""
        self.has_received = False  # since then
        with _breaking():
            with suppress(BlockingIOError):
                data = data if self._is_tls else data[os.write(self._tcp.fileno(), data) :]
            if data:
                await self._stream.send_all(data)

    async def receive(self) -> bytes:
        """Return some bytes."""
        count = await self.receive_into(self._buffer)
        self.came(count, 1)
        self.has_received = True
        return bytes(self._buffer[:count])

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive some bytes. Return how many `came`."""
        while True:
            acknowledge_at_once(self._tcp)
            with _breaking():
                if self._is_tls:
                    data = await self._stream.receive_some(len(buffer))
                    buffer[: len(data)] = data
                    return len(data)
                await trio.lowlevel.wait_readable(self._tcp)
                with suppress(BlockingIOError):
                    return os.readv(self._tcp.fileno(), [buffer])

    async def relay(self, length: int, relay: Relay) -> int:
        """Pass on some bytes, at most ``length``. Return how many."""
        acknowledge_at_once(self._tcp)
        count = 0
        with _breaking():
            await trio.lowlevel.wait_readable(self._tcp)
            with suppress(BlockingIOError):
                count = await relay.pass_on(self._tcp, length)
                self.came(count, length - count)
        return count

    def came(self, count: int, left: int) -> None:
        """Note that so many bytes came, of those that are expected: wake up once as much has come again."""
        if not count:
            raise Broken("closed by the store within its response")
        wakes_at = max(min(count, left, PIECE_BYTES), 1)  # a store that sends slowly is received slowly
        if wakes_at != self._wakes_at and not self._is_tls:  # waking up costs more than copying
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wakes_at)
            self._wakes_at = wakes_at


def acknowledge_at_once(connection: socket.socket | trio.socket.SocketType) -> None:
    """Acknowledge what has come, and the next that comes (``TCP_QUICKACK``).

    A store that sends the head and the body of a small object separately, with Nagle's algorithm on, does not send the
    body until the head is acknowledged. radosgw does so by default. The kernel acknowledges a single segment after
    40 ms, unless the reader sets this option. It resets the option by itself, so set it twice for each response: before
    the wait for it, because sending the request has reset the option, and after its head.
    """
    with suppress(OSError):  # closed meanwhile, or another kernel: only latency depends on it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def write_at(fd: int, data: Bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file. Blocks. After an `OSError` a part may have been written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def _breaking() -> Iterator[None]:
    try:
        yield
    except (OSError, trio.BrokenResourceError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, BaseExceptionGroup):  # one for each address of the store
            cause = cause.exceptions[0]
        raise Broken(str(cause) or repr(cause)) from error


async def _next_event(wire: _Wire, http: h11.Connection) -> h11.Event:
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            raise Broken(repr(error)) from error
        if isinstance(event, h11.Event):
            return event
        http.receive_data(await wire.receive())


async def _send_most(wire: _Wire, head: bytes, body: Source, progressed: Callable[[], None]) -> bytes:
    """Send a request but for its last piece, which is returned."""
    if body.size_bytes <= PIECE_BYTES:
        return head + body.read(0, PIECE_BYTES)
    last = head
    for offset in range(0, body.size_bytes, PIECE_BYTES):
        await wire.send(last)
        progressed()
        last = await trio.to_thread.run_sync(body.read, offset, PIECE_BYTES)
    return last
