"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from avion_media.net.limiter import Account, Bound, Kind, PeerLimiter, is_loopback, peer_of
from avion_media.net.relay import Relay
from avion_media.net.sockets import bound_unacknowledged, linger, reset_at_close, send_steadily

__all__ = [
    "Account",
    "Bound",
    "Kind",
    "PeerLimiter",
    "Relay",
    "bound_unacknowledged",
    "is_loopback",
    "linger",
    "peer_of",
    "reset_at_close",
    "send_steadily",
]
