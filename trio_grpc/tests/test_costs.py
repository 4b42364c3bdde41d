"""The cost table held to what happens: a flood of each row ends after the frames that the table predicts.

Per flood unit the core may make so many calls of Python's and keep so many bytes: both are the same on every machine.
"""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from trio_grpc import Code, GrpcLimits, RpcError
from trio_grpc.frames import COSTS, PREFACE
from trio_grpc.http2 import STREAMS_BEFORE_SETTINGS
from trio_grpc.lifecycle import Happening
from trio_grpc.net import Bound, PeerLimiter, ResourceKind
from trio_grpc.protocol import Protocol
from trio_grpc.stream import CallBegun
from trio_grpc.wire_format import framed

from .raw_client import REQUEST, data, window_update

_BUDGET = 1000
_MAX_CALLS_PER_UNIT = 160
_MAX_KEPT_PER_UNIT = 1024
_CALL = COSTS.CALL.flood  # six fields and few bytes: nothing more


class Attack:
    """A core, and what an attacker sends to it."""

    def __init__(self) -> None:
        self.limiter = PeerLimiter({ResourceKind.BUFFERED_BYTES: Bound(64 << 20)})
        limits = GrpcLimits(max_flood_units=_BUDGET, flood_units_per_s=0.0)
        account = self.limiter.account("attacker")
        self.core = Protocol(limits, account, lambda _path: limits.max_message_bytes, 0.0)
        self.encoder = Encoder()
        self.stream_id = -1
        self.has_failed = False
        self.on_call: Callable[[int], None] = lambda _stream_id: None
        self.send(PREFACE, SettingsFrame(0), SettingsFrame(0, flags=["ACK"]))

    def send(self, *pieces: Frame | bytes) -> None:
        """Have the core take this in; calls are answered as ``on_call`` says."""
        piece = b"".join(each if isinstance(each, bytes) else each.serialize() for each in pieces)
        for event in self.core.receive(piece, 0.0):
            self.has_failed = self.has_failed or event is Happening.FAILED
            if isinstance(event, CallBegun):
                self.on_call(event.stream_id)
        self.core.take_output()
        self.core.written(0.0)

    def head(self, *, end: bool = False, more: tuple[tuple[str, str], ...] = ()) -> HeadersFrame:
        """The headers of another call."""
        self.stream_id += 2
        frame = HeadersFrame(self.stream_id, self.encoder.encode([*REQUEST, *more]), flags=["END_HEADERS"])
        if end:
            frame.flags.add("END_STREAM")
        return frame

    def refuse(self, stream_id: int) -> None:
        """Answer a call before its request has come."""
        self.core.send_end(stream_id, RpcError(Code.UNIMPLEMENTED))

    def settings_frame(self, entries: int) -> bytes:
        """SETTINGS with entries that nobody knows."""
        payload = b"".join((0x100 + n).to_bytes(2, "big") + b"\0\0\0\1" for n in range(entries))
        return len(payload).to_bytes(3, "big") + b"\x04\0\0\0\0\0" + payload


@dataclass(frozen=True)
class Row:
    """``step`` is repeated; each costs ``units``, except the first ``free`` ones. ``setup`` costs ``before``."""

    name: str
    step: Callable[[Attack], object]
    units: int
    setup: Callable[[Attack], object] = lambda _attack: None
    before: int = 0
    free: int = 0


def _open_call(attack: Attack) -> None:
    attack.send(attack.head())


def _message_begun(attack: Attack) -> None:
    attack.send(attack.head(), data(1, b"\0" + (1 << 20).to_bytes(4, "big") + bytes(1019)))


def _refused_call(attack: Attack) -> None:
    attack.on_call = attack.refuse
    attack.send(attack.head())


def _closed_call(attack: Attack) -> None:
    attack.on_call = attack.refuse
    attack.send(attack.head(end=True))


def _response_without_window(attack: Attack) -> None:
    attack.send(SettingsFrame(0, {4: 0}), attack.head())
    attack.core.send_head(1)
    attack.core.send_message(1, framed(bytes(100_000)))


def _many_without_window(attack: Attack) -> None:
    attack.send(SettingsFrame(0, {4: 0}))
    for _ in range(40):
        attack.send(attack.head())
        attack.core.send_message(attack.stream_id, framed(bytes(1000)))


def _more_headers(attack: Attack) -> None:
    attack.send(HeadersFrame(1, attack.encoder.encode([("x", "y")]), flags=["END_HEADERS", "END_STREAM"]))


