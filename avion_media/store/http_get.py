"""GetObject on Trio: a presigned URL, h11 for the head of the response, and `recv_into` for its body.

The origin reads through it, so that a store that stalls holds no thread, and a small object needs none. Only three
results are used from here: success, not found, and a failed condition. botocore handles everything else: retries,
regions, refreshed credentials and error messages. Workers send their requests in threads (`quick_requests`).

It also acknowledges at once; `quick_acks` says why.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import h11
import trio

from avion_media.concurrency import take
from avion_media.domain.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.net import Relay
from avion_media.store.errors import RangeNotSatisfiable, TooLarge
from avion_media.store.objects import Bytes, ObjectInfo, ObjectPart, PartRequest, parse_content_range, range_header
from avion_media.store.presign import AT_ONCE_S, META, Presigner

_CONNECT_S = 3.0
_IDLE_S = 15.0  # after so long, something in between may have closed an idle connection
_READ_BYTES = 64 << 10
_GULP_BYTES = 1 << 20  # of a large body, in one go
_MAX_ERROR_BYTES = 64 << 10
_NEEDED = {"content-length", "last-modified"}  # of a response that is understood here
_BROKEN = (OSError, trio.BrokenResourceError, h11.RemoteProtocolError)


class HttpGet:
    """Gets objects below one endpoint, for one set of credentials. The owner must `close` it."""

    def __init__(
        self,
        presigner: Presigner,
        endpoint_url: str,
        *,
        timeout_s: float,
        max_connections: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        parts = urlsplit(endpoint_url)
        self._presigner = presigner
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls
        self._timeout_s = timeout_s
        self._slots = trio.CapacityLimiter(max_connections)
        self._kept: list[tuple[float, _Wire]] = []
        self.is_refused = False
        """Whether the store refuses a presigned GET, but accepts botocore's."""

    @property
    def can_relay(self) -> bool:
        """Whether a relayed body, which takes long, leaves enough connections, and this one is not encrypted."""
        few = self._slots.borrowed_tokens * 2 < self._slots.total_tokens
        return few and self._tls is None and not self.is_refused

    def close(self) -> None:
        """Close the connections that are kept for later requests."""
        for _, wire in self._kept:
            wire.close()
        self._kept.clear()

    async def get(self, wanted: PartRequest) -> ObjectPart | int:
        """Return the part, or the HTTP status if botocore must handle the response.

        Raises ObjectMissing, PreconditionFailed, RangeNotSatisfiable, TooLarge, Unavailable (no response in time, or
        the connection broke). A cancel closes the connection.
        """
        url, _, query = self._presigner.get(wanted.key, expires_s=AT_ONCE_S, now=datetime.now(UTC)).partition("?")
        host, _, path = url.partition("://")[2].partition("/")
        which = "" if wanted.byte_range is None else f"Range: {range_header(wanted.byte_range)}\r\n"
        which += "" if wanted.if_match is None else f'If-Match: "{wanted.if_match}"\r\n'
        head = f"GET /{path}?{query} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: identity\r\n{which}\r\n"
        await take(self._slots)
        try:
            return await self._send(wanted, head.encode("ascii"))
        except trio.TooSlowError:
            raise Unavailable(Dependency.STORE, f"GET /{path}: no answer within {self._timeout_s:g} s") from None
        except _BROKEN as error:
            raise Unavailable(Dependency.STORE, f"GET /{path}: the connection broke: {error!r}") from error
        finally:
            self._slots.release()

    async def _send(self, wanted: PartRequest, request: bytes) -> ObjectPart | int:
        """Send on an idle connection, and again on a new one if the store closed the first before it responded."""
        wire = self._take()
        if wire is not None:
            try:
                return await self._exchange(wire, wanted, request)
            except _BROKEN:
                if wire.has_received:
                    raise
        return await self._exchange(await self._connect(), wanted, request)

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
        with trio.fail_after(_CONNECT_S):
            stream = await trio.open_tcp_stream(self._host, self._port)
            if self._tls is None:
                return _Wire(stream, stream.socket)
            secure = trio.SSLStream(stream, self._tls, server_hostname=self._host, https_compatible=True)
            try:
                await secure.do_handshake()
            except BaseException:
                stream.socket.close()
                raise
            return _Wire(secure, stream.socket)

    async def _exchange(self, wire: _Wire, wanted: PartRequest, request: bytes) -> ObjectPart | int:
        """Send a request and return its response. Keep the connection if that was read to its end, else close it."""
        http = h11.Connection(h11.CLIENT)
        keep = False  # until the response has been read to its end
        try:
            with trio.move_on_after(self._timeout_s) as waiting:

                def received() -> None:
                    waiting.deadline = trio.current_time() + self._timeout_s

                await wire.send(request)
                while not isinstance(event := http.next_event(), h11.Response):
                    if event is h11.NEED_DATA:
                        http.receive_data(await wire.receive())
                headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
                persists = event.http_version == b"1.1" and headers.get("connection", "").lower() != "close"
                if event.status_code in (200, 206) and headers.keys() >= _NEEDED:
                    length = int(headers["content-length"])
                    if length > wanted.max_bytes:
                        raise TooLarge(wanted.key, length, wanted.max_bytes)
                    content_range = parse_content_range(headers.get("content-range", ""))
                    info = _info(wanted.key, headers, content_range.total if content_range else length)
                    first = http.trailing_data[0]
                    if len(first) > length:
                        raise h11.RemoteProtocolError(f"{len(first) - length} bytes after the response")
                    if wanted.relay is None:
                        data = await wire.receive_exactly(length, first, received)
                    elif content_range is None or content_range[:2] != wanted.byte_range:
                        raise Unavailable(Dependency.STORE, f"{content_range} was sent for {wanted.byte_range}")
                    else:
                        data = b""
                        persists &= await wire.relay_exactly(length, first, received, wanted.relay)
                    keep = persists
                    return ObjectPart(info, content_range, data)
                error = await _body_of_error(wire, http)
                keep = persists and http.their_state is h11.DONE
                match event.status_code:
                    case 404 if b"<Code>NoSuchKey</Code>" in error:
                        raise ObjectMissing(wanted.key)
                    case 412:
                        raise PreconditionFailed(wanted.key)
                    case 416:
                        raise RangeNotSatisfiable(wanted.key)
                return event.status_code
            raise trio.TooSlowError
        finally:
            if keep:
                self._kept.append((trio.current_time(), wire))
            else:
                wire.close()


