"""Who is at the other end: this machine or another, and how many connections each peer has.

They are counted so that one peer cannot take all that there are.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

_PLENTY = 0.9
_IPV6_PREFIX = 64  # whoever has one IPv6 address has its whole network


def is_loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or every address
        return False


class TooMany(Exception):
    """This connection is one too many: close it."""


class ConnectionCount:
    """Counts the connections of one server, in all and by peer."""

    def __init__(self, max_in_all: int, max_per_peer: int) -> None:
        self._max_in_all = max_in_all
        self._max_per_peer = max_per_peer
        self._by_peer: Counter[str] = Counter()
        self.total = 0

    @property
    def is_scarce(self) -> bool:
        """Whether few are left: time to end an idle one for each that comes, so that newcomers find room."""
        return self.total > _PLENTY * self._max_in_all

    @contextmanager
    def counted(self, stream: trio.SocketStream) -> Iterator[None]:
        """Count this connection for the length of the block; `TooMany` when it is beyond a bound."""
        peer = peer_of(stream)
        if self.total >= self._max_in_all or self._by_peer[peer] >= self._max_per_peer:
            if not self._by_peer[peer]:
                del self._by_peer[peer]
            raise TooMany(peer)
        self.total += 1
        self._by_peer[peer] += 1
        try:
            yield
        finally:
            self.total -= 1
            self._by_peer[peer] -= 1
            if not self._by_peer[peer]:
                del self._by_peer[peer]


def peer_of(stream: trio.SocketStream) -> str:
    """Whom a connection counts for: an IPv4 address or an IPv6 network; empty when it is gone already."""
    try:
        host = stream.socket.getpeername()[0]
    except OSError:
        return ""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