def _data_after_reset(attack: Attack) -> None:
    attack.send(attack.head(), RstStreamFrame(attack.stream_id, 8), *[data(attack.stream_id)] * 10)


def _beyond_length(attack: Attack) -> None:
    head = attack.head(more=(("content-length", "1"),))
    attack.send(head, data(attack.stream_id, b"ab"), *[data(attack.stream_id)] * 9)


def _malformed(attack: Attack) -> None:
    attack.send(attack.head(more=(("connection", "close"),)))


def _malformed_trailers(attack: Attack) -> None:
    head = attack.head()
    attack.send(head, HeadersFrame(head.stream_id, b"\x83", flags=["END_HEADERS", "END_STREAM"]))


def _malformed_in_parts(attack: Attack) -> None:
    head = attack.head(more=(("connection", "close"),))
    first = HeadersFrame(head.stream_id, head.data[:1])
    attack.send(first, ContinuationFrame(head.stream_id, head.data[1:], flags=["END_HEADERS"]))


def _padded(attack: Attack) -> None:
    frame = data(1)
    frame.flags.add("PADDED")
    frame.pad_length = 255
    attack.send(frame)


def _all_streams(attack: Attack) -> None:
    for _ in range(100):
        attack.send(attack.head())


ROWS = [
    Row("HEADERS and RST_STREAM", lambda a: a.send(a.head(), RstStreamFrame(a.stream_id, 8)), _CALL + 2),
    Row("HEADERS, RST_STREAM, DATA", _data_after_reset, _CALL + 2 + 2 * 10),
    Row("HEADERS, DATA beyond their content-length", _beyond_length, _CALL + 2 + 2 * 10),
    Row("HEADERS that are malformed", _malformed, _CALL + 2),
    Row("HEADERS and trailers that are malformed", _malformed_trailers, _CALL + 2 + 2),
    Row("HEADERS and CONTINUATION, malformed", _malformed_in_parts, _CALL + 1 + 2),
    Row(
        "HEADERS of 160 fields",
        lambda a: a.send(a.head(more=(("x", "y"),) * 154), RstStreamFrame(a.stream_id, 8)),
        _CALL + 160 // 8 + 154 // 128 + 5 + 2,  # 5 KiB of a header list
    ),
    Row(
        "HEADERS that refer to 13 KiB",
        lambda a: a.send(a.head(more=(("x", "y" * 3400),) * 4), RstStreamFrame(a.stream_id, 8)),
        _CALL + 10 // 8 + 13 + 2,
        lambda a: a.send(a.head(more=(("x", "y" * 3400),))),
        _CALL + 2975 // 128 + 3,
    ),
    Row("DATA of 800 empty messages", lambda a: a.send(data(1, framed(b"") * 800)), 800 // 8, _open_call, _CALL),
    Row("HEADERS beyond the streams", lambda a: a.send(a.head()), _CALL + 2, _all_streams, 100 * _CALL),
    Row("HEADERS that are answered", lambda a: a.send(a.head(end=True)), 0, _closed_call),
    Row("HEADERS that are refused", lambda a: a.send(a.head()), 0, _refused_call),
    Row("DATA that is empty", lambda a: a.send(data(1)), 1, _open_call, _CALL),
    Row("DATA of a few bytes", lambda a: a.send(data(1, bytes(100))), 1, _message_begun, _CALL),
    Row("DATA of padding", _padded, 1, _open_call, _CALL),
    Row("DATA of a refused call", lambda a: a.send(data(1)), 2, _refused_call, free=15),
    Row("DATA of a call that has ended", lambda a: a.send(data(1)), 2, _closed_call, free=15),
    Row("HEADERS of a call that has ended", _more_headers, 2, _closed_call, free=15),
    Row("WINDOW_UPDATE", lambda a: a.send(window_update(0, 1)), 1),
    Row("WINDOW_UPDATE of one byte", lambda a: a.send(window_update(1, 1)), 3, _response_without_window, _CALL + 2),
    Row("SETTINGS that are empty", lambda a: a.send(SettingsFrame(0)), 1),
    Row("SETTINGS of 32 entries", lambda a: a.send(a.settings_frame(32)), 33),
    Row("SETTINGS, 40 calls wait", lambda a: a.send(SettingsFrame(0)), 1, _many_without_window, 40 * _CALL + 2),
    Row("PING", lambda a: a.send(PingFrame(0, bytes(8))), 1),
    Row("PING ACK", lambda a: a.send(PingFrame(0, bytes(8), flags=["ACK"])), 1),
    Row("PRIORITY", lambda a: a.send(PriorityFrame(9, 3)), 1),
    Row("an unknown type", lambda a: a.send(b"\0\0\0\xee\0\0\0\0\0"), 1),
    Row("GOAWAY", lambda a: a.send(GoAwayFrame(0)), 1, free=1),
    Row("RST_STREAM of a call that has ended", lambda a: a.send(RstStreamFrame(1, 8)), 2, _closed_call, free=1),
]
_SETTINGS = 1  # the first ones, which every client sends


def _each(rows: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


@_each(ROWS)
def test_a_flood_ends_after_the_frames_that_the_table_predicts(row: Row) -> None:
    attack = Attack()
    row.setup(attack)
    sent = 0
    while not attack.has_failed and sent < 3 * _BUDGET:
        row.step(attack)
        sent += 1
    left = _BUDGET - _SETTINGS - row.before
    assert sent == (row.free + left // row.units + 1 if row.units else 3 * _BUDGET)


def test_a_block_that_expands_beyond_the_limit_costs_no_more_than_the_limit() -> None:
    attack = Attack()
    attack.send(attack.head(more=(("x", "y" * 3000),)))
    piece = HeadersFrame(3, b"\xbe" * 16_000, flags=["END_HEADERS"]).serialize()
    with _Calls() as calls:
        attack.send(piece)
    assert attack.has_failed
    assert calls.count < 500


def test_who_never_acknowledges_our_settings_is_refused_for_free_only_for_a_while() -> None:
    attack = Attack()
    attack.core._early_refusals = STREAMS_BEFORE_SETTINGS  # as if its acknowledgement had not come
    _all_streams(attack)
    sent = 0
    while not attack.has_failed:
        attack.send(attack.head())
        sent += 1
    left = _BUDGET - _SETTINGS - 100 * _CALL
    assert sent == STREAMS_BEFORE_SETTINGS + left // (_CALL + 2) + 1


class _Calls:
    """Counts the calls that Python makes while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> _Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, _frame: FrameType, event: str, _arg: object) -> None:
        self.count += event in ("call", "c_call")


@_each([row for row in ROWS if row.units])
def test_a_unit_is_worth_a_bounded_number_of_calls(row: Row) -> None:
    attack = Attack()
    row.setup(attack)
    pieces: list[bytes] = []
    receive = attack.core.receive
    calls = _Calls()

    def counted(piece: bytes, now: float) -> object:
        pieces.append(piece)
        with calls:
            return receive(piece, now)

    attack.core.receive = counted  # type: ignore[method-assign, assignment]
    for _ in range(row.free + _BUDGET // (2 * row.units)):
        row.step(attack)
    assert not attack.has_failed
    assert calls.count <= _MAX_CALLS_PER_UNIT * _BUDGET / 2


@_each([row for row in ROWS if row.units])
def test_a_unit_leaves_little_behind_and_a_connection_nothing(row: Row) -> None:
    attack = Attack()
    row.setup(attack)
    steps = (_BUDGET - row.before - 20) // row.units
    gc.freeze()  # all other tests are no garbage: to look through them takes a second
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(steps):
        row.step(attack)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    gc.unfreeze()
    assert not attack.has_failed
    assert kept <= _MAX_KEPT_PER_UNIT * steps * row.units
    attack.core.close()
    assert attack.limiter.held(ResourceKind.BUFFERED_BYTES) == 0


@given(st.lists(st.tuples(st.lists(st.integers(1024, 3000), max_size=6), st.booleans()), max_size=20), st.randoms())
def test_calls_that_are_answered_get_back_what_they_were_charged(
    calls: list[tuple[list[int], bool]], chance: random.Random
) -> None:
    attack = Attack()
    before = attack.core._flood.left
    for sizes, has_window_update in calls:
        length = sum(sizes)
        pieces: list[Frame] = [attack.head(), data(attack.stream_id, b"\0" + length.to_bytes(4, "big"))]
        pieces += [data(attack.stream_id, bytes(size)) for size in sizes]
        if has_window_update:
            pieces.append(window_update(attack.stream_id, 1))
        attack.send(*pieces, data(attack.stream_id, end=True))
    open_calls = list(range(1, attack.stream_id + 1, 2))
    chance.shuffle(open_calls)
    for stream_id in open_calls:
        attack.refuse(stream_id)
    attack.core.collect()
    assert not attack.has_failed
    assert attack.core._flood.left == before
