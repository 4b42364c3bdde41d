"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from trio_grpc.net.limiter import Account, Bound, PeerLimiter, ResourceKind, peer_at
from trio_grpc.net.reactor import Reactor

__all__ = ["Account", "Bound", "PeerLimiter", "Reactor", "ResourceKind", "peer_at"]
