"""Peers and sockets, for all servers. Knows neither gRPC nor HTTP."""

from trio_grpc.net.limiter import Account, Bound, Networks, PeerLimiter, ResourceKind, account_name, is_in, peer_at
from trio_grpc.net.reactor import Reactor

__all__ = [
    "Account",
    "Bound",
    "Networks",
    "PeerLimiter",
    "Reactor",
    "ResourceKind",
    "account_name",
    "is_in",
    "peer_at",
]
