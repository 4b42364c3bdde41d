"""gRPC over HTTP/2 for Trio. Knows nothing of media.

`GrpcServer` serves the services of `avion_media.wire`. Layers, from the wire up: `frames` and `nghttp2`; `outbound` and
`protocol` (bytes in, events out, no I/O); `connection` (its driver); `running` (one handler); `server` (listeners,
TLS, drain).
"""

from avion_media.grpc.context import CallContext, Peer
from avion_media.grpc.health import Health
from avion_media.grpc.hooks import Hooks
from avion_media.grpc.limits import GrpcLimits
from avion_media.grpc.server import GrpcServer
from avion_media.grpc.status import Code, RpcError
from avion_media.grpc.wire_format import Metadata

__all__ = ["CallContext", "Code", "GrpcLimits", "GrpcServer", "Health", "Hooks", "Metadata", "Peer", "RpcError"]
