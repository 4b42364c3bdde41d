"""All limits of the transport."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trio_grpc.net import Networks


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """Limits for one client, and for all together. The defaults suit small messages from a few services."""

    max_connections: int = 1000
    """Maximum open connections; further ones are closed."""
    max_connections_per_peer: int = 500
    """Maximum connections of one peer (`trio_grpc.net.limiter` gives one peer at most half of all)."""
    proxies: Networks = ()
    """Where proxies connect from: each of their connections is a peer of its own, because many clients share it."""
    max_streams: int = 100
    """Maximum concurrent calls on one connection, as advertised. Clients retry further ones, which are refused."""
    max_calls: int = 1000
    """Maximum concurrent handlers of the server; further calls get RESOURCE_EXHAUSTED. Streams get three quarters of
    this limit and of the next, so that there is room for other calls."""
    max_calls_per_peer: int = 500
    """Maximum concurrent handlers of one peer."""
    max_message_bytes: int = 4 << 20
    """Maximum size of a request message (health, reflection: 4 KiB); a larger one gets RESOURCE_EXHAUSTED unread."""
    max_send_bytes: int = 4 << 20
    """Maximum size of a response message; a larger one becomes RESOURCE_EXHAUSTED, and is reported as an error."""
    max_buffered_bytes: int = 64 << 20
    """Maximum bytes in the server of requests that have not reached a handler, and of responses that wait to be sent.
    One peer gets at most half, one connection twice the maximum message."""
    max_header_list_bytes: int = 16 << 10
    """Maximum decoded size of a header block (RFC 9113, 6.5.2); a larger one ends the connection."""
    max_flood_units: int = 1000
    """Flood units that a connection can spend at once on frames without effect, such as pings (`frames.COSTS`)."""
    flood_units_per_s: float = 100.0
    """Flood units that are restored per second."""
    flood_connections: int = 10
    """A peer has the flood units of so many connections, for all that it has opened and will open. Without any left,
    its connections are closed, and new ones refused before TLS until some are restored."""
    handshake_timeout_s: float = 10.0
    """Time for the TLS handshake."""
    header_timeout_s: float = 10.0
    """Time for the preface, and for any frame or header block that has begun."""
    request_timeout_s: float = 30.0
    """Time for the message of a unary request to arrive."""
    write_timeout_s: float = 30.0
    """A client that takes longer for 64 KiB loses its connection. A call without a window for so long is reset."""
    idle_timeout_s: float = 900.0
    """Time after which a connection without calls gets GOAWAY."""
    max_age_s: float = math.inf
    """Age at which clients are asked to open a new connection, so that they find new replicas; ± 10 %, so that they do
    not all reconnect at once."""
    max_age_grace_s: float = 600.0
    """Time that calls in flight then still have. After it, streams of responses end at a message boundary, and all
    other calls 10 s later."""
    keepalive_interval_s: float = 60.0
    """Time without a byte from or to the client after which it is pinged."""
    keepalive_timeout_s: float = 20.0
    """Time for the client to answer the ping."""
