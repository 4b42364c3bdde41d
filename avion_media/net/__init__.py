"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from avion_media.net.limiter import Account, Bound, Kind, PeerLimiter, is_loopback, peer_at
from avion_media.net.readiness import GONE, READ, WRITE, Readiness
from avion_media.net.relay import PIECE_BYTES, Relay

__all__ = [
    "GONE",
    "PIECE_BYTES",
    "READ",
    "WRITE",
    "Account",
    "Bound",
    "Kind",
    "PeerLimiter",
    "Readiness",
    "Relay",
    "is_loopback",
    "peer_at",
]
