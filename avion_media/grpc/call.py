"""One call, as handlers and observers see it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from avion_media.grpc.request_head import NO_METADATA, Metadata
from avion_media.grpc.status import Code


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the connection."""

    address: str
    """``host:port``."""
    certificate: Mapping[str, Any] | None = None
    """The client's verified certificate as `ssl.SSLSocket.getpeercert` gives it; none without mTLS."""


@dataclass(slots=True)
class Call:
    """A call in flight. A handler gets it when its second parameter is called ``request``."""

    method: str
    """As on the wire: ``/avion.MediaService/GetMediaStatus``."""
    peer: Peer
    metadata: Metadata = field(default_factory=lambda: NO_METADATA, repr=False)
    """Names in lower case; values of ``-bin`` names are bytes. Without the transport's own headers. Never to be logged:
    credentials are here."""
    deadline: float = math.inf
    """On Trio's clock, from the client's ``grpc-timeout``. The handler is cancelled when it passes."""
    started_at: float = field(default_factory=trio.current_time)
    caller: str = ""
    """Who calls, as ``authorise`` found out; empty when nobody asked."""
    code: Code = Code.CANCELLED
    """What the client saw, once the call has ended. Until then, and for a client that has gone: CANCELLED."""

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - trio.current_time()

    @property
    def duration_s(self) -> float:
        """Seconds since the request's headers came (for refused calls: nearly nothing)."""
        return trio.current_time() - self.started_at
