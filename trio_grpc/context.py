"""One call, as handlers and observers see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from trio_grpc.status import Code, Headers
from trio_grpc.wire_format import Metadata, metadata_headers


@dataclass(frozen=True, slots=True)
class Peer:
    """The client at the other end of the connection."""

    address: str
    """``host:port``; ``unix:`` and the number of the process on a Unix socket."""
    certificate: Mapping[str, Any] | None = None
    """The client's verified certificate, in the form of `ssl.SSLSocket.getpeercert`; None without mTLS."""
    user_id: int | None = None
    """The user of the client's process on a Unix socket."""


@dataclass(slots=True)
class CallContext:
    """A call in flight: the second argument of every handler."""

    method: str
    """As on the wire: ``/avion.MediaService/GetMediaStatus``."""
    peer: Peer
    metadata: Metadata = field(default_factory=Metadata, repr=False)
    """The client's metadata, without the transport's own headers. Never log it, because it contains credentials."""
    deadline: float = math.inf
    """On Trio's clock, from the client's ``grpc-timeout``. The handler is cancelled when it passes."""
    started_at: float = field(default_factory=trio.current_time)
    caller: str = ""
    """The caller's name, as ``authorise`` set it; empty without authentication."""
    code: Code = Code.CANCELLED
    """The status that the client received. CANCELLED until the end, and if the client has left."""
    compress: bool = False
    """Set it to compress the responses of 1 KiB and more, if the client accepts gzip."""
    accepts_gzip: bool = False
    """Whether the client accepts gzip."""
    trailing_metadata: Headers = field(default=(), repr=False)
    send_head: Callable[[Headers], None] | None = field(default=None, repr=False)
    """Sends initial metadata. The transport sets it while the handler runs."""

    @classmethod
    def local(cls, method: str = "") -> CallContext:
        """Return a context for a call within the process: without a caller and without a deadline."""
        return cls(method, Peer(""))

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - trio.current_time()

    @property
    def duration_s(self) -> float:
        """Seconds since the request's headers arrived; nearly 0 for refused calls."""
        return trio.current_time() - self.started_at

    def send_initial_metadata(self, pairs: Iterable[tuple[str, str | bytes]]) -> None:
        """Send metadata before the first response, now. It can be done once, and not after a response.

        Raises ValueError for a name or value that gRPC does not allow, or more than 8 KiB; RuntimeError if it is late.
        """
        headers = metadata_headers(pairs)
        if self.send_head is not None:
            self.send_head(headers)

    def add_trailing_metadata(self, pairs: Iterable[tuple[str, str | bytes]]) -> None:
        """Add metadata that is sent with the status. Raises ValueError as `send_initial_metadata` does."""
        self.trailing_metadata += metadata_headers(pairs, before=self.trailing_metadata)
