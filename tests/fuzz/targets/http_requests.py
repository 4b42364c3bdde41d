"""Requests over HTTP/1.1 against the origin's port: good ones, pipelined, cut, mutated."""

from __future__ import annotations

import random

from tests.fuzz.live.attack import attack
from tests.fuzz.mutation import mutated
from tests.fuzz.session import Target

_ID = b"0" * 64
_TARGETS = (
    b"/media/" + _ID,
    b"/thumbnail/small/" + _ID,
    b"/thumbnail/huge/" + _ID,
    b"/media/" + b"1" * 64,
    b"/media/01ARZ3NDEKTSV4RRFFQ69G5FAV",
    b"/media/..%2f..%2fetc%2fpasswd",
    b"/media/%00",
    b"/media/" + b"A" * 5000,
    b"/media/%ff%fe",
    b"http://origin/media/" + _ID,
    b"//media//" + _ID,
    b"/",
    b"*",
    b"/media/" + _ID + b"?x=" + b"y" * 100,
)
_FIELDS = (
    b"Range: bytes=0-9",
    b"Range: bytes=-5",
    b"Range: bytes=5-1",
    b"Range: bytes=99999999999999999999-",
    b"Range: bytes=0-1,3-4",
    b"Range: lines=1-2",
    b'If-None-Match: "etag"',
    b"If-None-Match: *",
    b'If-None-Match: W/"a", "b',
    b"If-Modified-Since: Wed, 01 Jan 2025 00:00:00 GMT",
    b"If-Modified-Since: Wed, 01 Jan 2025 00:00:00 +99999999999999999999",
    b"If-Modified-Since: nonsense",
    b'If-Range: "etag"',
    b"If-Range: Wed, 01 Jan 2025 00:00:00 GMT",
    b"If-Range: Wed, 01 Jan 20252025202520252025 00:00:00 GMT",
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"Host: other",
    b"X: " + b"x" * 9000,
    b"Cookie: a=b",
    b"X-\xe9: \xe9",
)
_METHODS = (b"GET",) * 12 + (b"HEAD", b"HEAD", b"POST", b"OPTIONS", b"PRI", b"get", b"CONNECT")


def _request(chance: random.Random) -> bytes:
    fields = [b"Host: origin", *chance.choices(_FIELDS, k=chance.choice((0, 0, 1, 1, 2, 5)))]
    if chance.random() < 0.02:
        fields += [b"X-%d: 1" % number for number in range(300)]
    version = chance.choice((b"1.1",) * 12 + (b"1.0", b"2.0", b"0.9"))
    line = chance.choice(_METHODS) + b" " + chance.choice(_TARGETS) + b" HTTP/" + version
    body = chance.choice((b"", b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"))
    return b"\r\n".join((line, *fields, b"", b"")) + body


def _connection(chance: random.Random) -> list[bytes]:
    data = b"".join(_request(chance) for _ in range(chance.choice((1, 1, 2, 5, 50))))
    if chance.random() < 0.3:
        data = mutated([data], chance, 1 << 20)
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)]
    size = chance.choice((1 << 20, 1 << 20, 1000, 50, 3))
    return [data[at : at + size] for at in range(0, len(data), size)][:200]


TARGET = Target("http-requests", lambda session: attack(session, "http", _connection), weight=2.0)
