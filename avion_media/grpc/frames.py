"""Watching the frames of one direction go by, without understanding their payloads.

h2 reports what a frame *means*; what frames merely *cost* (a ping answered, a reset of a stream that is gone, an empty
DATA frame) often leaves no event. So bytes pass this counter first. It also takes GOAWAY out: h2 forbids answering
calls in flight after the peer's GOAWAY, while RFC 9113, 6.8 and gRPC want just that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER_BYTES = 9
_ACK = END_STREAM = 0x1
_END_HEADERS = 0x4
MAX_FRAME_BYTES = 16_384  # the protocol's default, which we announce; h2 would buffer 16 MiB before it refuses


class Kind(IntEnum):
    """Frame types (RFC 9113, 6) that matter here."""

    DATA = 0x0
    HEADERS = 0x1
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PING = 0x6
    GOAWAY = 0x7
    CONTINUATION = 0x9


@dataclass(slots=True)
class Seen:
    """What went by in one piece."""

    data: bytes
    """The piece without GOAWAY frames, up to the last frame header that is complete."""
    nuisances: int = 0
    """Frames that achieve nothing by themselves, resets aside."""
    resets: int = 0
    settings: bool = False
    going_away: bool = False
    overlong: bool = False
    overlong_block: bool = False
    """A header block beyond its bound, whose end may not have come."""


@dataclass(slots=True)
class FrameWatch:
    """Feed it the bytes of a connection in pieces of any size. Only the preface of 24 bytes precedes the frames."""

    max_block_bytes: int
    """Of one header block, as encoded: HPACK decodes it only once it is whole, in one go."""
    acks_owed: int = 1
    """How many SETTINGS and PINGs of ours the peer may yet acknowledge; more of those are nuisances."""
    _left: int = len(PREFACE)  # bytes still to come of the preface or the frame at hand
    _cutting: bool = False
    _partial: bytes = b""  # the beginning of a frame header
    in_header_block: bool = field(default=False, init=False)
    _block_bytes: int = field(default=0, init=False)
    _leaving: bool = field(default=False, init=False)
    begun: int = field(default=0, init=False)
    """Frames that have begun; a whole header block counts as one."""

    @property
    def mid_frame(self) -> bool:
        """Whether the peer owes the rest of the preface, a frame or a header block."""
        return self._left > 0 or bool(self._partial) or self.in_header_block

    def end_of_turn(self, data: bytes, begin: int, work: int) -> int:
        """Where to cut ``data`` from ``begin`` on: after frames that make so much work, or a bit more; or at its end.

        Only looks.
        """
        position = begin + self._left - len(self._partial)  # where the next frame begins, maybe in an earlier piece
        while work > 0:
            header_end = position + _HEADER_BYTES
            if header_end > len(data):
                return len(data)
            header = data[position:header_end] if position >= begin else self._partial + data[begin:header_end]
            length = int.from_bytes(header[:3], "big")
            position = header_end + length
            work -= _work(header[3], length)
        return min(position, len(data))

    def feed(self, data: bytes) -> Seen:
        """Account for one piece."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        seen = Seen(data)
        kept: list[bytes] | None = None  # only once something was cut out
        position = min(self._left, len(data))
        self._left -= position
        if self._cutting and position:
            kept = [b""]
        start = position if self._cutting else 0
        end = len(data)
        while position < end:
            if end - position < _HEADER_BYTES:
                self._partial = data[position:]
                end = position
                break
            length = int.from_bytes(data[position : position + 3], "big")
            cut = self._header(data[position + 3], data[position + 4], length, seen)
            frame_end = position + _HEADER_BYTES + length
            self._cutting = cut
            self._left = max(frame_end - end, 0)
            if cut:
                kept = [*(kept or ()), data[start:position]]
                start = min(frame_end, end)
            position = min(frame_end, end)
        if kept is not None:
            seen.data = b"".join((*kept, data[start:end]))
        elif end != len(data):
            seen.data = data[:end]
        return seen

    def _header(self, kind: int, flags: int, length: int, seen: Seen) -> bool:
        """Count a frame by its header; whether it is to be cut out."""
        seen.overlong = seen.overlong or length > MAX_FRAME_BYTES
        self.begun += not self.in_header_block
        if kind == Kind.DATA:
            seen.nuisances += not length and not flags & END_STREAM
        elif kind == Kind.HEADERS:
            self._block(flags, length, seen)
        elif kind == Kind.RST_STREAM:
            seen.resets += 1
        elif kind == Kind.GOAWAY:
            seen.going_away = True
            seen.nuisances += self._leaving
            self._leaving = True
            return not self.in_header_block
        elif kind == Kind.CONTINUATION:
            self._block(flags, length, seen)
            seen.nuisances += 1
        else:
            seen.settings = seen.settings or kind == Kind.SETTINGS
            owed = kind in (Kind.SETTINGS, Kind.PING) and flags & _ACK and self.acks_owed > 0
            self.acks_owed -= bool(owed)
            seen.nuisances += not owed
        return False

    def _block(self, flags: int, length: int, seen: Seen) -> None:
        self._block_bytes = self._block_bytes + length if self.in_header_block else length
        self.in_header_block = not flags & _END_HEADERS
        seen.overlong_block = seen.overlong_block or self._block_bytes > self.max_block_bytes


def _work(kind: int, length: int) -> int:
    """What a frame makes us do, in units of the smallest one: 10 µs or so. A call and its handler are worth eight."""
    if kind in (Kind.HEADERS, Kind.CONTINUATION):
        return 8 + (length >> 6)
    return 1 + (length >> 10)


def count_resets(data: bytes | bytearray) -> int:
    """RST_STREAM frames among complete frames of our own."""
    position = resets = 0
    while position < len(data):
        resets += data[position + 3] == Kind.RST_STREAM
        position += _HEADER_BYTES + int.from_bytes(data[position : position + 3], "big")
    return resets