class _Wire:
    """A connection to the store, over TLS or not."""

    def __init__(self, stream: trio.abc.Stream, tcp: trio.socket.SocketType) -> None:
        self.has_received = False  # since the last request was sent
        self._stream = stream
        self._tcp = tcp
        self._is_tls = isinstance(stream, trio.SSLStream)
        self._wakes_at = 1
        self._buffer = memoryview(bytearray(_READ_BYTES))  # for heads

    def is_quiet(self) -> bool:
        """Return whether the store has sent nothing since the last response, not even its end."""
        return not self._tcp.is_readable()

    def close(self) -> None:
        """Close without a TLS farewell. Safe to repeat."""
        self._tcp.close()

    async def send(self, data: bytes) -> None:
        """Send a whole request: usually at once, because an idle socket takes it."""
        self.has_received = False
        with suppress(BlockingIOError):
            data = data if self._is_tls else data[os.write(self._tcp.fileno(), data) :]
        if data:
            await self._stream.send_all(data)

    async def receive(self) -> bytes:
        """Return some bytes. Raises OSError at the end of the connection."""
        count = await self._receive_into(self._buffer)
        self._came(count, 1)
        self.has_received = True
        return bytes(self._buffer[:count])

    async def receive_exactly(self, length: int, first: bytes, received: Callable[[], None]) -> Bytes:
        """Return a body that begins with ``first``, which was received already. Calls ``received`` after each part."""
        if len(first) == length:
            return bytes(first)
        body = memoryview(bytearray(length))
        body[: len(first)] = first
        rest = body[len(first) :]
        while rest:
            count = await self._receive_into(rest)
            rest = rest[count:]
            self._came(count, len(rest))
            received()
        return body

    async def relay_exactly(self, length: int, first: bytes, received: Callable[[], None], relay: Relay) -> bool:
        """Pass on a body, as `receive_exactly` returns it. Return False if the client falls behind."""
        await relay.put(first)
        left = length - len(first)
        while left and not relay.is_behind:
            self._acknowledge_at_once()
            await trio.lowlevel.wait_readable(self._tcp)
            with suppress(BlockingIOError):
                count = await relay.pass_on(self._tcp, left)
                left -= count
                self._came(count, left)
                received()
        return not relay.is_behind

    async def _receive_into(self, buffer: memoryview) -> int:
        while True:
            self._acknowledge_at_once()
            if self._is_tls:
                data = await self._stream.receive_some(len(buffer))
                buffer[: len(data)] = data
                return len(data)
            await trio.lowlevel.wait_readable(self._tcp)
            with suppress(BlockingIOError):
                return os.readv(self._tcp.fileno(), [buffer])

    def _came(self, count: int, left: int) -> None:
        """Wake up once as much has come again. Raises OSError at the connection's end."""
        if not count:
            raise ConnectionResetError("closed by the store within its response")
        wakes_at = max(min(count, left, _GULP_BYTES), 1)  # a store that sends slowly is received slowly
        if wakes_at != self._wakes_at and not self._is_tls:  # waking up costs more than copying
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wakes_at)
            self._wakes_at = wakes_at

    def _acknowledge_at_once(self) -> None:
        with suppress(OSError):  # closed meanwhile, or another kernel: only latency depends on it
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


async def _body_of_error(wire: _Wire, http: h11.Connection) -> bytes:
    """Return the body of an error response, or its first `_MAX_ERROR_BYTES`."""
    body = bytearray()
    while len(body) < _MAX_ERROR_BYTES:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await wire.receive())
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            break
    return bytes(body)


def _info(key: str, headers: Mapping[str, str], size_bytes: int) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size_bytes=size_bytes,
        etag=headers.get("etag", "").strip('"'),
        last_modified=parsedate_to_datetime(headers["last-modified"]).astimezone(UTC),
        content_type=headers.get("content-type", "application/octet-stream"),
        metadata={name[len(META) :]: value for name, value in headers.items() if name.startswith(META)},
    )
