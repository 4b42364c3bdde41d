"""One guarded GET into a file.

Every hop is parsed, vetted and dialled afresh: all of the resolver's answers must pass the guard, the connection goes
to a vetted literal, and the peer is checked once more after it stands. No proxy, no cookies, no credentials, no
compression. httpcore is used below httpx's client because that client owns name resolution and redirects, which are
exactly what must not happen by itself here; one connection per hop also leaves no pool that could lose connections when
cancelled.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import httpcore
import trio

from avion_media.domain.errors import Reason, Rejected, Unavailable
from avion_media.remote.guard import AddressGuard, AddressRefused, IpAddress
from avion_media.remote.url import InvalidUrl, RemoteUrl, parse_remote_url

Resolve = Callable[[str, int], Awaitable[list[str]]]
USER_AGENT = b"avion-media (+https://joinavion.example/media)"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 530})
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 15.0
_RATE_WINDOW_S = 15.0
_MIN_WINDOW_BYTES = 15 * 1024  # about 1 KiB/s
_MAX_RETRY_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What arrived: its size, and what revalidation needs."""

    size_bytes: int
    final_url: RemoteUrl
    etag: str


async def resolve_by_system(host: str, port: int) -> list[str]:
    """All addresses of a host by the system's resolver, in threads of their own so that slow DNS starves nobody."""
    return await trio.to_thread.run_sync(_getaddrinfo, host, port, limiter=_dns_limiter(), abandon_on_cancel=True)


