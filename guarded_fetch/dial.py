"""Connections to remote servers. No other module opens one.

A host is resolved once, all of its addresses must pass the guard, and only one of these literals is dialled, never the
name. So a second lookup (DNS rebinding) cannot happen. The address of the peer is compared again. TLS still uses the
name: SNI and certificate are those of the host of the URL. No proxy is supported, so the environment cannot add one.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest

import trio

from guarded_fetch.errors import FetchUnavailable, ResolverTrouble, TooManyLookups
from guarded_fetch.guard import AddressGuard, AddressRefused, IpAddress
from guarded_fetch.url import RemoteUrl

Resolve = Callable[[str, int], Awaitable[list[str]]]
# No web server has more addresses than this; the guard's lists are searched for each.
MAX_ANSWERS = 64
_MAX_DIALLED = 4
# Abandoned lookups keep their threads until the system's resolver gives up: usually within half a minute.
_MAX_ABANDONED = 64
_MAX_ABANDONED_OF_DOMAIN = 8
_LEFT_BEHIND_WAIT_S = 10.0
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY})


@dataclass(frozen=True, slots=True)
class FetchTimeouts:
    """Time limits for each phase of a fetch. The whole fetch has its own deadline as well."""

    resolve_s: float = 10.0
    connect_s: float = 5.0  # for each address
    handshake_s: float = 10.0
    head_s: float = 20.0  # from the request to the end of the response's headers
    read_s: float = 15.0  # for the next bytes of the body
    window_s: float = 15.0  # each window of the body must bring min_window_bytes: 1 KiB/s
    min_window_bytes: int = 15 << 10


DEFAULT_TIMEOUTS = FetchTimeouts()


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Return all addresses of a host, by the system's resolver. Each lookup has a thread of its own, and waits for no
    other.

    Raises OSError (`socket.gaierror`), or `TooManyLookups` while too many abandoned lookups, of one domain or in total,
    still occupy threads. A cancel abandons the thread. The caller limits the number of concurrent lookups.
    """
    abandoned = _abandoned_lookups()
    abandoned[:] = [each for each in abandoned if each.thread.borrowed_tokens]
    domain = _domain_of(host)
    of_domain = sum(each.domain == domain for each in abandoned)
    if of_domain >= _MAX_ABANDONED_OF_DOMAIN or len(abandoned) >= _MAX_ABANDONED:
        raise TooManyLookups(_LEFT_BEHIND_WAIT_S)
    thread = trio.CapacityLimiter(1)
    try:
        return await trio.to_thread.run_sync(_getaddrinfo, host, port, limiter=thread, abandon_on_cancel=True)
    finally:
        if thread.borrowed_tokens:  # cancelled; the thread releases the token at its end
            abandoned.append(_AbandonedLookup(domain, thread))


