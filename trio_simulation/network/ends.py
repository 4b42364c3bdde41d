"""The two ends of a connection, and what is on its way between them.

The figures and the order of errors are those of Linux; `tests/test_sockets.py` asks both the same questions.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from ..processes import Process

if TYPE_CHECKING:
    from .network import Network
    from .polling import SimulatedPoll

Address = tuple[str, int]

# Until then Linux repeats what is not acknowledged (15 retries of at most 120 s each, tcp(7): tcp_retries2).
RETRANSMISSION_S = 924.6
# What the two kernels hold of what is not read yet. With the options of Trio's streams, Linux holds about as much.
CAPACITY_BYTES = 160 * 1024


class Kind(Enum):
    """What one end sends to the other."""

    DATA = "data"
    EOF = "eof"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Segment:
    """Something on its way."""

    due_at: float
    kind: Kind
    data: bytes = b""


class End:
    """One end of a connection, as the kernel of its machine has it."""

    peer: End

    def __init__(self, network: Network, process: Process, number: int, local: Address, remote: Address) -> None:
        self.process = process
        self.node = process.node
        self.name = f"{process.node.name}#{number}"
        self.local = local
        self.remote = remote
        self.closed = False
        self.did_send_eof = False
        self.encrypted = False
        self._network = network
        self._received = bytearray()
        self._got_eof = False
        self._does_not_read = False
        self._error: int | None = None
        self._broken = False
        self._room = CAPACITY_BYTES
        self._room_to_report = 0
        self.polls: dict[SimulatedPoll, None] = {}
        self._readable = trio.lowlevel.ParkingLot()
        self._writable = trio.lowlevel.ParkingLot()
        self._way = Way(network, self)
        process.ends[self] = None

    # --- what the program does

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Take as much as there is room for; BlockingIOError if there is none."""
        self._raise_error()
        if self.did_send_eof or self._broken:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        taken = bytes(data[: self._room])
        if data and not taken:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if taken:
            self._room -= len(taken)
            self._way.send(Kind.DATA, taken)
        return len(taken)

    def receive(self, max_bytes: int, *, peek: bool = False) -> bytes:
        """Return what has arrived, b"" at its end; BlockingIOError if nothing has."""
        if self._received:
            data = bytes(self._received[:max_bytes])
            if not peek:
                del self._received[: len(data)]
                self._report_room(len(data))
            return data
        self._raise_error()
        if self._got_eof or self._does_not_read or self._broken:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def shut_down(self, *, reading: bool, writing: bool) -> None:
        """Send an end of the data, or read nothing more."""
        if self._broken:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if reading:
            self._does_not_read = True
            self._readable.unpark_all()
        if writing and not self.did_send_eof:
            self.did_send_eof = True
            self._way.send(Kind.EOF)
            self._writable.unpark_all()

    def close(self) -> None:
        """Close it: with a reset if the program has not read everything, as Linux does. Safe to repeat."""
        if self.closed:
            return
        if self._received:
            self.abort()
            return
        if not (self.did_send_eof or self._broken):
            self._way.send(Kind.EOF)
        self._end()

    def abort(self) -> None:
        """Close it with a reset."""
        if not (self._broken or self.closed):
            self._way.send(Kind.RESET)
        self._end()

    def vanish(self) -> None:
        """Be gone without a word, as at a loss of power."""
        self._way.forget()
        self._end()

    def _end(self) -> None:
        self.closed = True
        self.process.ends.pop(self, None)
        self._wake()

    async def until_readable(self) -> None:
        """Wait until `receive` might return something."""
        await self._readable.park()

    async def until_writable(self) -> None:
        """Wait until `send` might take something."""
        await self._writable.park()

    def room(self) -> int:
        """Return how much `send` takes; BlockingIOError if it is nothing."""
        if not self.has_room:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return max(1, self._room)

    @property
    def has_room(self) -> bool:
        """Whether `send` would not block."""
        return self._room > 0 or self._broken or self.did_send_eof or self._error is not None

    @property
    def is_readable(self) -> bool:
        """Whether `receive` would not block."""
        return bool(self._received) or self._got_eof or self._does_not_read or self._broken

    @property
    def has_error(self) -> bool:
        """Whether an error waits for the next call."""
        return self._error is not None

    @property
    def is_over_for_both(self) -> bool:
        """Whether neither side can send."""
        return self._broken or (self._got_eof and self.did_send_eof)

    @property
    def over(self) -> bool:
        """Whether nothing can arrive here any more."""
        return self.closed or self._broken

    def take_error(self) -> int:
        """Return the pending error once, or 0 (SO_ERROR)."""
        error, self._error = self._error, None
        return error or 0

    def _raise_error(self) -> None:
        if error := self.take_error():
            raise OSError(error, os.strerror(error))

    def _report_room(self, size: int) -> None:
        """Acknowledge. The report takes no time, but does not pass a cut."""
        self._room_to_report += size
        if self._network.links.open(self.node, self.peer.node):
            self.report_held_room()
        else:
            self._network.hold_report(self)

    def report_held_room(self) -> None:
        """Let the peer send what has been read meanwhile."""
        self.peer.gain_room(self._room_to_report)
        self._room_to_report = 0

    # --- what the network does

    def gain_room(self, size: int) -> None:
        """Send that much more."""
        self._room += size
        self._writable.unpark_all()
        self._notify()

    def arrive(self, segment: Segment) -> None:
        """Take what the peer sent."""
        if segment.kind is Kind.RESET:
            self.fail(errno.ECONNRESET)
        elif segment.kind is Kind.EOF:
            self._got_eof = True
        elif self.closed:
            self._way.send(Kind.RESET)
        else:
            self._received += segment.data
        self._readable.unpark_all()
        self._notify()

    def fail(self, error: int) -> None:
        """End it with an error, which the next call of the program raises."""
        if not (self._broken or self.closed):
            self._error = error
            self._broken = True
            self._way.forget()
            self._wake()

    def reset(self) -> None:
        """Break it on both sides, as a firewall does that sends a reset to each."""
        self.fail(errno.ECONNRESET)
        self.peer.fail(errno.ECONNRESET)

    def hang(self) -> None:
        """Lose everything that either side sends from now on."""
        self._way.lose_all()
        self.peer._way.lose_all()

    def _wake(self) -> None:
        self._readable.unpark_all()
        self._writable.unpark_all()
        self._notify()

    def _notify(self) -> None:
        for poll in self.polls:
            poll.notify()


