"""HTTP/2 for a server, by the library nghttp2: frames, HPACK, the states of streams, flow control. No I/O.

The declarations are those of nghttp2.h; decision 0001 says why it is this library. What it finds in the bytes goes to
a receiver, which may answer at once, but must not call `Session.send` then.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from cffi import FFI

from trio_grpc.frames import ACK, DATA, END_STREAM, HEADERS, PING, RST_STREAM, WINDOW_UPDATE
from trio_grpc.limits import GrpcLimits
from trio_grpc.status import Headers

DEFERRED: Final = -508
"""From ``next_data``: nothing to send until `Session.resume`."""
PAUSED: Final = -526
"""From ``next_data``: no DATA of any stream until the next `Session.send`."""
_NO_MORE_OF_THIS_BLOCK, _CALLBACK_FAILURE, _BAD_PREFACE = -521, -902, -903
_CONNECTION_WINDOW = 1 << 20
STREAMS_BEFORE_SETTINGS = 200  # clients learn our limit only from the first SETTINGS
_FIELD_OVERHEAD_BYTES = 32  # of a header list's size (RFC 9113, 6.5.2)
_UNLIMITED = 1 << 31  # `frames.COSTS` has the prices of these frames
_EOF_AND_TRAILERS = 0x3

_FFI: Any = FFI()
_FFI.cdef("""
typedef ... nghttp2_session;
typedef ... nghttp2_session_callbacks;
typedef ... nghttp2_option;
typedef struct { size_t length; int32_t stream_id; uint8_t type, flags, reserved; } nghttp2_frame_hd;
typedef struct { nghttp2_frame_hd hd; uint8_t opaque_data[8]; } nghttp2_frame;  /* of the union, the PING */
typedef struct { const char *name, *value; size_t namelen, valuelen; uint8_t flags; } nghttp2_nv;
typedef struct { int32_t settings_id; uint32_t value; } nghttp2_settings_entry;
typedef ptrdiff_t (*read_callback)(nghttp2_session *, int32_t, char *, size_t, uint32_t *, void *, void *);
typedef struct { void *source; read_callback read; } nghttp2_data_provider;
int nghttp2_session_callbacks_new(nghttp2_session_callbacks **);
int nghttp2_option_new(nghttp2_option **);
void nghttp2_option_set_no_auto_window_update(nghttp2_option *, int);
void nghttp2_option_set_max_continuations(nghttp2_option *, size_t);
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t);
int nghttp2_session_server_new2(
    nghttp2_session **, const nghttp2_session_callbacks *, void *, const nghttp2_option *);
void nghttp2_session_del(nghttp2_session *);
ptrdiff_t nghttp2_session_mem_recv(nghttp2_session *, const char *, size_t);
ptrdiff_t nghttp2_session_mem_send(nghttp2_session *, const char **);
int nghttp2_session_set_local_window_size(nghttp2_session *, uint8_t, int32_t, int32_t);
int nghttp2_session_consume_connection(nghttp2_session *, size_t);
int nghttp2_session_consume_stream(nghttp2_session *, int32_t, size_t);
int32_t nghttp2_session_get_stream_remote_window_size(nghttp2_session *, int32_t);
int nghttp2_session_resume_data(nghttp2_session *, int32_t);
int nghttp2_submit_settings(nghttp2_session *, uint8_t, const nghttp2_settings_entry *, size_t);
int nghttp2_submit_response(
    nghttp2_session *, int32_t, const nghttp2_nv *, size_t, const nghttp2_data_provider *);
int nghttp2_submit_trailer(nghttp2_session *, int32_t, const nghttp2_nv *, size_t);
int nghttp2_submit_rst_stream(nghttp2_session *, uint8_t, int32_t, uint32_t);
int nghttp2_submit_ping(nghttp2_session *, uint8_t, const char *);
const char *nghttp2_strerror(int);
""")
try:
    _LIB: Any = _FFI.dlopen("libnghttp2.so.14")
except OSError as _error:
    raise ImportError("libnghttp2 is missing (Debian and Ubuntu: apt install libnghttp2-14)") from _error
_of = _FFI.from_handle
_bytes = _FFI.unpack
_raised: list[BaseException] = []  # by a receiver, on its way through the library


class ErrorCode(IntEnum):
    """Codes of RFC 9113, 7, that the server sends by itself."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    REFUSED_STREAM = 7
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11


@lru_cache
def _settings(max_streams: int, max_header_list_bytes: int) -> tuple[Any, ...]:
    """Return the server's settings for the library, and which bytes of its frame to replace by which."""
    # MAX_CONCURRENT_STREAMS (3), MAX_HEADER_LIST_SIZE (6), NO_RFC7540_PRIORITIES (9). The library ends a connection
    # with more streams than it knows of. So it gets a higher number, and the receiver refuses the surplus.
    tolerated = max_streams + STREAMS_BEFORE_SETTINGS
    settings = _FFI.new("nghttp2_settings_entry[]", [(3, tolerated), (6, max_header_list_bytes), (9, 1)])
    return settings, *(b"\0\3" + each.to_bytes(4, "big") for each in (tolerated, max_streams))