def _getaddrinfo(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


@dataclass(frozen=True, slots=True)
class _AbandonedLookup:
    domain: str
    thread: trio.CapacityLimiter


_ABANDONED: trio.lowlevel.RunVar[list[_AbandonedLookup]] = trio.lowlevel.RunVar("guarded_fetch.abandoned")


def _abandoned_lookups() -> list[_AbandonedLookup]:
    try:
        return _ABANDONED.get()
    except LookupError:
        _ABANDONED.set([])
        return _ABANDONED.get()


def _domain_of(host: str) -> str:
    """Return its last two labels. Domains with three (``example.co.uk``) share a limit."""
    return ".".join(host.rsplit(".", 2)[-2:])


class Dialler:
    """Opens guarded connections. Safe to use from many tasks."""

    def __init__(
        self, guard: AddressGuard, resolve: Resolve, ssl_context: ssl.SSLContext, timeouts: FetchTimeouts
    ) -> None:
        self._guard = guard
        self._resolve = resolve
        self._ssl_context = ssl_context
        self._timeouts = timeouts

    @asynccontextmanager
    async def open_stream(self, url: RemoteUrl) -> AsyncIterator[trio.abc.Stream]:
        """Open a stream to the URL's host, with TLS for https. It is closed without a farewell at the end of the block.

        Raises `AddressRefused`; `FetchUnavailable` if no allowed address responds or the certificate is wrong;
        `ResolverTrouble` or `TooManyLookups` if the name cannot be resolved.
        """
        self.check(url)
        transport = await self._connect(await self._vetted_addresses(url), url.port)
        try:
            yield transport if url.scheme == "http" else await self._start_tls(transport, url.host)
        finally:
            # Close the transport, not the TLS stream, because a peer could delay a farewell.
            await trio.aclose_forcefully(transport)

    def check(self, url: RemoteUrl) -> None:
        """Raise `AddressRefused` if the URL alone shows that it must not be fetched. Asks no resolver."""
        if self._guard.host_denied(url.host):
            raise AddressRefused(f"host {url.host}")
        if url.address is not None:
            self._guard.check_address(url.address, url.port)

    async def _vetted_addresses(self, url: RemoteUrl) -> list[IpAddress]:
        literal = url.address
        addresses = [literal] if literal is not None else await self._look_up(url)
        for address in addresses:
            self._guard.check_address(address, url.port)
        return _alternating(addresses)[:_MAX_DIALLED]

    async def _look_up(self, url: RemoteUrl) -> list[IpAddress]:
        # Less than the time that is left, because an end by the fetch's own deadline would count against the server.
        left_s = trio.current_effective_deadline() - trio.current_time()
        try:
            with trio.fail_after(max(0.0, min(self._timeouts.resolve_s, left_s / 2))):
                answers = await self._resolve(url.host, url.port)
        except trio.TooSlowError:
            raise ResolverTrouble("the resolver did not answer in time") from None
        except OSError as error:
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
                # Same as a refusal, because a difference would reveal which internal names exist.
                raise AddressRefused(f"no such name: {url.host}") from None
            raise ResolverTrouble(f"cannot resolve the host: {error}") from error
        if not 0 < len(answers) <= MAX_ANSWERS:
            raise AddressRefused(f"{len(answers)} addresses")
        try:
            return [ipaddress.ip_address(answer) for answer in answers]
        except ValueError as error:
            raise AddressRefused(f"the resolver's answer is no address: {error}") from None

    async def _connect(self, addresses: Sequence[IpAddress], port: int) -> trio.SocketStream:
        failure = "no addresses"
        for address in addresses:
            try:
                with trio.fail_after(self._timeouts.connect_s):
                    stream = await trio.open_tcp_stream(str(address), port)
            except trio.TooSlowError:
                failure = f"no connection within {self._timeouts.connect_s:g} s"
                continue
            except OSError as error:
                failure = _message_of(error)
                continue
            try:
                _check_peer(stream, address)
            except OSError as error:  # reset before getpeername
                failure = str(error)
                await trio.aclose_forcefully(stream)
                continue
            except AddressRefused:
                await trio.aclose_forcefully(stream)
                raise
            return stream
        raise FetchUnavailable(f"cannot connect: {failure}")

    async def _start_tls(self, transport: trio.SocketStream, host: str) -> trio.abc.Stream:
        # https_compatible: many servers end without a TLS farewell; HTTP's framing detects truncation.
        stream = trio.SSLStream(transport, self._ssl_context, server_hostname=host, https_compatible=True)
        try:
            with trio.fail_after(self._timeouts.handshake_s):
                await stream.do_handshake()
        except trio.TooSlowError:
            raise FetchUnavailable(f"no TLS within {self._timeouts.handshake_s:g} s") from None
        except trio.BrokenResourceError as error:
            raise FetchUnavailable(f"TLS failed: {error.__cause__ or error}") from error
        return stream


def _message_of(error: OSError) -> str:
    """Return the message of the only attempt. Trio's own message says only that all attempts failed."""
    cause = error.__cause__
    return str(cause.exceptions[0] if isinstance(cause, ExceptionGroup) else error)


def _check_peer(stream: trio.SocketStream, dialled: IpAddress) -> None:
    peer = ipaddress.ip_address(str(stream.socket.getpeername()[0]))
    if peer != dialled:
        raise AddressRefused(f"dialled {dialled}, got {peer}")


def _alternating(addresses: Sequence[IpAddress]) -> list[IpAddress]:
    """Return the addresses with alternating families (RFC 8305, 4), so that a broken family costs only one attempt."""
    first = [each for each in addresses if each.version == addresses[0].version]
    others = [each for each in addresses if each.version != addresses[0].version]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]
