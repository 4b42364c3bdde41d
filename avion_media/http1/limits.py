"""Every bound of a server of HTTP/1.1 in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one client, and all of them together, may take."""

    max_connections: int = 1000
    max_connections_per_peer: int = 500
    max_head_bytes: int = 16 << 10
    """Names and values of a request's headers, and its target."""
    max_head_fields: int = 100
    max_body_bytes: int = 64 << 10
    """Of a request that may have a body at all."""
    head_timeout_s: float = 10.0
    """For a request's head, once it has begun."""
    body_timeout_s: float = 30.0
    """For a request's body."""
    keep_alive_s: float = 75.0
    """For the next request to begin."""
    write_timeout_s: float = 30.0
    """For the client to take 64 KiB of a response."""
