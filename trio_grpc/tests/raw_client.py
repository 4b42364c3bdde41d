"""A tiny HTTP/2 client that checks nothing and forbids nothing: for frames that no decent client sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from google.protobuf.message import Message
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from trio_grpc.frames import PREFACE

Headers = list[tuple[str, str]]
REQUEST: Headers = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/avion.test.Echo/Say"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def request_headers(**changed: str | None) -> Headers:
    """The headers of a call of Say, changed or (None) without some; ``_x`` stands for ``:x``, ``_`` else for ``-``."""
    headers = dict(REQUEST)
    for key, value in changed.items():
        name = ":" + key[1:] if key.startswith("_") else key.replace("_", "-")
        if value is None:
            headers.pop(name)
        else:
            headers[name] = value
    return list(headers.items())


def message(request: Message | bytes, flag: int = 0) -> bytes:
    """A message in gRPC's framing."""
    payload = request if isinstance(request, bytes) else request.SerializeToString()
    return bytes([flag]) + len(payload).to_bytes(4, "big") + payload


@dataclass
class RawClient:
    """``frames`` are all that came, in order; header blocks are decoded into ``headers`` by stream."""

    stream: trio.SocketStream
    frames: list[Frame] = field(default_factory=list)
    headers: dict[int, list[Headers]] = field(default_factory=dict)
    ended: bool = False
    answer_settings: bool = True
    _buffer: bytearray = field(default_factory=bytearray)
    _encoder: Encoder = field(default_factory=Encoder)
    _decoder: Decoder = field(default_factory=Decoder)

    async def send(self, *pieces: Frame | bytes) -> None:
        """Send frames or bytes in one write. That the server has closed meanwhile is seen when reading."""
        data = b"".join(_bytes_of(piece) for piece in pieces)
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    def head(self, stream_id: int, headers: Headers | None = None, *, end: bool = False) -> HeadersFrame:
        """A HEADERS frame."""
        block = self._encoder.encode(REQUEST if headers is None else headers)
        frame = HeadersFrame(stream_id, block, flags=["END_HEADERS"])
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def call(self, stream_id: int, request: Message, headers: Headers | None = None) -> bytes:
        """A whole unary request."""
        frames: list[Frame] = [self.head(stream_id, headers), data(stream_id, message(request), end=True)]
        return b"".join(frame.serialize() for frame in frames)

    async def read_until(self, condition: Callable[[RawClient], object]) -> None:
        """Read until the condition holds; fails when the connection ends before."""
        while not condition(self):
            assert not self.ended, f"the connection ended after {self.frames}"
            await self._read()

    async def read_to_end(self) -> None:
        """Read until the server closes."""
        while not self.ended:
            await self._read()

    async def _read(self) -> None:
        try:
            received = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError:
            received = b""
        self.ended = not received
        self._buffer += received
        while len(self._buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(bytes(self._buffer[:9])))
            if len(self._buffer) < 9 + length:
                return
            frame.parse_body(memoryview(bytes(self._buffer[9 : 9 + length])))
            del self._buffer[: 9 + length]
            await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        if isinstance(frame, HeadersFrame):
            decoded = [(str(name), str(value)) for name, value in self._decoder.decode(frame.data)]
            self.headers.setdefault(frame.stream_id, []).append(decoded)
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags and self.answer_settings:
            await self.send(SettingsFrame(0, flags=["ACK"]))

    # -- What came

    def of(self, kind: type[Frame]) -> list[Frame]:
        """The frames of one kind."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    @property
    def goaways(self) -> list[GoAwayFrame]:
        """All GOAWAY frames."""
        return [frame for frame in self.frames if isinstance(frame, GoAwayFrame)]

    def resets(self) -> dict[int, int]:
        """Error codes of RST_STREAM by stream."""
        return {frame.stream_id: frame.error_code for frame in self.frames if isinstance(frame, RstStreamFrame)}

    def status(self, stream_id: int) -> str | None:
        """The ``grpc-status`` of a call that has ended."""
        for headers in self.headers.get(stream_id, ()):
            if "grpc-status" in dict(headers):
                return dict(headers)["grpc-status"]
        return None

    def body(self, stream_id: int) -> bytes:
        """All data of a call."""
        frames = [frame for frame in self.frames if isinstance(frame, DataFrame) and frame.stream_id == stream_id]
        return b"".join(bytes(frame.data) for frame in frames)


def _bytes_of(piece: Frame | bytes) -> bytes:
    return piece if isinstance(piece, bytes) else bytes(Frame.serialize(piece))


def data(stream_id: int, body: bytes = b"", *, end: bool = False) -> DataFrame:
    """A DATA frame."""
    return DataFrame(stream_id, body, flags=["END_STREAM"] if end else [])


def reset(stream_id: int, code: int = 8) -> RstStreamFrame:
    """A RST_STREAM frame; CANCEL by default."""
    return RstStreamFrame(stream_id, code)


def window_update(stream_id: int, increment: int) -> WindowUpdateFrame:
    """A WINDOW_UPDATE frame."""
    return WindowUpdateFrame(stream_id, increment)


def settings(values: dict[int, int] | None = None) -> SettingsFrame:
    """A SETTINGS frame."""
    return SettingsFrame(0, values or {})


def pings(count: int) -> Iterable[PingFrame]:
    """PING frames."""
    return (PingFrame(0, number.to_bytes(8, "big")) for number in range(count))


@asynccontextmanager
async def raw_client(
    port: int, values: dict[int, int] | None = None, *, preface: bool = True, local_address: str | None = None
) -> AsyncIterator[RawClient]:
    """A connection, after the preface and SETTINGS."""
    async with await trio.open_tcp_stream("127.0.0.1", port, local_address=local_address) as stream:
        client = RawClient(stream)
        if preface:
            await client.send(PREFACE, settings(values))
            await client.read_until(lambda seen: seen.of(SettingsFrame))
        yield client
