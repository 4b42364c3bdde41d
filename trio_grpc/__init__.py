"""gRPC over HTTP/2 for Trio. Knows nothing of media.

`GrpcServer` serves services of generated servicers. Layers, from the wire up: `frames` and `http2`; `outbound` and
`protocol` (bytes in, events out, no I/O); `connection` (its driver); `running` (one handler); `server` (listeners,
TLS, drain).
"""

from trio_grpc.client import CallOptions, Channel, ReceivedMetadata, open_channel, open_unix_channel
from trio_grpc.context import CallContext, Peer
from trio_grpc.health import HealthService
from trio_grpc.hooks import Hooks
from trio_grpc.limits import GrpcLimits
from trio_grpc.server import GrpcServer, open_unix_listener
from trio_grpc.service import Cardinality, RPCSignature, Service, Servicer
from trio_grpc.status import CallError, Code, ConnectionEnded, RpcError
from trio_grpc.wire_format import Metadata

__all__ = [
    "CallContext",
    "CallError",
    "CallOptions",
    "Cardinality",
    "Channel",
    "Code",
    "ConnectionEnded",
    "GrpcLimits",
    "GrpcServer",
    "HealthService",
    "Hooks",
    "Metadata",
    "Peer",
    "RPCSignature",
    "ReceivedMetadata",
    "RpcError",
    "Service",
    "Servicer",
    "open_channel",
    "open_unix_channel",
    "open_unix_listener",
]
