"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from trio_grpc.net.limiter import Account, Bound, Kind, PeerLimiter, peer_at
from trio_grpc.net.readiness import Readiness

__all__ = ["Account", "Bound", "Kind", "PeerLimiter", "Readiness", "peer_at"]
