"""Requests and responses, the limits of a server, and the checks of a request before it reaches a handler."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import h11
import trio

from trio_grpc.net import Networks, is_in, peer_at

_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
_AUTHORITY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")

Relayed = Callable[[trio.SocketStream, float], Awaitable[int]]
"""A piece of a body that sends itself to the client, who has that many seconds for each 64 KiB on average.

Returns the number of bytes. Raises trio.BrokenResourceError if the client leaves or is too slow. Over TLS it is not
called: the body yields these bytes in its next windows.
"""
_FORWARDED = re.compile(r"\[([^]]+)\](?::[0-9]+)?|([^:]+)(?::[0-9]+)?|(.+)")  # some proxies add the port
_FRAMING = frozenset({b"transfer-encoding", b"content-length", b"host", b"expect"})
_PIECE_BYTES = 64 << 10  # a client must take so many within the timeout
_LINGER_S = 1.0
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, with a timeout of 0


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits for one client, and for all together."""

    max_connections: int = 1000
    max_connections_per_peer: int = 500
    proxies: Networks = ()
    """Where proxies connect from: each of their connections is a peer of its own, and their ``X-Forwarded-For`` names
    the peer of a request."""
    max_head_bytes: int = 16 << 10
    """Maximum bytes of a request's header fields and target."""
    max_head_fields: int = 100
    max_body_bytes: int = 64 << 10
    """Maximum body of a request that can have one."""
    handshake_timeout_s: float = 10.0
    """For the TLS handshake."""
    head_timeout_s: float = 10.0
    """For a request's head, once it has begun."""
    body_timeout_s: float = 30.0
    """For a request's body."""
    keep_alive_s: float = 75.0
    """For the next request to begin."""
    write_timeout_s: float = 30.0
    """For the client to take 64 KiB of a response."""
    half_closed_s: float = 30.0
    """For the response to a client that has closed its side. It may have left as well."""


class BodyLost(Exception):
    """A response body cannot continue. The connection is reset, so that no client takes the body for complete."""


class RequestRefused(Exception):
    """The request gets this status without a handler, and the connection ends."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path`` is as sent, not decoded; ``query`` is None without a question mark."""

    method: str
    path: str
    query: str | None
    headers: Mapping[str, str]
    """By their names in lower case. Several lines of one name are one value, joined by commas (RFC 9110, 5.3), or by
    semicolons if they are cookies (RFC 9113, 8.2.3)."""
    peer: str
    """An IPv4 address or IPv6 network: where the connection comes from, or whom a proxy names."""
    read_body: Callable[[], Awaitable[bytes]]
    """Read the whole body, at most once. A client that waits for ``100 Continue`` gets it now."""
    is_proxied: bool = False
    """Whether the connection comes from a trusted proxy."""


class Body(Protocol):
    """A body that is produced while it is sent."""

    @property
    def length_bytes(self) -> int | None:
        """The length, if known. If the body has another length, the connection is reset."""

    def windows(self) -> AsyncGenerator[bytes | bytearray | memoryview | Relayed, None]:
        """Yield the bytes, piece by piece. The next piece is requested after the client's socket has accepted the last
        one.

        A piece is not used after that.
        """

    def close(self) -> None:
        """Called once, however the response ends."""


@dataclass(slots=True)
class Response:
    """The result of a handler. The server adds ``Date``, ``Connection`` and, if known, ``Content-Length``."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Body = b""


def target_of(request: h11.Request) -> tuple[str, str | None]:
    """Return path and query of the request's target, in any of its four forms (RFC 9112, 3.2)."""
    target = request.target
    if request.method == b"CONNECT":
        raise RequestRefused(405)
    if target == b"*":
        raise RequestRefused(404)
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not absolute[1] or not _AUTHORITY.fullmatch(absolute[1]):
            raise RequestRefused(400)
        target = absolute[2]
        if not target.startswith(b"/"):
            target = b"/" + target
    if b"#" in target:
        raise RequestRefused(400)
    path, mark, query = target.decode("ascii").partition("?")
    return path, query if mark else None


