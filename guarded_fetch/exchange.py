"""One HTTP/1.1 request on one stream, with h11.

httpx and httpcore were tried first. They leave suspended async generators behind if a body is not read to its end (Trio
warns when those are collected). They limit neither interim responses nor chunks. They parse all buffered events without
a checkpoint: 64 KiB of one-byte chunks block the event loop for 150 ms. With one request per connection they offer
little else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import h11
import trio

from guarded_fetch.dial import FetchTimeouts
from guarded_fetch.errors import FetchCode, FetchRejected, FetchUnavailable
from guarded_fetch.url import RemoteUrl

_READ_BYTES: Final = 16 << 10
_MAX_INCOMPLETE_BYTES: Final = 16 << 10  # together with one read, headers stay below 32 KiB
_MAX_INTERIM_RESPONSES: Final = 8
_WRITE_TIMEOUT_S: Final = 10.0
# Parsing a chunk takes 14 µs, so 256 of them between two checkpoints take 4 ms. The total of small chunks is limited.
_CHUNKS_AT_ONCE: Final = 256
_FREE_CHUNKS: Final = 4096
_MIN_MEAN_CHUNK_BYTES: Final = 256
_MAX_DETAIL_CHARACTERS: Final = 200


class Exchange:
    """Call `ask` once, then `read` the body. ``status`` and `header` are available after `ask`."""

    def __init__(self, stream: trio.abc.Stream, timeouts: FetchTimeouts, max_wire_bytes: int) -> None:
        """``max_wire_bytes`` limits all received bytes, framing included."""
        self._stream = stream
        self._timeouts = timeouts
        self._wire_bytes_left = max_wire_bytes
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_INCOMPLETE_BYTES)
        self._headers: dict[bytes, list[bytes]] = {}
        self._ended = False
        self._chunks = 0
        self._body_bytes = 0
        self.status = 0

    async def ask(
        self,
        url: RemoteUrl,
        user_agent: str,
        more: Sequence[tuple[str, str]] = (),
        *,
        accept: str = "*/*",
        body: bytes | None = None,
    ) -> None:
        """Send a GET, or with a ``body`` a POST, with the headers ``more``, and receive the response's headers.

        Raises `FetchRejected` (REMOTE_STATUS) if the response is not HTTP, and `FetchUnavailable` if the server closes
        or is slow.
        """
        request = h11.Request(
            method="GET" if body is None else "POST",
            target=url.target,
            headers=[
                ("Host", url.authority),
                ("User-Agent", user_agent),
                ("Accept", accept),
                ("Accept-Encoding", "identity"),
                *more,
                *([] if body is None else [("Content-Length", str(len(body)))]),
                ("Connection", "close"),
            ],
        )
        sent = self._http.send(request) + (b"" if body is None else self._http.send(h11.Data(body)) or b"")
        try:
            with trio.fail_after(self._timeouts.head_s):
                await self._send(sent + (self._http.send(h11.EndOfMessage()) or b""))
                response = await self._receive_head()
        except trio.TooSlowError:
            raise FetchUnavailable(f"no answer within {self._timeouts.head_s:g} s") from None
        except h11.RemoteProtocolError as error:
            raise FetchRejected(FetchCode.REMOTE_STATUS, f"not HTTP: {shortened(str(error))}") from None
        self.status = response.status_code
        for name, value in response.headers:
            self._headers.setdefault(name, []).append(value)

    def header(self, name: bytes) -> str:
        """Return the first header of that (lower-case) name, or an empty text. Read as UTF-8, unlike the standard."""
        return next(iter(self.headers(name)), "")

    def headers(self, name: bytes) -> list[str]:
        """Return all headers of that name, as `header` does."""
        return [_text_of(value) for value in self._headers.get(name, [])]

    async def read(self) -> bytes:
        """Return the next bytes of the body; empty at its end.

        Raises `FetchUnavailable` if the body stalls or ends early: before its announced length, or before its last
        chunk. Without an announced length the end of the connection is the end of the body; HTTP cannot distinguish
        more.
        Raises `FetchRejected` if the framing is a multiple of the content.
        """
        await trio.lowlevel.checkpoint()
        pieces: list[bytes] = []
        try:
            while not self._ended and len(pieces) < _CHUNKS_AT_ONCE:
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    self._count(event)
                    pieces.append(bytes(event.data))
                elif event is not h11.NEED_DATA:
                    self._ended = True
                elif pieces:
                    break
                else:
                    with trio.fail_after(self._timeouts.read_s):
                        self._http.receive_data(await self._receive())
        except trio.TooSlowError:
            raise FetchUnavailable(f"no bytes for {self._timeouts.read_s:g} s") from None
        except h11.RemoteProtocolError as error:
            raise FetchUnavailable(f"the body broke off: {shortened(str(error))}") from None
        return b"".join(pieces)

    async def _receive_head(self) -> h11.Response:
        interim = 0
        greeting = b""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                data = await self._receive()
                if not data:
                    raise FetchUnavailable("closed the connection instead of answering")
                if len(greeting) < 5:
                    greeting = (greeting + data)[:5]
                    _check_greeting(greeting)
                self._http.receive_data(data)
            else:
                interim += 1
                if interim > _MAX_INTERIM_RESPONSES:
                    raise FetchRejected(FetchCode.REMOTE_STATUS, "too many interim responses")

    def _count(self, data: h11.Data) -> None:
        self._chunks += data.chunk_start
        self._body_bytes += len(data.data)
        if self._chunks > _FREE_CHUNKS and self._body_bytes < self._chunks * _MIN_MEAN_CHUNK_BYTES:
            raise FetchRejected(FetchCode.REMOTE_STATUS, "chunks too small")

    async def _send(self, data: bytes) -> None:
        try:
            with trio.fail_after(_WRITE_TIMEOUT_S):
                await self._stream.send_all(data)
        except trio.BrokenResourceError:
            pass  # the server may have responded before it closed (an early 4xx), so try to read
        except trio.TooSlowError:
            raise FetchUnavailable(f"the request was not taken within {_WRITE_TIMEOUT_S:g} s") from None

    async def _receive(self) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(_READ_BYTES))
        except trio.BrokenResourceError as error:
            raise FetchUnavailable(f"the connection broke: {error.__cause__ or error}") from error
        self._wire_bytes_left -= len(data)
        if self._wire_bytes_left < 0:
            raise FetchRejected(FetchCode.TOO_LARGE, "more bytes on the wire than any accepted body needs")
        return data


def _check_greeting(greeting: bytes) -> None:
    """Raise at once if the server speaks another protocol. Most of those would wait for us, and never send an empty
    line."""
    if not b"HTTP/".startswith(greeting):
        raise FetchRejected(FetchCode.REMOTE_STATUS, f"not HTTP: {greeting!r}")


def shortened(text: str) -> str:
    """Return untrusted text for a log line: limited in length, without control characters."""
    return ascii(text[:_MAX_DETAIL_CHARACTERS])[1:-1][:_MAX_DETAIL_CHARACTERS]


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
