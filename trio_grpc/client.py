"""A client: calls over one connection.

ngh2 has the protocol (bytes in, events out). Two tasks read and write for all calls, so that a call that is cancelled
never leaves a frame half written, and pings are answered while no call waits.
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, TypedDict, TypeVar, Unpack

import ngh2
import trio
from google.protobuf.message import DecodeError
from ngh2 import ErrorCode, Setting

from trio_grpc.status import CallError, Code, ConnectionEnded, Headers, RpcError, error_in, http_error_in
from trio_grpc.wire_format import (
    ACCEPTED_ENCODINGS,
    GZIP_ENCODING,
    Assembly,
    Message,
    Metadata,
    framed,
    inflated,
    metadata_headers,
    metadata_in,
    timeout_header,
)

_M = TypeVar("_M")
_READ_BYTES = 64 << 10
_STREAM_WINDOW_BYTES = 256 << 10  # of one call's responses, before the server waits for its reader
_CONNECTION_WINDOW_BYTES = 1 << 30  # calls that nobody reads must not stall the others
_ENOUGH_QUEUED_BYTES = 64 << 10  # of requests that the windows do not take yet
_MAX_HEADER_LIST_BYTES = 16 << 10
_HEADERS: Headers = ((b"te", b"trailers"), (b"content-type", b"application/grpc"), ACCEPTED_ENCODINGS)
_CODES_OF_RESETS: dict[int, Code] = {  # https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Errors"
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


@dataclass(slots=True)
class ReceivedMetadata:
    """Pass one to a call to get the metadata of its response. It is complete when the call has ended."""

    initial: Metadata = field(default_factory=Metadata)
    trailing: Metadata = field(default_factory=Metadata)


class CallOptions(TypedDict, total=False):
    """The keyword arguments of every call. None is needed."""

    metadata: Iterable[tuple[str, str | bytes]]
    timeout_s: float
    """The call's deadline, here and at the server. Without it the call waits as long as the server lets it."""
    received: ReceivedMetadata


@asynccontextmanager
async def open_channel(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_name: str = "",
    max_message_bytes: int = 4 << 20,
) -> AsyncIterator[Channel]:
    """Connect to a server, and close the connection at the end of the block.

    ``ssl_context`` must offer ALPN ``h2``; with a client certificate in it this is mTLS. ``server_name`` is what the
    server's certificate is for, if that is not ``host``. Responses have at most ``max_message_bytes``.

    Raises OSError if there is no connection, `ssl.SSLError` (an OSError) if TLS fails. Calls that other tasks still
    have at the end of the block raise `ConnectionEnded`.
    """
    stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if ssl_context is not None:
        stream = await _secured(stream, ssl_context, server_name or host)
    async with _channel(stream, authority, max_message_bytes, is_tls=ssl_context is not None) as channel:
        yield channel


@asynccontextmanager
async def open_unix_channel(path: str | PathLike[str], *, max_message_bytes: int = 4 << 20) -> AsyncIterator[Channel]:
    """Connect to a server on a Unix socket; otherwise as `open_channel`."""
    stream = await trio.open_unix_socket(path)
    async with _channel(stream, "localhost", max_message_bytes, is_tls=False) as channel:
        yield channel


async def _secured(stream: trio.abc.Stream, context: ssl.SSLContext, server_name: str) -> trio.abc.Stream:
    secured = trio.SSLStream(stream, context, server_hostname=server_name, https_compatible=True)
    try:
        await secured.do_handshake()
        if secured.selected_alpn_protocol() != "h2":
            raise ssl.SSLError("the server does not offer HTTP/2")
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
    return secured


@asynccontextmanager
async def _channel(
    stream: trio.abc.Stream, authority: str, max_message_bytes: int, *, is_tls: bool
) -> AsyncIterator[Channel]:
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            channel = Channel(stream, nursery, authority, max_message_bytes, is_tls=is_tls)
            try:
                yield channel
            except BaseException as error:
                failure = error
                raise
            finally:
                channel._over("the channel is closed")
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup:
        if failure is None:
            raise
    finally:
        with trio.CancelScope(shield=True):  # does not wait
            await trio.aclose_forcefully(stream)
    if failure is not None:  # as it was raised, without the group that the nursery adds
        raise failure