class Session:
    """The server's side of one connection.

    It calls these methods of the receiver, in the order of the frames:

    - ``headers_received(stream_id, headers)``: a request, or trailers of one. They conform to RFC 9113, 8.
    - ``data_received(stream_id, data, is_last=…)``: a whole DATA frame, in the stream's window until `consume`.
    - ``request_ended``, ``reset_received``, ``window_updated(stream_id)``: the last with 0 for the connection.
    - ``acknowledged(data)``: the client has answered a ping with this data; empty data: it knows our settings.
    - ``frame_refused(stream_id, fields)``: an invalid frame, after so many fields. Its stream or the connection ends.
    - ``stream_closed(stream_id, code)``: a stream has ended. A code other than 0 says that it was reset.
    - ``next_data(stream_id, room)``: returns at most so many bytes of a response, and the trailers after the last ones
      or None; otherwise DEFERRED or PAUSED.
    """

    def __init__(self, receiver: Any, limits: GrpcLimits) -> None:
        self.receiver = receiver
        self.headers: list[tuple[bytes, bytes]] = []  # of the block that arrives
        self.list_bytes = 0  # of them, as RFC 9113, 6.5.2 counts
        self.data, self.data_of = b"", 0  # of the DATA frame that arrives, and its stream
        self.max_header_list_bytes = limits.max_header_list_bytes
        self._handle = _FFI.new_handle(self)
        pointer = _FFI.new("nghttp2_session **")
        if _LIB.nghttp2_session_server_new2(pointer, _CALLBACKS, self._handle, _OPTION):
            raise MemoryError
        self._session = _FFI.gc(pointer[0], _LIB.nghttp2_session_del)
        self._frame = _FFI.new("const char **")
        settings, known, announced = _settings(limits.max_streams, limits.max_header_list_bytes)
        _LIB.nghttp2_submit_settings(self._session, 0, settings, len(settings))
        _LIB.nghttp2_session_set_local_window_size(self._session, 0, 0, _CONNECTION_WINDOW)
        self.first_frames = (self.send() + self.send()).replace(known, announced, 1)

    def receive(self, data: bytes) -> tuple[str, ErrorCode] | None:
        """Take in bytes that were read. Return why the connection must end at once, if it must.

        If the library finds an error of the connection itself, the next frame to `send` is its GOAWAY.
        """
        result = _LIB.nghttp2_session_mem_recv(self._session, data, len(data))
        if _raised:
            raise _raised.pop()
        if self.list_bytes > self.max_header_list_bytes:
            return "a header list beyond the announced size", ErrorCode.ENHANCE_YOUR_CALM
        if result == _BAD_PREFACE:
            return "not the preface of HTTP/2", ErrorCode.PROTOCOL_ERROR
        if result < 0:
            return _FFI.string(_LIB.nghttp2_strerror(result)).decode(), ErrorCode.ENHANCE_YOUR_CALM
        return None

    def send(self) -> bytes:
        """Return the next frame to write; empty if there is none, or none that the windows allow."""
        length = _LIB.nghttp2_session_mem_send(self._session, self._frame)
        if _raised:
            raise _raised.pop()
        return _bytes(self._frame[0], length) if length > 0 else b""

    def respond(self, stream_id: int, headers: Headers, *, is_whole: bool) -> None:
        """Begin a response, whose DATA ``next_data`` returns; or send one that has only headers."""
        fields, count, _ = _fields(headers)
        _LIB.nghttp2_submit_response(self._session, stream_id, fields, count, _FFI.NULL if is_whole else _PROVIDER)

    def resume(self, stream_id: int) -> None:
        """Ask ``next_data`` again, which deferred."""
        _LIB.nghttp2_session_resume_data(self._session, stream_id)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream. What it still had to send is dropped."""
        _LIB.nghttp2_submit_rst_stream(self._session, 0, stream_id, code)

    def ping(self, data: bytes) -> None:
        """Send a ping of eight bytes."""
        _LIB.nghttp2_submit_ping(self._session, 0, data)

    def consume(self, stream_id: int, count: int) -> None:
        """Give the client back so much of a stream's window, once it is half of it."""
        _LIB.nghttp2_session_consume_stream(self._session, stream_id, count)

    def window(self, stream_id: int) -> int:
        """How much can be sent on a stream, as far as its own window allows."""
        return int(_LIB.nghttp2_session_get_stream_remote_window_size(self._session, stream_id))


@lru_cache(maxsize=256)
def _fields(headers: Headers) -> tuple[Any, int, Headers]:
    """Return headers as the library takes them; it copies them. The last element keeps their memory."""
    fields = _FFI.new("nghttp2_nv[]", len(headers))
    kept = tuple((_FFI.from_buffer(name), _FFI.from_buffer(value)) for name, value in headers)
    for field, (name, value) in zip(fields, kept, strict=True):
        field.name, field.value, field.namelen, field.valuelen = name, value, len(name), len(value)
    return fields, len(headers), kept


