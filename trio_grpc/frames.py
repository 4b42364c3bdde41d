"""Counts what frames cost, by their headers alone. The library reports what a frame means, but not what it costs.

There are two units, and `COSTS` has all prices. *Work units*, about 10 µs each, decide where a turn ends, so that other
connections get theirs. *Flood units* are charged for frames without progress, and progress restores them. A flood unit
stands for at most 25 µs and 1 KiB; a connection that has used up its units, or those of its peer, is closed.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM_WINDOW = 65_535  # of a request: the protocol's default
MAX_FRAME_BYTES = 16_384  # of a payload, in both directions: the protocol's default
FIRST_TURN = 128  # work units: about eight calls, because smaller turns would cost normal clients a fifth more
LATER_TURN = 32
USEFUL_BYTES = 1024  # a DATA frame with this much payload counts as progress
MIN_WINDOW_BYTES = 4096  # sent DATA that does not end a message counts as progress from this size on
# Frame types and flags (RFC 9113, 6) that matter here.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 0x1
_END_HEADERS = 0x4
FRAME_HEADER_BYTES, _SETTING_BYTES = 9, 6
_STREAM_ID = 2**31 - 1
_HEADER = Struct(">HBBBI")
_IN_FLIGHT_S = 2.0  # after a refusal, for frames that the client sent before it knew
_MAX_REFUSED = 1024  # refused calls of which this is remembered


@dataclass(frozen=True, slots=True)
class Cost:
    """One row. ``per_…``: how many of these cost one more unit; 0: they cost nothing."""

    work: int = 1
    work_per_bytes: int = 1 << 24  # more than a frame has
    flood: int = 0
    flood_per_bytes: int = 0
    flood_per_fields: int = 0
    flood_per_list_bytes: int = 0  # decoded, of a header list (RFC 9113, 6.5.2): HPACK repeats a field in a byte or two
    flood_per_messages: int = 0  # that one frame completes


class COSTS:
    """The cost table. A namespace instead of a dict, because rows are looked up for every frame."""

    CALL = Cost(12, 16, flood=2, flood_per_bytes=128, flood_per_fields=8, flood_per_list_bytes=1024)
    """HEADERS that begin a call. Restored when the call ends with trailers of any status."""
    BLOCK = Cost(work_per_bytes=16, flood_per_bytes=128, flood_per_fields=8, flood_per_list_bytes=1024)
    """Other HEADERS: trailers of a request."""
    CONTINUATION = Cost(work_per_bytes=16, flood=1, flood_per_bytes=128)
    DATA = Cost(work_per_bytes=1024, flood_per_messages=8)
    """DATA that completes a message, has 1 KiB of payload or more, or ends the request."""
    IDLE_DATA = Cost(flood=1, flood_per_bytes=1024)
    """Other DATA. The end of its message restores it: 1, and 1 for each KiB of the message."""
    SETTINGS = Cost(work_per_bytes=_SETTING_BYTES, flood=1, flood_per_bytes=_SETTING_BYTES)
    WINDOW_UPDATE = Cost(flood=1)
    """The first one of a call is restored with the call, because grpcio sends one for each."""
    NOISE = Cost(flood=1)
    """PING, PRIORITY, unknown types, acknowledgements of nothing, a second GOAWAY."""
    RESET = Cost(flood=2)
    """RST_STREAM by the client. Restored with the call's price if the call is older than 1 s or past its deadline."""
    STRAY = Cost(flood=2)
    """DATA or HEADERS of a call that is over, unless they were in flight when the call was refused."""
    RESET_BY_US = Cost(work=0, flood=2)
    """RST_STREAM that the server must send because of the client."""
    SENT = Cost(work=0, flood=-3)
    """Sent DATA that ends a message or carries 4 KiB: clients answer with window updates and pings."""
    SENT_LITTLE = Cost(work=0, flood=2)
    """Sent DATA below 1 KiB, because of a small window of the client."""
    CONNECTION = Cost(work=0, flood=10)
    """A new connection, of the units of its peer. Restored with its first message."""
    TLS_CONNECTION = Cost(work=0, flood=40)
    """The same with a TLS handshake, which takes about 1 ms."""
    START = Cost(work=0, flood=10)
    """What clients usually open a connection with: SETTINGS, a window update, pings. Its first message restores it."""


