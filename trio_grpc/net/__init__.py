"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from trio_grpc.net.limiter import Account, Bound, Kind, PeerLimiter, is_loopback, peer_at
from trio_grpc.net.readiness import Readiness

__all__ = ["Account", "Bound", "Kind", "PeerLimiter", "Readiness", "is_loopback", "peer_at"]
