"""Remote servers and name servers of the tests' own."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from guarded_fetch import AddressGuard, Admitted, Fetcher, FetchTimeouts, RemoteUrl
from guarded_fetch.dial import Resolve

Behaviour = Callable[[trio.abc.Stream, bytes], Awaitable[None]]
LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


@dataclass
class Stranger:
    """A listener of the test; ``requests`` are the heads that arrived, ``connections`` counts every knock."""

    host: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0

    @property
    def authority(self) -> str:
        """For a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, path: str = "/a.png", scheme: str = "http") -> str:
        """A URL of this server by its address."""
        return f"{scheme}://{self.authority}{path}"


@asynccontextmanager
async def stranger(
    behave: Behaviour, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Stranger]:
    """Serve ``behave(stream, request_head)`` for every connection; it is closed when that returns."""
    (listener,) = await trio.open_tcp_listeners(port, host=host)
    self = Stranger(host, listener.socket.getsockname()[1])

    async def serve(stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            talk: trio.abc.Stream = stream
            if tls is not None:
                talk = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
            head = await _request_head(talk)
            if head:
                self.requests.append(head)
                await behave(talk, head)
        except trio.BrokenResourceError:
            pass  # the fetcher went
        finally:
            self.open_connections -= 1
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield self
        nursery.cancel_scope.cancel()


async def _request_head(stream: trio.abc.Stream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(4096)
        if not data:
            return b""
        head += data
    return bytes(head)


def says(*parts: bytes) -> Behaviour:
    """Sends these bytes, whatever was asked, and closes."""

    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        for part in parts:
            await stream.send_all(part)

    return behave


def response(body: bytes = b"picture", *, status: int = 200, headers: Sequence[str] = ()) -> bytes:
    """A well-formed response with its length announced."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    """A redirect."""
    return response(b"", status=status, headers=[f"Location: {location}"])


class Names:
    """A resolver: each name has answers, one list per call; the last list repeats. ``asked`` is what was asked."""

    def __init__(self, names: Mapping[str, Sequence[str]] | None = None) -> None:
        self._answers: dict[str, list[Sequence[str]]] = {name: [answers] for name, answers in (names or {}).items()}
        self.asked: list[str] = []

    def add(self, name: str, *answers: Sequence[str]) -> None:
        """Set the answers of a name."""
        self._answers[name] = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        if host not in self._answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        answers = self._answers[host]
        return list(answers.pop(0) if len(answers) > 1 else answers[0])


async def no_names(host: str, port: int) -> list[str]:
    """A resolver for tests that must not ask one."""
    raise AssertionError(f"the resolver was asked for {host}")


def fetcher(
    *,
    resolve: Resolve = no_names,
    max_bytes: int = 100_000,
    timeout_s: float = 10.0,
    timeouts: FetchTimeouts | None = None,
    tls: ssl.SSLContext | None = None,
    guard: AddressGuard | None = None,
    admitted: Admitted | None = None,
    user_agent: str = "test",
    accept: str = "*/*",
    check: Callable[[RemoteUrl], None] = lambda _url: None,
) -> Fetcher:
    """A fetcher that may talk to this machine's loopback."""
    return Fetcher(
        guard or AddressGuard(allow_networks=LOOPBACK),
        max_bytes=max_bytes,
        timeout_s=timeout_s,
        resolve=resolve,
        ssl_context=tls,
        timeouts=timeouts or FetchTimeouts(),
        admitted=admitted,
        user_agent=user_agent,
        accept=accept,
        check=check,
    )