_WORK = {DATA: COSTS.DATA, HEADERS: COSTS.CALL, CONTINUATION: COSTS.CONTINUATION, SETTINGS: COSTS.SETTINGS}


def frame_header(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Return length, type, flags and stream of the frame that begins at this position."""
    high, low, kind, flags, stream_id = _HEADER.unpack_from(data, position)
    return high << 8 | low, kind, flags, stream_id & _STREAM_ID


class FloodBudget:
    """A token bucket of flood units for one connection. Progress refunds them; time does as well, up to the burst.

    With ``shared``, whatever is charged or refunded counts for that budget as well: it is that of the peer.
    """

    def __init__(self, burst: int, per_s: float, now: float, shared: FloodBudget | None = None) -> None:
        self._left = float(burst)
        self._burst = float(burst)
        self._per_s = per_s
        self._then = now
        self._shared = shared

    @property
    def left(self) -> float:
        """Units at the last charge or refund; below 0 once more was charged than there was."""
        return self._left if self._shared is None else min(self._left, self._shared.left)

    def charge(self, units: int, now: float) -> None:
        """Take ``units``."""
        self._left = min(self._left + (now - self._then) * self._per_s, self._burst) - units
        self._then = now
        if self._shared is not None:
            self._shared.charge(units, now)

    def refund(self, units: int) -> None:
        """Give ``units`` back."""
        self._left = min(self._left + units, self._burst)
        if self._shared is not None:
            self._shared.refund(units)


@dataclass(slots=True)
class Seen:
    """The result of one piece."""

    frames: bytes = b""
    """What is whole with it."""
    flood: int = 0
    """Flood units that the headers of its frames cost."""
    of_calls: list[tuple[int, int]] = field(default_factory=list)
    """Stream and length of each DATA and of trailers."""
    violation: str = ""
    """The reason to end the connection before the library sees the piece."""


@dataclass(slots=True)
class FrameWatch:
    """Watches the bytes of a connection, fed in pieces of any size: the preface of 24 bytes, then frames."""

    max_block_bytes: int
    """Limit of one header block, as encoded."""
    acks_owed: int = 1
    """SETTINGS and PINGs of the server that the peer has not acknowledged; further acknowledgements cost units."""
    call_costs: dict[int, int] = field(default_factory=dict, init=False)
    """Flood units of each call whose HEADERS have begun, by stream, until `Protocol` takes them out."""
    in_header_block: bool = field(default=False, init=False)
    begun: int = field(default=0, init=False)
    """Frames that were whole; a whole header block counts as one."""
    highest_stream: int = field(default=0, init=False)
    """The call that was begun last."""
    has_more: bool = field(default=False, init=False)
    """Whether frames may be left that were too much work."""
    _has_preface: bool = field(default=False, init=False)
    _left: bytes = field(default=b"", init=False)  # the beginning of the preface or of a frame; more if `has_more`
    _block_bytes: int = field(default=0, init=False)
    _block_call: int = field(default=0, init=False)  # the call that the block at hand begins
    _leaving: bool = field(default=False, init=False)
    _refused: OrderedDict[int, tuple[float, int]] = field(default_factory=OrderedDict, init=False)

    @property
    def mid_frame(self) -> bool:
        """Whether the peer owes the rest of the preface, a frame or a header block."""
        return not self._has_preface or (bool(self._left) and not self.has_more) or self.in_header_block

    def refused(self, stream_id: int, now: float) -> None:
        """Record that this call was answered or reset: what is in flight for it is free (`price_of_stray`)."""
        self._refused[stream_id] = now + _IN_FLIGHT_S, STREAM_WINDOW
        if len(self._refused) > _MAX_REFUSED:
            self._refused.popitem(last=False)

    def price_of_stray(self, stream_id: int, length: int, now: float) -> int:
        """Return the flood units of a frame whose call is over: 0 if it was in flight when the call was refused."""
        until, window = self._refused.get(stream_id, (-math.inf, 0))
        if now > until:
            return COSTS.STRAY.flood
        window -= max(length, MIN_WINDOW_BYTES)
        self._refused[stream_id] = until, window
        return COSTS.STRAY.flood if window < 0 else 0

    def feed(self, data: bytes, work: float = math.inf) -> Seen:
        """Account for one piece: for the preface, and for frames once they are whole, until they are this much work.

        The library gets nothing else: if a stream were reset within a DATA frame, the window of what had come of it
        would be lost. A frame beyond the limit counts as whole at once, because the library refuses it.
        """
        data = self._left + data if self._left else data
        seen = Seen()
        position, end = 0, len(data)
        if not self._has_preface:
            self._has_preface = not (end < len(PREFACE) and PREFACE.startswith(data))
            position = len(PREFACE) if self._has_preface else 0
        while work > 0 and self._has_preface and end - position >= FRAME_HEADER_BYTES:
            length, kind, flags, stream_id = frame_header(data, position)
            after = position + FRAME_HEADER_BYTES + length
            if after > end and length <= MAX_FRAME_BYTES:
                break
            self._header(kind, flags, stream_id, length, seen)
            cost = _WORK.get(kind, COSTS.NOISE)
            work -= cost.work + length // cost.work_per_bytes
            position = after
        seen.frames, self._left = data[:position], data[position:]
        self.has_more = work <= 0 and bool(self._left)
        return seen

    def _header(self, kind: int, flags: int, stream_id: int, length: int, seen: Seen) -> None:
        """Account for a frame by its header."""
        self.begun += not self.in_header_block
        if kind == DATA:
            seen.of_calls.append((stream_id, length))
        elif kind == WINDOW_UPDATE:
            seen.flood += COSTS.WINDOW_UPDATE.flood
        elif kind in (HEADERS, CONTINUATION):
            self._block(kind, flags, stream_id, length, seen)
        elif kind == RST_STREAM:
            # A client that was refused may answer with a reset of its own.
            seen.flood += 0 if self._refused.pop(stream_id, None) else COSTS.RESET.flood
        elif kind == GOAWAY:
            seen.flood += COSTS.NOISE.flood * self._leaving
            self._leaving = True
        elif kind == SETTINGS and not flags & ACK:
            cost = COSTS.SETTINGS
            seen.flood += cost.flood + length // cost.flood_per_bytes
        elif kind in (SETTINGS, PING) and flags & ACK and self.acks_owed > 0:
            self.acks_owed -= 1
        else:
            seen.flood += COSTS.NOISE.flood

    def _block(self, kind: int, flags: int, stream_id: int, length: int, seen: Seen) -> None:
        if kind == CONTINUATION:
            cost = COSTS.CONTINUATION
        elif stream_id > self.highest_stream:
            cost = COSTS.CALL
            self.highest_stream = stream_id
            self.call_costs[stream_id] = 0
        else:
            cost = COSTS.BLOCK
            seen.of_calls.append((stream_id, length))
        units = cost.flood + length // cost.flood_per_bytes
        seen.flood += units
        self._block_bytes = self._block_bytes + length if self.in_header_block else length
        if kind == HEADERS:
            self._block_call = stream_id if cost is COSTS.CALL else 0
        if self._block_call in self.call_costs:
            self.call_costs[self._block_call] += units - (cost.flood if kind == CONTINUATION else 0)
        self.in_header_block = not flags & _END_HEADERS
        if self._block_bytes > self.max_block_bytes:
            seen.violation = "a header block beyond the announced size"