def _new(kind: str) -> Any:
    pointer = _FFI.new(f"{kind} **")
    if getattr(_LIB, f"{kind}_new")(pointer):
        raise MemoryError
    return pointer[0]


_OPTION = _new("nghttp2_option")
_LIB.nghttp2_option_set_no_auto_window_update(_OPTION, 1)
_LIB.nghttp2_option_set_max_continuations(_OPTION, _UNLIMITED)
_LIB.nghttp2_option_set_stream_reset_rate_limit(_OPTION, _UNLIMITED, _UNLIMITED)


# -- What the library calls. An exception ends the connection, and is raised by `Session.receive` or `send`.

_CALLBACKS = _new("nghttp2_session_callbacks")
_kept: list[Any] = []  # what the library has a pointer to


def _callback(kind: str, function: Callable[..., int]) -> Any:
    def note(_kind: type[BaseException], error: BaseException, _traceback: object) -> None:
        _raised.append(error)

    _kept.append(_FFI.callback(kind, function, error=_CALLBACK_FAILURE, onerror=note))
    return _kept[-1]


def _on(event: str, *arguments: str) -> Callable[[Callable[..., int]], None]:
    def register(function: Callable[..., int]) -> None:
        kind = f"int (*)(nghttp2_session *, {', '.join(arguments)}, void *)"
        setter = f"nghttp2_session_callbacks_set_on_{event}_callback"
        _FFI.cdef(f"typedef {kind[:6]}{event}{kind[6:]}; void {setter}(nghttp2_session_callbacks *, {event});")
        getattr(_LIB, setter)(_CALLBACKS, _callback(kind, function))

    return register


@_on("begin_headers", "const nghttp2_frame *")
def _begin_headers(_: Any, __: Any, handle: Any) -> int:
    session = _of(handle)
    session.headers = []
    session.list_bytes = 0
    return 0


@_on("header", "const nghttp2_frame *", "const char *", "size_t", "const char *", "size_t", "uint8_t")
def _header(_: Any, __: Any, name: Any, name_bytes: int, value: Any, value_bytes: int, ___: int, handle: Any) -> int:
    session = _of(handle)
    session.list_bytes += name_bytes + value_bytes + _FIELD_OVERHEAD_BYTES
    if session.list_bytes > session.max_header_list_bytes:
        return _NO_MORE_OF_THIS_BLOCK
    session.headers.append((_bytes(name, name_bytes), _bytes(value, value_bytes)))
    return 0


@_on("data_chunk_recv", "uint8_t", "int32_t", "const char *", "size_t")
def _data_chunk(_: Any, __: int, stream_id: int, data: Any, length: int, handle: Any) -> int:
    session = _of(handle)
    # At once, so that a handler that does not read does not stall other calls.
    _LIB.nghttp2_session_consume_connection(session._session, length)
    begun = session.data if session.data_of == stream_id else b""  # else that stream was reset within its frame
    session.data, session.data_of = begun + _bytes(data, length), stream_id
    return 0


@_on("frame_recv", "const nghttp2_frame *")
def _frame(_: Any, frame: Any, handle: Any) -> int:
    session = _of(handle)
    receiver = session.receiver
    kind, flags, stream_id = frame.hd.type, frame.hd.flags, frame.hd.stream_id
    if kind == DATA:
        data = session.data if session.data_of == stream_id else b""
        session.data_of = 0
        receiver.data_received(stream_id, data, is_last=bool(flags & END_STREAM))
    elif kind == HEADERS:
        receiver.headers_received(stream_id, tuple(session.headers))
    elif kind == WINDOW_UPDATE:
        receiver.window_updated(stream_id)
    elif kind == RST_STREAM:
        receiver.reset_received(stream_id)
    elif flags & ACK:
        receiver.acknowledged(bytes(frame.opaque_data) if kind == PING else b"")
    if kind <= HEADERS and flags & END_STREAM:
        receiver.request_ended(stream_id)
    return 0


@_on("invalid_frame_recv", "const nghttp2_frame *", "int")
def _invalid_frame(_: Any, frame: Any, __: int, handle: Any) -> int:
    session = _of(handle)
    session.receiver.frame_refused(frame.hd.stream_id, len(session.headers))
    return 0


@_on("stream_close", "int32_t", "uint32_t")
def _stream_close(_: Any, stream_id: int, code: int, handle: Any) -> int:
    _of(handle).receiver.stream_closed(stream_id, code)
    return 0


def _read(library: Any, stream_id: int, target: Any, room: int, flags: Any, _: Any, handle: Any) -> int:
    answer = _of(handle).receiver.next_data(stream_id, room)
    if isinstance(answer, int):
        return answer
    data, trailers = answer
    _FFI.memmove(target, data, len(data))
    if trailers is not None:
        flags[0] = _EOF_AND_TRAILERS
        fields, count, _ = _fields(trailers)
        _LIB.nghttp2_submit_trailer(library, stream_id, fields, count)
    return len(data)


_PROVIDER = _FFI.new("nghttp2_data_provider *", {"read": _callback("read_callback", _read)})