def _getaddrinfo(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


_DNS_LIMITER: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("avion_media.remote.dns")


def _dns_limiter() -> trio.CapacityLimiter:
    try:
        return _DNS_LIMITER.get()
    except LookupError:
        limiter = trio.CapacityLimiter(8)
        _DNS_LIMITER.set(limiter)
        return limiter


class Fetcher:
    """Fetches remote files under the guard. Safe to use from many tasks."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        max_bytes: int,
        timeout_s: float,
        max_redirects: int = 3,
        resolve: Resolve = resolve_by_system,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_redirects = max_redirects
        self._resolve = resolve
        self._ssl_context = ssl_context or ssl.create_default_context()

    async def fetch(self, url: RemoteUrl, fd: int) -> Fetched:
        """GET ``url`` into the empty file ``fd``.

        Raises `Rejected` (REMOTE_REFUSED: the guard; REMOTE_STATUS: the server's answer; TOO_LARGE; EMPTY) or
        `Unavailable` ("remote": worth another attempt). A cancel closes the connection and leaves the file
        partly written.
        """
        try:
            with trio.fail_after(self._timeout_s):
                return await self._follow(url, fd)
        except trio.TooSlowError:
            raise Unavailable("remote", f"took longer than {self._timeout_s:g} s") from None
        except AddressRefused as refusal:
            raise Rejected(Reason.REMOTE_REFUSED, str(refusal)) from None
        except (httpcore.RemoteProtocolError, httpcore.LocalProtocolError, httpcore.UnsupportedProtocol) as error:
            raise Rejected(Reason.REMOTE_STATUS, f"not HTTP: {error}") from error
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ConnectionNotAvailable,
            ssl.SSLError,
        ) as error:
            raise Unavailable("remote", repr(error)) from error

    async def _follow(self, url: RemoteUrl, fd: int) -> Fetched:
        for _hop in range(self._max_redirects + 1):
            if self._guard.host_denied(url.host):
                raise AddressRefused(f"host {url.host}")
            connection = httpcore.AsyncHTTPConnection(
                httpcore.Origin(url.scheme.encode(), url.host.encode(), url.port),
                ssl_context=self._ssl_context,
                network_backend=_GuardedBackend(self._guard, self._resolve),
            )
            try:
                request = httpcore.Request(
                    b"GET",
                    httpcore.URL(
                        scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
                    ),
                    headers=_request_headers(url),
                    extensions={"timeout": {"connect": _CONNECT_TIMEOUT_S, "read": _READ_TIMEOUT_S, "write": 10.0}},
                )
                response = await connection.handle_async_request(request)
                location = _header(response, b"location")
                if response.status in _REDIRECTS and location:
                    url = _redirect_target(url, location)
                    continue
                _check_status(response)
                size = await self._write_body(response, fd)
                return Fetched(size, url, _header(response, b"etag"))
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):  # closes one socket
                    await connection.aclose()
        raise Rejected(Reason.REMOTE_STATUS, f"more than {self._max_redirects} redirects")

    async def _write_body(self, response: httpcore.Response, fd: int) -> int:
        encoding = _header(response, b"content-encoding").lower()
        if encoding not in ("", "identity"):
            raise Rejected(Reason.REMOTE_STATUS, f"unasked content encoding {encoding[:20]}")
        announced = _header(response, b"content-length")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise Rejected(Reason.TOO_LARGE, f"announced {announced} bytes")
        size = 0
        window_ends, window_bytes = trio.current_time() + _RATE_WINDOW_S, 0
        async for chunk in response.aiter_stream():
            size += len(chunk)
            window_bytes += len(chunk)
            if size > self._max_bytes:
                raise Rejected(Reason.TOO_LARGE, f"more than {self._max_bytes} bytes")
            os.pwrite(fd, chunk, size - len(chunk))
            if trio.current_time() > window_ends:
                if window_bytes < _MIN_WINDOW_BYTES:
                    raise Unavailable("remote", "sends too slowly")
                window_ends, window_bytes = trio.current_time() + _RATE_WINDOW_S, 0
        if not size:
            raise Rejected(Reason.EMPTY)
        return size


def _request_headers(url: RemoteUrl) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.authority.encode()),
        (b"User-Agent", USER_AGENT),
        (b"Accept", b"image/*, video/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]


def _header(response: httpcore.Response, name: bytes) -> str:
    for key, value in response.headers:
        if key.lower() == name:
            return value.decode("latin-1").strip()
    return ""


def _redirect_target(url: RemoteUrl, location: str) -> RemoteUrl:
    try:
        target = parse_remote_url(urljoin(str(url), location))
    except ValueError as error:  # InvalidUrl, and urljoin's own
        raise AddressRefused(f"redirect: {error}") from None
    if url.scheme == "https" and target.scheme == "http":
        raise AddressRefused("redirect from https to http")
    return target


def _check_status(response: httpcore.Response) -> None:
    if response.status == 200:
        return
    if response.status in _TRANSIENT:
        raise Unavailable("remote", f"HTTP {response.status}", retry_after_s=_retry_after(response))
    raise Rejected(Reason.REMOTE_STATUS, f"HTTP {response.status}")


def _retry_after(response: httpcore.Response) -> float:
    """``Retry-After`` in seconds or as a date (RFC 9110, 10.2.3), bounded."""
    text = _header(response, b"retry-after")
    seconds = 1.0
    if text.isdigit():
        seconds = float(text[:9])
    elif text:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:
            pass
    return min(max(seconds, 1.0), _MAX_RETRY_AFTER_S)


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Dials only what the guard lets through, whatever name stands in the URL."""

    def __init__(self, guard: AddressGuard, resolve: Resolve) -> None:
        self._guard = guard
        self._resolve = resolve
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, vet every answer, connect to a vetted literal, check the peer."""
        addresses = await self._vetted(host, port)
        failure: Exception = httpcore.ConnectError("no addresses")
        for address in addresses[:4]:
            try:
                stream = await self._trio.connect_tcp(str(address), port, timeout=timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            try:
                peer = stream.get_extra_info("server_addr")
                self._guard.check_address(ipaddress.ip_address(str(peer[0]).partition("%")[0]), port)
            except BaseException:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):  # closes one socket
                    await stream.aclose()
                raise
            return stream
        raise failure

    async def _vetted(self, host: str, port: int) -> list[IpAddress]:
        try:
            answers = [host] if _is_literal(host) else await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"cannot resolve the host: {error}") from error
        addresses = [ipaddress.ip_address(answer) for answer in answers]
        for address in addresses:
            self._guard.check_address(address, port)
        return addresses

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise AddressRefused("unix socket")

    async def sleep(self, seconds: float) -> None:
        """Used by httpcore between retries."""
        await trio.sleep(seconds)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


__all__ = ["Fetched", "Fetcher", "InvalidUrl", "resolve_by_system"]
