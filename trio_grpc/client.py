"""A client: calls over one connection.

h2 has the protocol (bytes in, events out). Two tasks read and write for all calls, so that a call that is cancelled
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

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from google.protobuf.message import DecodeError

from trio_grpc.frames import GOAWAY
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
_CONNECTION_WINDOW_BYTES = 1 << 20
_MAX_HEADER_LIST_BYTES = 16 << 10
_FRAME_HEAD_BYTES = 9
_MAX_FRAME_BYTES = 16 << 10  # SETTINGS_MAX_FRAME_SIZE that we announce
_HEADERS: Headers = ((b"te", b"trailers"), (b"content-type", b"application/grpc"), ACCEPTED_ENCODINGS)
_CODES_OF_RESETS: dict[int, Code] = {  # https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Errors"
    h2.errors.ErrorCodes.REFUSED_STREAM: Code.UNAVAILABLE,
    h2.errors.ErrorCodes.CANCEL: Code.CANCELLED,
    h2.errors.ErrorCodes.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    h2.errors.ErrorCodes.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
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
        self.news = trio.lowlevel.ParkingLot()  # two may wait: one for a response, one for room for a request
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
        self._rest = b""  # of what was read: a frame that is not complete
        self._uncredited_bytes = 0
        self._room_for_calls = trio.lowlevel.ParkingLot()
        self._writer = trio.lowlevel.ParkingLot()
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
                codes.MAX_HEADER_LIST_SIZE: _MAX_HEADER_LIST_BYTES,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - 65_535)
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
            with _before(deadline):
                while len(self._calls) >= self._h2.remote_settings.max_concurrent_streams and self.is_open:
                    await self._room_for_calls.park()
                call = self._begin((*self._pseudo, (b":path", path.encode()), *_HEADERS, *more))
                if isinstance(request, AsyncIterable):
                    self._nursery.start_soon(self._send_all, call, request)
                else:
                    await self._send(call, request, is_last=True)
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
            call = _Call(self._h2.get_next_available_stream_id())
        except h2.exceptions.NoAvailableStreamIDError:
            self._end_reason = "the connection has no more ids for calls"
            raise ConnectionEnded(self._end_reason) from None
        self._h2.send_headers(call.id, headers)
        self._calls[call.id] = call
        self._writer.unpark()
        return call

    def _finish(self, call: _Call) -> None:
        """Forget a call, and reset it unless both sides have ended it."""
        call.end(None)
        if call.sending is not None:
            call.sending.cancel()
        if self._calls.pop(call.id, None) is not None:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.reset_stream(call.id, h2.errors.ErrorCodes.CANCEL)
            self._writer.unpark()
            self._room_for_calls.unpark()

    async def _send(self, call: _Call, request: Any, *, is_last: bool) -> None:
        left = memoryview(framed(request.SerializeToString()))
        while left and not call.is_over:
            room = min(self._h2.local_flow_control_window(call.id), self._h2.max_outbound_frame_size)
            if room <= 0:
                await call.news.park()
                continue
            self._h2.send_data(call.id, bytes(left[:room]), end_stream=is_last and len(left) <= room)
            left = left[room:]
            self._writer.unpark()

    async def _send_all(self, call: _Call, requests: AsyncIterable[Any]) -> None:
        with trio.CancelScope() as call.sending:
            if call.is_over:
                return
            try:
                async for request in requests:
                    await self._send(call, request, is_last=False)
            except Exception as error:  # noqa: BLE001 - raised by the caller's iterable: the call raises it
                call.end(error)
            if not call.is_over:
                self._h2.end_stream(call.id)
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
            while True:
                if output := self._h2.data_to_send():
                    await self._stream.send_all(output)
                else:
                    await self._writer.park()

    async def _read(self) -> None:
        reason = "the server ended the connection"
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                for event in self._h2.receive_data(self._without_goaway(bytes(data))):
                    self._happened(event)
                self._writer.unpark()
        except trio.BrokenResourceError:
            reason = "the connection broke"
        except h2.exceptions.ProtocolError as error:
            reason = f"the server broke the protocol: {error}"
        self._over(self._end_reason or reason)

    def _over(self, reason: str) -> None:
        self._end_reason = self._end_reason or reason
        for call in self._calls.values():
            call.end(ConnectionEnded(reason))
        self._room_for_calls.unpark_all()

    def _without_goaway(self, data: bytes) -> bytes:
        """Return whole frames for h2. It would end all calls with a GOAWAY; but the first ones are still served."""
        data = self._rest + data
        kept, position = [], 0
        while len(data) >= position + _FRAME_HEAD_BYTES:
            length = int.from_bytes(data[position : position + 3], "big")
            end = position + _FRAME_HEAD_BYTES + length
            if length > _MAX_FRAME_BYTES:  # as when the server does not speak HTTP/2
                raise h2.exceptions.FrameTooLargeError(f"a frame of {length} bytes")
            if len(data) < end:
                break
            frame, position = data[position:end], end
            if frame[3] == GOAWAY and length >= 8:
                self._goes_away(frame[_FRAME_HEAD_BYTES:])
            else:
                kept.append(frame)
        self._rest = data[position:]
        return b"".join(kept)

    def _goes_away(self, payload: bytes) -> None:
        last_stream_id, code = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, int.from_bytes(payload[4:8], "big")
        reason = payload[8:].decode(errors="replace") or f"error {code}"
        self._end_reason = "the server is shutting down" if not code else f"the server ended the connection: {reason}"
        for call in self._calls.values():
            if call.id > last_stream_id:
                call.end(ConnectionEnded(self._end_reason))
        self._room_for_calls.unpark_all()

    def _happened(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self._room_for_calls.unpark_all()
        if isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            for each in self._calls.values():
                each.news.unpark_all()
        if isinstance(event, h2.events.DataReceived):
            self._uncredited_bytes += event.flow_controlled_length
            if self._uncredited_bytes >= _CONNECTION_WINDOW_BYTES / 2:
                self._h2.increment_flow_control_window(self._uncredited_bytes)
                self._uncredited_bytes = 0
        call = self._calls.get(getattr(event, "stream_id", None) or 0)
        if call is None or call.is_over:
            return
        try:
            self._happened_in(call, event)
        except RpcError as error:  # of a message that cannot be accepted
            call.end(CallError(error.code, error.message))

    def _happened_in(self, call: _Call, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            call.head = tuple(event.headers)
            if (error := http_error_in(call.head)) is not None:
                call.end(error)
            call.assembly = Assembly(self._max_message_bytes, is_gzip=GZIP_ENCODING in call.head)
        elif isinstance(event, h2.events.TrailersReceived):
            call.trailers = tuple(event.headers)
        elif isinstance(event, h2.events.DataReceived) and call.assembly is not None:
            call.uncredited_bytes += event.flow_controlled_length
            call.inbox.extend(call.assembly.feed(event.data))
            if call.inbox:
                call.news.unpark_all()
            else:
                self._credit(call)
        elif isinstance(event, h2.events.StreamEnded):
            is_cut = call.assembly is not None and not call.assembly.is_empty
            error = error_in(call.trailers or call.head or ())
            call.end(CallError(Code.INTERNAL, "the response ended within a message") if is_cut and not error else error)
        elif isinstance(event, h2.events.StreamReset):
            number = int(event.error_code or 0)
            call.end(
                CallError(_CODES_OF_RESETS.get(number, Code.INTERNAL), f"the server reset the call (error {number})")
            )

    def _credit(self, call: _Call) -> None:
        """Let the server send more of a response, once half of its window is used."""
        if not call.is_over and call.uncredited_bytes >= _STREAM_WINDOW_BYTES / 2:
            with suppress(h2.exceptions.ProtocolError):  # its end was read with the data, and comes as the next event
                self._h2.increment_flow_control_window(call.uncredited_bytes, call.id)
            call.uncredited_bytes = 0
            self._writer.unpark()
