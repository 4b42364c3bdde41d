"""Peers, and the limits of everything that is scarce in a server: connections, calls, bytes.

One rule applies to every kind: a peer may take as much as is still free. One greedy peer gets at most half, two get a
third each, so something always remains for a new peer. The rule needs no number except the total.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

_SCARCE_ABOVE = 0.9
_IPV6_PREFIX = 64  # a client with one IPv6 address usually has the whole network


@lru_cache(maxsize=1024)
def peer_at(host: str) -> str:
    """Return the peer that a connection from this address counts for: an IPv4 address or IPv6 network."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))


@lru_cache(maxsize=1024)
def is_in(host: str, networks: Networks) -> bool:
    """Return whether an address is in one of the networks."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return any(address in network for network in networks)


def account_name(host: str, port: int, proxies: Networks) -> str:
    """Return the peer whose limits a connection from this address and port has.

    Many clients share the address of a proxy, so each of its connections is a peer of its own.
    """
    return f"{host} {port}" if is_in(host, proxies) else peer_at(host)


class ResourceKind(StrEnum):
    """What is limited. The values are the names of `Account.take`'s arguments."""

    CONNECTIONS = "connections"
    CALLS = "calls"
    STREAMS = "streams"
    BUFFERED_BYTES = "buffered_bytes"


@dataclass(frozen=True, slots=True)
class Bound:
    """The limits of one kind."""

    total: int
    per_peer: float = math.inf  # if lower than the rule's
    per_account: float = math.inf  # of one connection, if lower


@dataclass(slots=True)
class _Peer:
    held: dict[str, int]
    accounts: int = 0


class PeerLimiter:
    """What one server has, and how much each peer has taken."""

    def __init__(self, bounds: Mapping[ResourceKind, Bound]) -> None:
        self._bounds: dict[str, Bound] = {str(kind): bound for kind, bound in bounds.items()}
        self._held = dict.fromkeys(self._bounds, 0)
        self._peers: dict[str, _Peer] = {}

    def account(self, peer: str) -> Account:
        """Open the account of one connection of this peer (see `peer_at`). It must be closed."""
        holder = self._peers.get(peer)
        if holder is None:
            holder = self._peers[peer] = _Peer(dict.fromkeys(self._bounds, 0))
        holder.accounts += 1
        return Account(self, peer, holder)

    def held(self, kind: ResourceKind) -> int:
        """Return how much all peers have taken."""
        return self._held[kind]

    def is_scarce(self, kind: ResourceKind) -> bool:
        """Return whether little is left."""
        return self._held[kind] > _SCARCE_ABOVE * self._bounds[kind].total


class Account:
    """What one connection has taken. It also counts for its peer."""

    __slots__ = ("_held", "_limiter", "_name", "_peer")

    def __init__(self, limiter: PeerLimiter, name: str, peer: _Peer) -> None:
        self._limiter = limiter
        self._name = name
        self._peer: _Peer | None = peer
        self._held = dict.fromkeys(limiter._bounds, 0)

    def held(self, kind: ResourceKind) -> int:
        """Return how much this connection has taken."""
        return self._held[kind]

    def room(self, kind: str) -> float:
        """Return how much of a `ResourceKind` it could take now."""
        if self._peer is None:
            return 0
        bound, held_by_peer = self._limiter._bounds[kind], self._peer.held[kind]
        free = bound.total - self._limiter._held[kind]
        by_rule = (free - held_by_peer) // 2  # then as much is free as the peer has
        if by_rule < 1:
            by_rule = min(1 - held_by_peer, free)  # the last one is for the next peer
        return max(min(by_rule, bound.per_peer - held_by_peer, bound.per_account - self._held[kind]), 0)

    def take(self, **amounts: int) -> bool:
        """Take all of this, by `ResourceKind`, or nothing. Return whether it was free. A closed account has none."""
        for kind, amount in amounts.items():
            if amount > self.room(kind):
                return False
        self._add(amounts, 1)
        return True

    def give(self, **amounts: int) -> None:
        """Return what was taken. Has no effect after `close`, which has returned it."""
        self._add(amounts, -1)

    def close(self) -> None:
        """Return everything that is still taken. Can be repeated."""
        self._add(dict(self._held), -1)
        peer, self._peer = self._peer, None
        if peer is None:
            return
        peer.accounts -= 1
        if not peer.accounts:
            del self._limiter._peers[self._name]

    def _add(self, amounts: Mapping[str, int], sign: int) -> None:
        if self._peer is None:
            return
        mine, of_peer, of_all = self._held, self._peer.held, self._limiter._held
        for kind, amount in amounts.items():
            change = sign * amount
            mine[kind] += change
            of_peer[kind] += change
            of_all[kind] += change
