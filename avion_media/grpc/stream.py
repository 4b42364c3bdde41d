"""One call as the protocol core sees it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from avion_media.grpc.status import Headers
from avion_media.grpc.wire_format import Assembly
from avion_media.net import Account


@dataclass(slots=True)
class Pending:
    """A message of a response, as far as it is not sent."""

    rest: memoryview
    held_bytes: int
    """What it takes from the account."""


class Stream:
    """State only: what happens to it is decided in `Protocol`."""

    def __init__(self, stream_id: int, now: float, account: Account, max_message_bytes: int) -> None:
        self.id = stream_id
        self.opened_at = now
        self.flood_units = 0  # what its beginning was charged, and its first window update
        self.has_window_update = False
        self.idle_units = 0  # and DATA that has not become a message yet
        self.reset_grace_s = 0.0  # given up after so long its price is given back
        self.remote_open = True
        self.wanted = True  # whether window updates are given for what arrives
        self.uncredited_bytes = 0
        self.max_message_bytes = max_message_bytes
        self._account = account
        self._held_bytes = 0
        self.assembly: Assembly | None = None  # once a message came in pieces
        self.is_gzip = False  # of requests
        self.head_sent = False
        self.pending: deque[Pending] = deque()
        self.pending_bytes = 0
        self.trailers: Headers | None = None
        self.progress_at = now

    def hold(self, count: int) -> bool:
        """Take so many buffered bytes for this call; false if its peer holds too many."""
        if not self._account.take(buffered_bytes=count):
            return False
        self._held_bytes += count
        return True

    def let_go(self, count: int) -> None:
        """Give back bytes that are no longer buffered."""
        self._held_bytes -= count
        self._account.give(buffered_bytes=count)

    def release(self) -> None:
        """Give back all that is held. To be called once the call is over, however it ended; may be repeated."""
        if self._held_bytes:
            self.let_go(self._held_bytes)
