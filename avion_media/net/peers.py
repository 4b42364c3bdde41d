"""The client at the other end of a connection."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

_IPV6_PREFIX = 64  # a client with one IPv6 address usually has the whole network


def is_loopback(host: str) -> bool:
    """Return whether a name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or every address
        return False


def peer_of(stream: trio.SocketStream) -> str:
    """Return the peer that a connection counts for: an IPv4 address or IPv6 network; empty if the client left."""
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
