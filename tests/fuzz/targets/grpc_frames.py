"""Sequences of HTTP/2 frames against the gRPC port: mostly right, often at the edge, sometimes not frames at all."""

from __future__ import annotations

import random
from collections.abc import Callable

from hpack import Encoder

from tests.fuzz.live.attack import attack
from tests.fuzz.mutation import mutated
from tests.fuzz.session import Target
from tests.interop.wire import echo_pb2 as wire
from trio_grpc.frames import PREFACE

_PATHS = [
    "/avion.test.Echo/Say",
    "/avion.test.Echo/Repeat",
    "/avion.test.Echo/Collect",
    "/avion.test.Echo/Chat",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/nobody/Nothing",
    "",
]
_ODD_HEADERS = [
    ("grpc-timeout", "10m"),
    ("grpc-timeout", "x"),
    ("grpc-encoding", "gzip"),
    ("te", "gzip"),
    ("connection", "close"),
    ("x-bin", "?"),
    ("Upper", "case"),
    (":path", "/again"),
    ("content-length", "3"),
    ("content-type", "text/plain"),
    ("x", "a\r\nb"),
    ("x", "y" * 5000),
]
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    range(10)
)
_EDGES = (0, 1, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


class _Talk:
    """One connection as an attacker makes it up."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._encoder = Encoder()
        self._next_stream = 1

    def pieces(self) -> list[bytes]:
        """Everything that is sent, in pieces."""
        chance = self._chance
        frames = [PREFACE, frame(_SETTINGS, 0, 0, self._settings())]
        for _ in range(chance.choice((1, 5, 20, 100, 500))):
            make = chance.choice(self._makers)
            frames += [make(self)] * (chance.choice((2, 30, 300)) if chance.random() < 0.05 else 1)
        data = b"".join(frames)
        if chance.random() < 0.3:
            data = mutated([data], chance, 1 << 20)
        return _cut(data, chance)

    def _stream(self) -> int:
        """Of a call that may exist, or never did."""
        odd = max(self._next_stream - 2 * self._chance.randint(1, 8), 1)
        return odd if self._chance.random() < 0.95 else self._chance.choice((0, 2, 2**31 - 1))

    def _settings(self) -> bytes:
        chosen = [(self._chance.randint(0, 9), self._chance.choice(_EDGES)) for _ in range(self._chance.randint(0, 3))]
        if self._chance.random() < 0.7:  # most are possible, or the talk ends here
            chosen = [(4, self._chance.choice((0, 10, 65_535, 2**31 - 1)))]
        return b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in chosen)

    def _settings_frame(self) -> bytes:
        return frame(_SETTINGS, self._chance.choice((0, 0, 1)), 0, self._settings())

    def _headers(self) -> bytes:
        chance = self._chance
        headers = [
            (":method", "POST" if chance.random() < 0.95 else "GET"),
            (":scheme", "http"),
            (":path", chance.choice(_PATHS)),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        if chance.random() < 0.2:
            headers.insert(chance.randint(0, len(headers)), chance.choice(_ODD_HEADERS))
        block = self._encoder.encode(headers)
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        if chance.random() < 0.1 and len(block) > 1:
            at = chance.randrange(len(block))
            return frame(_HEADERS, 0, stream, block[:at]) + frame(_CONTINUATION, 4, stream, block[at:])
        return frame(_HEADERS, chance.choice((4, 4, 4, 5, 0)), stream, block)

    def _call(self) -> bytes:
        return self._headers() + frame(_DATA, 1, self._next_stream - 2, self._message())

    def _message(self) -> bytes:
        chance = self._chance
        behaviour = chance.choice(("", "", "hang", "fail", "refuse"))
        request = wire.EchoRequest(text="x", behaviour=behaviour, count=chance.randint(1, 10))
        request.response_bytes = chance.choice((0, 10, 1000, 10_000))
        payload = request.SerializeToString() if chance.random() < 0.9 else chance.randbytes(20)
        length = len(payload) if chance.random() < 0.95 else chance.choice(_EDGES)
        return bytes([chance.random() < 0.03]) + length.to_bytes(4, "big") + payload

    def _data(self) -> bytes:
        chance = self._chance
        body = chance.choice((b"", self._message(), self._message()[:3], bytes(chance.choice((1, 1000, 16_384)))))
        if chance.random() < 0.1:
            return frame(_DATA, 8, self._stream(), bytes([chance.randrange(256)]) + body)
        return frame(_DATA, chance.choice((0, 0, 1)), self._stream(), body)

    def _window_update(self) -> bytes:
        stream = self._chance.choice((0, self._stream()))
        return frame(_WINDOW_UPDATE, 0, stream, self._chance.choice((*_EDGES, 1000)).to_bytes(4, "big"))

    def _reset(self) -> bytes:
        return frame(_RST_STREAM, 0, self._stream(), self._chance.randint(0, 20).to_bytes(4, "big"))

    def _ping(self) -> bytes:
        return frame(_PING, self._chance.choice((0, 1)), 0, bytes(8))

    def _priority(self) -> bytes:
        return frame(_PRIORITY, 0, self._stream(), self._chance.choice(_EDGES).to_bytes(4, "big") + b"\x10")

    def _goaway(self) -> bytes:
        return frame(_GOAWAY, 0, 0, bytes(8)) if self._chance.random() < 0.1 else self._ping()

    def _nonsense(self) -> bytes:
        chance = self._chance
        kind = chance.choice((*range(12), 0xEE, _PUSH_PROMISE))
        return frame(kind, chance.randrange(256), self._stream(), chance.randbytes(chance.choice((0, 1, 4, 8, 30))))

    _makers: tuple[Callable[[_Talk], bytes], ...] = (
        _call,
        _call,
        _call,
        _headers,
        _data,
        _data,
        _window_update,
        _window_update,
        _reset,
        _ping,
        _priority,
        _settings_frame,
        _goaway,
    ) * 3 + (_nonsense,)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame, whatever it may mean."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _cut(data: bytes, chance: random.Random) -> list[bytes]:
    size = chance.choice((1 << 20, 1 << 20, 16_384, 1000, 50))
    return [data[at : at + size] for at in range(0, len(data), size)][:500]


TARGET = Target(
    "grpc-frames", lambda session: attack(session, "grpc", lambda chance: _Talk(chance).pieces()), weight=4.0
)
