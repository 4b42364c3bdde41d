"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from avion_media.net.limiter import Account, Bound, Kind, PeerLimiter, is_loopback, peer_at, peer_of
from avion_media.net.readiness import Readiness
from avion_media.net.relay import Relay
from avion_media.net.sockets import linger, reset_at_close, send_steadily, set_inherited

__all__ = [
    "Account",
    "Bound",
    "Kind",
    "PeerLimiter",
    "Readiness",
    "Relay",
    "is_loopback",
    "linger",
    "peer_at",
    "peer_of",
    "reset_at_close",
    "send_steadily",
    "set_inherited",
]
