"""Who is at the other end: this machine or another, and how much of what is bounded each peer has.

It is counted so that one peer cannot take all that there is.
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


class PeerCount:
    """Counts things of one kind, or bytes, in all and by peer (see `peer_of`)."""

    def __init__(self, max_in_all: int, max_per_peer: int) -> None:
        self._max_in_all = max_in_all
        self._max_per_peer = max_per_peer
        self._by_peer: Counter[str] = Counter()
        self.total = 0

    def room(self, peer: str) -> int:
        """How many more this peer can have within both bounds."""
        return min(self._max_in_all - self.total, self._max_per_peer - self._by_peer[peer])

    def has_room(self, peer: str) -> bool:
        """Whether one more of this peer is within both bounds."""
        return self.room(peer) > 0

    def add(self, peer: str, count: int = 1) -> None:
        """More of them; each must be removed."""
        self.total += count
        self._by_peer[peer] += count

    def remove(self, peer: str, count: int = 1) -> None:
        """Fewer of them. Of a peer that has none left nothing is remembered."""
        self.total -= count
        self._by_peer[peer] -= count
        if not self._by_peer[peer]:
            del self._by_peer[peer]


class ConnectionCount:
    """Counts the connections of one server, in all and by peer."""

    def __init__(self, max_in_all: int, max_per_peer: int) -> None:
        self._scarce_beyond = _PLENTY * max_in_all
        self._count = PeerCount(max_in_all, max_per_peer)

    @property
    def total(self) -> int:
        """Connections at present."""
        return self._count.total

    @property
    def is_scarce(self) -> bool:
        """Whether few are left: time to end an idle one for each that comes, so that newcomers find room."""
        return self.total > self._scarce_beyond

    @contextmanager
    def counted(self, stream: trio.SocketStream) -> Iterator[None]:
        """Count this connection for the length of the block; `TooMany` when it is beyond a bound."""
        peer = peer_of(stream)
        if not self._count.has_room(peer):
            raise TooMany(peer)
        self._count.add(peer)
        try:
            yield
        finally:
            self._count.remove(peer)


def peer_of(stream: trio.SocketStream) -> str:
    """Whom a connection counts for: an IPv4 address or an IPv6 network; empty when it is gone already."""
    try:
        return peer_of_host(stream.socket.getpeername()[0])
    except OSError:
        return ""


def peer_of_host(host: str) -> str:
    """The same for an address as the socket gives it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
