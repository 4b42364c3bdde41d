"""One call as the protocol core sees it."""

from __future__ import annotations

from collections import deque

from avion_media.grpc.assembly import Assembly
from avion_media.grpc.status import Headers


class Stream:
    """State only: what happens to it is decided in `Protocol`."""

    __slots__ = (
        "assembly",
        "head_sent",
        "id",
        "opened_at",
        "patience_s",
        "pending",
        "pending_bytes",
        "progress_at",
        "remote_open",
        "trailers",
        "uncredited_bytes",
        "wanted",
    )

    def __init__(self, stream_id: int, now: float) -> None:
        self.id = stream_id
        self.opened_at = now
        self.patience_s = 0.0  # given up after so long it is no nuisance
        self.remote_open = True
        self.wanted = True  # whether window updates are given for what arrives
        self.uncredited_bytes = 0
        self.assembly: Assembly | None = None  # once a message came in pieces
        self.head_sent = False
        self.pending: deque[memoryview] = deque()
        self.pending_bytes = 0
        self.trailers: Headers | None = None
        self.progress_at = now

    def release(self) -> None:
        """Give back what the request holds of the server's budget."""
        if self.assembly is not None:
            self.assembly.release()
