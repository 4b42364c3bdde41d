"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from avion_media.net.limiter import Account, Bound, Kind, PeerLimiter, is_loopback, peer_at
from avion_media.net.readiness import Readiness
from avion_media.net.relay import Relay

__all__ = ["Account", "Bound", "Kind", "PeerLimiter", "Readiness", "Relay", "is_loopback", "peer_at"]
