"""All limits of an HTTP/1.1 server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits for one client, and for all together."""

    max_connections: int = 1000
    max_connections_per_peer: int = 500
    max_head_bytes: int = 16 << 10
    """Maximum bytes of a request's header fields and target."""
    max_head_fields: int = 100
    max_body_bytes: int = 64 << 10
    """Maximum body of a request that can have one."""
    head_timeout_s: float = 10.0
    """For a request's head, once it has begun."""
    body_timeout_s: float = 30.0
    """For a request's body."""
    keep_alive_s: float = 75.0
    """For the next request to begin."""
    write_timeout_s: float = 30.0
    """For the client to take 64 KiB of a response."""