class Way:
    """What is on its way from one end to the other, in order."""

    def __init__(self, network: Network, source: End) -> None:
        self._network = network
        self._source = source
        self._segments: deque[Segment] = deque()
        self._expected = False
        self._lost = False
        self._stalled_since: float | None = None

    def send(self, kind: Kind, data: bytes = b"") -> None:
        """Let it arrive after a delay, and after everything sent before it."""
        source, target = self._source.node, self._source.peer.node
        due_at = trio.current_time() + self._network.links.delay_s(source, target)
        if self._segments:
            due_at = max(due_at, self._segments[-1].due_at)
        self._segments.append(Segment(due_at, kind, data))
        self._expect()

    def _expect(self) -> None:
        if self._segments and not self._expected:
            self._expected = True
            self._network.postman.call_at(self._segments[0].due_at, self._arrived)

    def _arrived(self) -> None:
        self._expected = False
        if self._lost or not self._network.links.open(self._source.node, self._source.peer.node):
            self._stall()
            return
        self._stalled_since = None
        now = trio.current_time()
        while self._segments and self._segments[0].due_at <= now:
            segment = self._segments.popleft()
            self._network.note(self._source, segment)
            self._source.peer.arrive(segment)
        self._expect()

    def _stall(self) -> None:
        if self._stalled_since is None:
            self._stalled_since = since = trio.current_time()
            self._network.postman.call_at(since + RETRANSMISSION_S, lambda: self._end_retries(since))
        if not self._lost:
            self._network.stall(self)

    def go_on(self) -> None:
        """Try again after a cut."""
        if self._segments and not self._expected:
            self._expected = True
            delay_s = self._network.links.delay_s(self._source.node, self._source.peer.node)
            self._network.postman.call_at(trio.current_time() + delay_s, self._arrived)

    def _end_retries(self, since: float) -> None:
        if self._stalled_since == since:
            self._source.fail(errno.ETIMEDOUT)

    def lose_all(self) -> None:
        """Deliver nothing any more."""
        self._lost = True

    def forget(self) -> None:
        """Send nothing of it any more: the connection is broken."""
        self._segments.clear()
        self._stalled_since = None
