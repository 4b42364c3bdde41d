"""The life of one connection: its states as a table, and its deadlines. No I/O.

HANDSHAKE → PREFACE → OPEN → GOAWAY_SENT → LAST_CALLS → CLOSING → LINGER → CLOSED
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from enum import Enum, auto

from trio_grpc.limits import GrpcLimits

PIECE_BYTES = 64 << 10  # a client must take so many within the write timeout
_LAST_BYTES_S = 1.0  # for the output to leave after an error, and once more for the client to read it
_AGE_JITTER = 0.1
_ACKNOWLEDGE_S = 1.0  # for the client to answer the ping after the first GOAWAY
_CALLS_GRACE_S = 10.0  # for other calls, after streams were ended because of age
_LEAVE_S = 1.0  # of a drain's grace, for the last answers to leave


def calls_end_of_drain(now: float, grace_s: float) -> float:
    """Return when the calls end that are left in a drain: before its grace is over, so that clients learn why."""
    return now + grace_s - min(_LEAVE_S, grace_s / 2)


class ConnectionState(Enum):
    """Where a connection is."""

    HANDSHAKE = auto()  # of TLS
    PREFACE = auto()  # the client's preface and SETTINGS have not come
    OPEN = auto()
    GOAWAY_SENT = auto()  # the first GOAWAY is out, and a ping: calls that crossed it on the wire are served
    LAST_CALLS = auto()  # the final GOAWAY is out: later calls are refused, and clients repeat them elsewhere
    CLOSING = auto()  # nothing is read any more; the output leaves
    LINGER = auto()  # our end of output is out; the client reads the rest, which a close would discard (RFC 9112, 9.6)
    CLOSED = auto()


class Happening(Enum):
    """What leads from one state to another."""

    SECURED = auto()  # the handshake has ended
    SETTLED = auto()  # the client's preface and SETTINGS came
    RETIRED = auto()  # it is to end: a drain, its age, idleness, the client's GOAWAY, or connections are scarce
    ACKNOWLEDGED = auto()  # the client answered the ping after the first GOAWAY, or took too long: no new call can come
    LAST_CALL_ENDED = auto()
    FAILED = auto()  # the client broke the protocol or a limit; GOAWAY has the reason
    WRITTEN = auto()  # all output has left
    GONE = auto()  # reset or end of input; or whatever else makes it useless to go on


_S, _H = ConnectionState, Happening
TABLE: Mapping[ConnectionState, Mapping[Happening, ConnectionState]] = {
    _S.HANDSHAKE: {_H.SECURED: _S.PREFACE, _H.RETIRED: _S.CLOSED, _H.FAILED: _S.LINGER, _H.GONE: _S.CLOSED},
    _S.PREFACE: {_H.SETTLED: _S.OPEN, _H.RETIRED: _S.GOAWAY_SENT, _H.FAILED: _S.CLOSING, _H.GONE: _S.CLOSED},
    _S.OPEN: {_H.RETIRED: _S.GOAWAY_SENT, _H.FAILED: _S.CLOSING, _H.GONE: _S.CLOSED},
    _S.GOAWAY_SENT: {_H.ACKNOWLEDGED: _S.LAST_CALLS, _H.FAILED: _S.CLOSING, _H.GONE: _S.CLOSED},
    _S.LAST_CALLS: {_H.LAST_CALL_ENDED: _S.CLOSING, _H.FAILED: _S.CLOSING, _H.GONE: _S.CLOSED},
    _S.CLOSING: {_H.WRITTEN: _S.LINGER, _H.GONE: _S.CLOSED},
    _S.LINGER: {_H.GONE: _S.CLOSED},
    _S.CLOSED: {},
}  # what is not in it changes nothing
_READING = frozenset({_S.PREFACE, _S.OPEN, _S.GOAWAY_SENT, _S.LAST_CALLS})


class Due(Enum):
    """What a deadline asks the driver to do, if it does not lead to another state."""

    GIVE_UP = auto()  # a frame was begun but not finished
    PING = auto()
    END_STREAMS = auto()  # streams of responses end at a message boundary
    END_CALLS = auto()  # every call that is left ends


class ConnectionLife:
    """The state of one connection, and the clocks that its deadlines depend on."""

    def __init__(self, limits: GrpcLimits, now: float, *, is_tls: bool = False) -> None:
        self.state = ConnectionState.HANDSHAKE if is_tls else ConnectionState.PREFACE
        self.is_reading = not is_tls
        """Whether frames of the client are read."""
        self._limits = limits
        self._retires_at = now + limits.max_age_s * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)
        self._alive_at = self._busy_at = now
        self._pinged_at: float | None = None
        self._owed_since: float | None = now  # since when the client has owed the rest of a frame
        self._is_paused = False
        self._acknowledge_by = self._streams_end = self._calls_end = math.inf  # until the end has begun
        self._stuck_since = math.inf  # the client has taken less than a piece since then
        self._taken_bytes = 0  # since then
        self._ends_at = now + limits.handshake_timeout_s if is_tls else math.inf

    # -- States

    def happened(self, happening: Happening, now: float) -> ConnectionState | None:
        """Return the new state; None when nothing changes."""
        state = TABLE[self.state].get(happening)
        if state is None:
            return None
        self.state, self.is_reading = state, state in _READING
        if state is ConnectionState.PREFACE:
            self._owed_since, self._ends_at = now, math.inf
        elif state is ConnectionState.LINGER or happening is Happening.FAILED:
            self._ends_at = now + _LAST_BYTES_S
        elif state is ConnectionState.GOAWAY_SENT:
            self._acknowledge_by = now + _ACKNOWLEDGE_S
            self._end_by(now + self._limits.max_age_grace_s, now + self._limits.max_age_grace_s + _CALLS_GRACE_S)
        return state

    def drain(self, now: float, grace_s: float) -> None:
        """Streams of responses end now, and every other call before the grace is over."""
        self._end_by(now, calls_end_of_drain(now, grace_s))

    def _end_by(self, streams_end: float, calls_end: float) -> None:
        self._streams_end = min(self._streams_end, streams_end)
        self._calls_end = min(self._calls_end, calls_end)

    def ends_streams(self, now: float) -> bool:
        """Return whether streams of responses have to end, those that begin now included."""
        return now >= self._streams_end

    # -- Clocks

    def received(self, now: float) -> None:
        """Note that bytes came."""
        self._alive_at = now
        self._pinged_at = None

    def sent(self, count: int, left: int, now: float) -> None:
        """Note how many bytes the socket took, and how many are left. The client may owe the answer to a ping still."""
        if count:
            self._alive_at = now
        self._taken_bytes += count
        if not left:
            self._stuck_since = math.inf
        elif self._stuck_since == math.inf or self._taken_bytes >= PIECE_BYTES:
            self._stuck_since, self._taken_bytes = now, 0

    def busy(self, now: float) -> None:
        """Note that a call began or ended."""
        self._busy_at = now

    def idle_since(self, calls: int) -> float:
        """Return when the last call ended; infinite with a call, or once the end has begun."""
        return math.inf if calls or self.state not in (ConnectionState.PREFACE, ConnectionState.OPEN) else self._busy_at

    def owes(self, is_mid_frame: bool, has_begun_one: bool, now: float) -> None:
        """Note whether the client owes the rest of something, and whether that began just now."""
        if not is_mid_frame:
            self._owed_since = None
        elif self._owed_since is None or has_begun_one:
            self._owed_since = now

    def pause(self) -> None:
        """Nothing is read, because the client does not read: what it owes may wait in the kernel."""
        self._is_paused = True

    def resume(self, now: float) -> None:
        """Reading goes on: the clocks start again."""
        self._is_paused = False
        self.received(now)
        if self._owed_since is not None:
            self._owed_since = now

    # -- Deadlines

    def due(self, now: float, calls: int) -> list[Due | Happening]:
        """Return what the clocks ask for now."""
        limits = self._limits
        if now >= min(self._ends_at, self._stuck_since + limits.write_timeout_s):
            return [Happening.GONE] if self.state is not ConnectionState.CLOSED else []
        if not self.is_reading:
            return []
        if self._owed_since is not None and not self._is_paused and now - self._owed_since >= limits.header_timeout_s:
            return [Due.GIVE_UP]
        due: list[Due | Happening] = []
        if self._stuck_since == math.inf and not self._is_paused:
            due += self._keepalive(now)
        if self.idle_since(calls) <= now - limits.idle_timeout_s or now >= self._retires_at:
            due.append(Happening.RETIRED)
        if now >= self._acknowledge_by:
            self._acknowledge_by = math.inf
            due.append(Happening.ACKNOWLEDGED)
        if self.ends_streams(now):
            due.append(Due.END_STREAMS)
        if now >= self._calls_end:
            due.append(Due.END_CALLS)
        return due

    def _keepalive(self, now: float) -> list[Due | Happening]:
        if self._pinged_at is not None:
            return [Happening.GONE] if now - self._pinged_at >= self._limits.keepalive_timeout_s else []
        if now - self._alive_at < self._limits.keepalive_interval_s:
            return []
        self._pinged_at = now
        return [Due.PING]
