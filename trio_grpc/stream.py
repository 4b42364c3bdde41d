"""One call as the protocol core sees it, and the events that the core returns to its driver."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from trio_grpc.lifecycle import Happening
from trio_grpc.net import Account
from trio_grpc.status import Code, Headers
from trio_grpc.wire_format import Assembly, Message, RequestHead


class CallBegun(NamedTuple):
    """A request's headers, checked. `RequestHead` says whether it can be served."""

    stream_id: int
    head: RequestHead


class MessageReceived(NamedTuple):
    """One whole message of a request. It counts as held until `Protocol.message_taken`, or the end of the call."""

    stream_id: int
    message: Message


class RequestEnded(NamedTuple):
    """The client sends no more messages in this call."""

    stream_id: int


class CallGone(NamedTuple):
    """The call ended early: reset by the client (CANCELLED), or answered by the core with this code."""

    stream_id: int
    code: Code = Code.CANCELLED


class ResponseTaken(NamedTuple):
    """All output of this call has been passed to the connection."""

    stream_id: int


Event = CallBegun | MessageReceived | RequestEnded | CallGone | ResponseTaken | Happening
"""A `Happening` concerns the whole connection. After FAILED the remaining output has the GOAWAY for the client."""


class Stream:
    """ConnectionState only: what happens to it is decided in `Protocol`."""

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
        self.pending: deque[bytes] = deque()  # messages of the response that have not been sent whole
        self.passed_of_first = 0  # bytes of the first one that the library has, or had
        self.sent_of_first = 0
        self.pending_bytes = 0
        self.trailers: Headers | None = None
        self.progress_at = now

    @property
    def is_passed_on(self) -> bool:
        """Whether the library has all messages of the response."""
        return not self.pending or (len(self.pending) == 1 and self.passed_of_first == len(self.pending[0]))

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
