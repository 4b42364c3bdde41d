"""Every bound of the transport in one place."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

_AGE_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What one client, and all of them together, may take. The defaults suit small messages from a few services."""

    max_connections: int = 1000
    """Connections at once; one more is closed unanswered."""
    max_connections_per_peer: int = 500
    """Connections of one peer (see `avion_media.net.limiter`, which leaves one peer half of all at most)."""
    max_streams: int = 100
    """Calls at once on one connection, as advertised. Streams beyond are refused, and clients repeat those."""
    max_calls: int = 1000
    """Handlers at once in the whole server; a call beyond is answered RESOURCE_EXHAUSTED. Streams get three quarters
    of this bound and of the next, so that calls which end find room."""
    max_calls_per_peer: int = 500
    """Handlers of one peer, likewise."""
    max_message_bytes: int = 4 << 20
    """The largest request message; a larger one is answered RESOURCE_EXHAUSTED before it is read. Health and reflection
    take 4 KiB."""
    max_send_bytes: int = 4 << 20
    """The largest response message; a larger one is answered RESOURCE_EXHAUSTED, and reported as an error."""
    max_buffered_bytes: int = 64 << 20
    """Bytes of requests that have not reached a handler yet, in the whole server. One peer gets half at most, one
    connection twice the largest message."""
    max_header_list_bytes: int = 16 << 10
    """The decoded size of one header block (RFC 9113, 6.5.2); a larger one ends the connection."""
    max_flood_units: int = 1000
    """What a connection may spend at once on frames that achieve nothing: resets, pings, settings, empty data (see
    `frames.COSTS`)."""
    flood_units_per_s: float = 100.0
    """How fast that comes back."""
    handshake_timeout_s: float = 10.0
    """For the TLS handshake."""
    header_timeout_s: float = 10.0
    """For the preface, and for any frame or header block once it has begun."""
    request_timeout_s: float = 30.0
    """For the single message of a unary request to arrive in full."""
    write_timeout_s: float = 30.0
    """A client that takes longer for 64 KiB loses the connection, and one that opens no window for so long the call."""
    idle_timeout_s: float = 900.0
    """A connection without calls for so long is sent away."""
    max_age_s: float = math.inf
    """Clients of an older connection are asked to open a new one, so that they find new replicas; give or take 10 %, so
    that they do not come all at once."""
    max_age_grace_s: float = 600.0
    """Calls that are in flight then may go on for so long. After it streams of responses end at a message boundary, and
    every other call 10 s later."""
    keepalive_interval_s: float = 60.0
    """After so long without a byte from or for the client it is pinged."""
    keepalive_timeout_s: float = 20.0
    """And must have answered after so long."""

    def lifetime_s(self) -> float:
        """How long one connection is to live: another time for each."""
        return self.max_age_s * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)