@contextmanager
def _before(deadline: float) -> Iterator[None]:
    with trio.move_on_at(deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise CallError(Code.DEADLINE_EXCEEDED, "the deadline has passed")


class _Call:
    """A call in flight: what arrived of its response."""

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.is_over = False
        self.error: Exception | None = None
        self.head: Headers | None = None
        self.trailers: Headers = ()
        self.assembly: Assembly | None = None
        self.inbox: deque[Message] = deque()
        self.uncredited_bytes = 0
        self.news = trio.lowlevel.ParkingLot()  # who waits for a response
        self.sending: trio.CancelScope | None = None

    def end(self, error: Exception | None) -> None:
        """Record how it ended. The first to say so is right."""
        if not self.is_over:
            self.is_over, self.error = True, error
            self.news.unpark_all()


class Channel:
    """One connection to a server, from `open_channel`. It can carry any number of calls at once.

    It does not reconnect. When the connection ends, or the server announces its end, calls raise `ConnectionEnded`:
    open another channel then.
    """

    def __init__(
        self, stream: trio.abc.Stream, nursery: trio.Nursery, authority: str, max_message_bytes: int, *, is_tls: bool
    ) -> None:
        self._stream = stream
        self._nursery = nursery
        self._max_message_bytes = max_message_bytes
        self._pseudo: Headers = (
            (b":method", b"POST"),
            (b":scheme", b"https" if is_tls else b"http"),
            (b":authority", authority.encode("ascii")),
        )
        self._calls: dict[int, _Call] = {}
        self._end_reason = ""  # once no new calls can begin
        self._writer = trio.lowlevel.ParkingLot()
        self._written = trio.lowlevel.ParkingLot()  # who waits for requests to leave
        self._http = ngh2.Connection(
            ngh2.Role.CLIENT,
            ngh2.Configuration(auto_window_update=False, max_inbound_header_list_size=_MAX_HEADER_LIST_BYTES),
        )
        self._http.initiate_connection(
            {
                Setting.ENABLE_PUSH: 0,
                Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                Setting.MAX_HEADER_LIST_SIZE: _MAX_HEADER_LIST_BYTES,
            }
        )
        self._http.set_local_window_size(_CONNECTION_WINDOW_BYTES)
        nursery.start_soon(self._read)
        nursery.start_soon(self._write)

    @property
    def is_open(self) -> bool:
        """Whether calls can begin: until the connection ends, or the server announces its end."""
        return not self._end_reason

    # -- Calls

    async def unary(self, path: str, request: Any, response_type: type[_M], **options: Unpack[CallOptions]) -> _M:
        """Call a method (``/package.Service/Method``) that has one response, and return it.

        ``request`` is a message, or an asynchronous iterable of them. Raises `CallError`, ValueError for metadata that
        gRPC does not allow, and what the iterable raises. After a cancel, or a deadline that has passed, the server is
        asked to stop; whether the method had an effect is not known then.
        """
        responses = self.stream(path, request, response_type, **options)
        async with aclosing(responses):
            found = [response async for response in responses]
        if len(found) != 1:
            raise CallError(Code.INTERNAL, f"{len(found)} responses where one was expected")
        return found[0]

    async def stream(
        self, path: str, request: Any, response_type: type[_M], **options: Unpack[CallOptions]
    ) -> AsyncGenerator[_M, None]:
        """Call a method that has a stream of responses, and yield them; otherwise as `unary`.

        The call starts with the first step. Close the generator (`contextlib.aclosing`) to end the call early.
        """
        timeout_s = options.get("timeout_s", math.inf)
        deadline = trio.current_time() + timeout_s
        more = timeout_header(timeout_s) + metadata_headers(options.get("metadata", ()))
        call: _Call | None = None
        try:
            call = self._begin((*self._pseudo, (b":path", path.encode()), *_HEADERS, *more))
            if isinstance(request, AsyncIterable):
                self._nursery.start_soon(self._send_all, call, request)
            else:
                self._send(call, request, is_last=True)
            while True:
                with _before(deadline):
                    payload = await self._next(call)
                if payload is None:
                    return
                try:
                    message = response_type.FromString(payload)  # type: ignore[attr-defined]
                except DecodeError:
                    raise CallError(Code.INTERNAL, "a response is not a message of the expected type") from None
                yield message
        finally:
            if call is not None:
                self._finish(call)
                if (received := options.get("received")) is not None:
                    received.initial, received.trailing = metadata_in(call.head or ()), metadata_in(call.trailers)

    def _begin(self, headers: Headers) -> _Call:
        if not self.is_open:
            raise ConnectionEnded(self._end_reason)
        try:
            call = _Call(self._http.send_request(headers))  # which waits there if the server allows no more at once
        except ngh2.NGH2Error as error:  # no number for a call is left
            self._end_reason = str(error)
            raise ConnectionEnded(self._end_reason) from None
        self._calls[call.id] = call
        return call

    def _finish(self, call: _Call) -> None:
        """Forget a call, and reset it unless both sides have ended it."""
        call.end(None)
        if call.sending is not None:
            call.sending.cancel()
        del self._calls[call.id]
        call.inbox.clear()
        self._credit(call)
        with suppress(ngh2.NGH2Error):
            self._http.reset_stream(call.id, ErrorCode.CANCEL)
        self._writer.unpark()

    def _send(self, call: _Call, request: Any, *, is_last: bool) -> None:
        with suppress(ngh2.NGH2Error):  # it has ended, and an event says so
            self._http.send_data(call.id, framed(request.SerializeToString()), end_stream=is_last)
        self._writer.unpark()

    async def _send_all(self, call: _Call, requests: AsyncIterable[Any]) -> None:
        with trio.CancelScope() as call.sending:
            try:
                async for request in requests:
                    self._send(call, request, is_last=False)
                    while not call.is_over and self._http.queued_body_size(call.id) > _ENOUGH_QUEUED_BYTES:
                        await self._written.park()
                    if call.is_over:
                        return
            except Exception as error:  # noqa: BLE001 - raised by the caller's iterable: the call raises it
                call.end(error)
                return
            with suppress(ngh2.NGH2Error):
                self._http.end_stream(call.id)
            self._writer.unpark()

    async def _next(self, call: _Call) -> bytes | None:
        """Return the next response; None after the last."""
        while not call.inbox:
            if call.error is not None:
                raise call.error
            if call.is_over:
                return None
            await call.news.park()
        message = call.inbox.popleft()
        if not call.inbox:
            self._credit(call)
        try:
            return (
                await inflated(message.payload, self._max_message_bytes) if message.is_compressed else message.payload
            )
        except RpcError as error:
            raise CallError(error.code, error.message) from None

    # -- The connection

    async def _write(self) -> None:
        with suppress(trio.BrokenResourceError):  # then the read fails, too, after what is left to read
            while self._http.want_read or self._http.want_write:
                if output := self._http.data_to_send():
                    await self._stream.send_all(output)
                    self._written.unpark_all()
                else:
                    await self._writer.park()
            self._over("the server broke the protocol")  # the output was the library's GOAWAY

    async def _read(self) -> None:
        reason = "the server ended the connection"
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                self._http.receive_data(bytes(data))
                for event in self._http.events():
                    self._happened(event)
                self._writer.unpark()
        except trio.BrokenResourceError:
            reason = "the connection broke"
        except ngh2.NGH2Error as error:
            reason = f"the server broke the protocol: {error}"
        self._over(self._end_reason or reason)

    def _over(self, reason: str) -> None:
        self._end_reason = self._end_reason or reason
        for call in self._calls.values():
            call.end(ConnectionEnded(reason))

    def _happened(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.GoAwayReceived):
            reason = event.debug_data.decode(errors="replace") or f"error {event.error_code}"
            ended = f"the server ended the connection: {reason}"
            self._end_reason = ended if event.error_code else "the server is shutting down"
        call = self._calls.get(getattr(event, "stream_id", 0))
        if call is None:
            if isinstance(event, ngh2.DataReceived):  # in flight when its call was reset
                with suppress(ngh2.NGH2Error):
                    self._http.acknowledge_received_data(len(event.data), event.stream_id)
            return
        try:
            self._happened_in(call, event)
        except RpcError as error:  # of a message that cannot be accepted
            call.end(CallError(error.code, error.message))

    def _happened_in(self, call: _Call, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.ResponseReceived):
            call.head = event.headers
            if (error := http_error_in(call.head)) is not None:
                call.end(error)
            call.assembly = Assembly(self._max_message_bytes, is_gzip=GZIP_ENCODING in call.head)
        elif isinstance(event, ngh2.TrailersReceived):
            call.trailers = event.headers
            self._ended(call)
        elif isinstance(event, ngh2.DataReceived):
            call.uncredited_bytes += len(event.data)
            if call.assembly is not None and not call.is_over:
                call.inbox.extend(call.assembly.feed(event.data))
            if call.inbox:
                call.news.unpark_all()
            else:
                self._credit(call)
        elif isinstance(event, ngh2.StreamReset | ngh2.StreamClosed):
            code = _CODES_OF_RESETS.get(event.error_code, Code.INTERNAL)
            lost = self._end_reason and event.error_code == ErrorCode.REFUSED_STREAM
            text = f"the call was reset (error {event.error_code})"
            call.end(ConnectionEnded(self._end_reason) if lost else CallError(code, text))
        if getattr(event, "end_stream", False):
            self._ended(call)

    def _ended(self, call: _Call) -> None:
        error = error_in(call.trailers or call.head or ())
        if error is None and call.assembly is not None and not call.assembly.is_empty:
            error = CallError(Code.INTERNAL, "the response ended within a message")
        call.end(error)

    def _credit(self, call: _Call) -> None:
        """Let the server send more of a response. The library does so once half of the window is used."""
        if call.uncredited_bytes:
            with suppress(ngh2.NGH2Error):
                self._http.acknowledge_received_data(call.uncredited_bytes, call.id)
            call.uncredited_bytes = 0
            self._writer.unpark()