def check(head: h11.Request, limits: HttpLimits) -> None:
    """Raise `RequestRefused` for a request that must not reach a handler. h11 has already refused others."""
    if head.http_version not in (b"1.0", b"1.1"):
        raise RequestRefused(505)
    size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
    if size > limits.max_head_bytes or len(head.headers) > limits.max_head_fields:
        raise RequestRefused(431)
    values = {name: value for name, value in head.headers if name in _FRAMING}
    if b"transfer-encoding" in values:
        raise RequestRefused(411)  # a body of unknown length
    length = int(values.get(b"content-length", b"0"))  # h11 has checked that it is one number
    if length and head.method in (b"GET", b"HEAD"):
        raise RequestRefused(400)  # it means nothing there (RFC 9110, 9.3.1), but caches and proxies disagree about it
    if length > limits.max_body_bytes:
        raise RequestRefused(413)
    if not _AUTHORITY.fullmatch(values.get(b"host", b"")):
        raise RequestRefused(400)
    if head.http_version == b"1.1" and values.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise RequestRefused(417)


def decoded(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the fields of h11, whose names are in lower case, in the form of `Request`."""
    headers: dict[str, str] = {}
    for name, value in lines:
        key, text = name.decode("ascii"), value.decode("latin-1")
        separator = "; " if key == "cookie" else ", "
        headers[key] = f"{headers[key]}{separator}{text}" if key in headers else text
    return headers


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return fields in the form of h11."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def client_behind(forwarded: str, peer: str, proxies: Networks) -> str:
    """Return the peer that ``X-Forwarded-For`` names, as a proxy at ``peer`` sent it.

    Each proxy appends the address that it was called from, so this is the last one that is not a proxy's own. What
    stands before it comes from the client. Without such an address it is the proxy.
    """
    for each in reversed(forwarded.split(",")):
        match = _FORWARDED.fullmatch(each.strip())
        try:
            host = "" if match is None else match[1] or match[2] or match[3]
            if not is_in(host, proxies):
                return peer_at(host)
        except ValueError:  # no address
            return peer
    return peer


async def send_steadily(stream: trio.SocketStream, pieces: Sequence[bytes | memoryview], timeout_s: float) -> bool:
    """Send everything. Return False if the client leaves, or takes longer than this for 64 KiB.

    A client that reads steadily may take any time for the whole. Pieces are neither copied nor joined. After a cancel,
    or after False, close the stream, because its state is unknown.
    """
    left = [memoryview(piece) for piece in pieces if piece]
    taken = 0
    try:
        if _forget(left, _send_now(stream, left)):
            await trio.lowlevel.checkpoint()  # the usual case, without a wait
            return True
        with trio.move_on_after(timeout_s) as slow:
            while left:
                await trio.lowlevel.wait_writable(stream.socket)
                sent = _send_now(stream, left)
                taken += sent
                if taken >= _PIECE_BYTES:
                    taken = 0
                    slow.deadline = trio.current_time() + timeout_s
                _forget(left, sent)
    except (OSError, trio.ClosedResourceError):
        return False
    return not slow.cancelled_caught


def _send_now(stream: trio.SocketStream, left: list[memoryview]) -> int:
    try:
        return os.writev(stream.socket.fileno(), left)
    except BlockingIOError:
        return 0


def _forget(left: list[memoryview], sent: int) -> bool:
    """Drop what was sent. Return whether nothing is left."""
    while left and sent >= len(left[0]):
        sent -= len(left.pop(0))
    if sent:
        left[0] = left[0][sent:]
    return not left


def reset_at_close(stream: trio.SocketStream) -> None:
    """Make the close reset the connection, so that an incomplete response does not look complete."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


async def linger(stream: trio.SocketStream) -> None:
    """End our side, and give the client a second to read the rest. A close with unread input would discard it.

    See RFC 9112, 9.6. Close the stream afterwards.
    """
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError), trio.move_on_after(_LINGER_S):
        await stream.send_eof()
        while await stream.receive_some(_PIECE_BYTES):
            pass
