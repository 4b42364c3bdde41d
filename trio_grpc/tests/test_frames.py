"""Counting frames, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from trio_grpc.frames import COSTS, PREFACE, STREAM_WINDOW, FloodBudget, FrameWatch

_MAX_BLOCK_BYTES = 40
_HEADERS = HeadersFrame(1, b"\x83", flags=["END_HEADERS"])
_GOAWAY = GoAwayFrame(0, last_stream_id=7, additional_data=b"bye")
_FRAMES: list[tuple[Frame, int]] = [  # with their price in flood units
    (SettingsFrame(0), 1),
    (SettingsFrame(0, {4: 1, 5: 16_384}), 3),
    (SettingsFrame(0, flags=["ACK"]), 0),
    (DataFrame(1, b"abc"), 0),
    (DataFrame(1), 0),
    (PingFrame(0, b"12345678"), 1),
    (PingFrame(0, b"12345678", flags=["ACK"]), 0),
    (WindowUpdateFrame(0, 5), 1),
    (RstStreamFrame(1, 8), 2),
    (_GOAWAY, 0),
]


def _serialized(frame: Frame) -> bytes:
    return bytes(frame.serialize())


def _bytewise(frame: Frame) -> list[bytes]:
    return [bytes([byte]) for byte in _serialized(frame)]


@given(st.lists(st.sampled_from(_FRAMES), max_size=12), st.lists(st.integers(1, 30), max_size=20))
def test_pieces_of_any_size_give_the_same(chosen: list[tuple[Frame, int]], cuts: list[int]) -> None:
    stream = PREFACE + b"".join(_serialized(frame) for frame, _ in chosen)
    watch = FrameWatch(_MAX_BLOCK_BYTES, acks_owed=100)
    flood, frames = 0, b""
    position = 0
    for size in [*cuts, len(stream)]:
        seen = watch.feed(stream[position : position + size])
        position += size
        flood += seen.flood
        frames += seen.frames
    goaways = sum(frame is _GOAWAY for frame, _ in chosen)
    assert flood == sum(units for _, units in chosen) + max(goaways - 1, 0)
    assert frames == stream
    assert not watch.mid_frame


@given(st.lists(st.sampled_from(_FRAMES), min_size=1, max_size=12), st.integers(0, 40), st.integers(1, 30))
def test_a_turn_ends_with_a_frame_and_has_the_work_asked_for(
    chosen: list[tuple[Frame, int]], fed: int, work: int
) -> None:
    frames = [_serialized(frame) for frame, _ in chosen]
    whole = PREFACE + b"".join(frames)
    ends = list(itertools.accumulate(map(len, frames), initial=len(PREFACE)))
    fed = min(fed, len(whole) - 1)
    watch = FrameWatch(_MAX_BLOCK_BYTES, acks_owed=100)
    end = len(watch.feed(whole[:fed]).frames) + len(watch.feed(whole[fed:], work).frames)
    assert end in ends
    assert watch.has_more == (end < len(whole))
    begun = [frame for frame, at in zip(frames, ends, strict=False) if at + len(frame) > fed and at < end]
    done = sum(1 + len(frame) // 6 - 1 if frame[3] == 4 else 1 for frame in begun)
    assert done >= work or end == len(whole)
    assert done < work + 8


def test_what_is_begun_is_known() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    begun = [watch.mid_frame]
    for piece in (PREFACE[:10], PREFACE[10:], *_bytewise(DataFrame(1, b"ab"))):
        watch.feed(piece)
        begun.append(watch.mid_frame)
    assert begun == [True, True, False, *[True] * 10, False]


def test_a_header_block_is_begun_until_its_end() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    begun: list[bool] = []
    last = ContinuationFrame(1, b"\x86", flags=["END_HEADERS"])
    for frame in (HeadersFrame(1, b"\x83"), ContinuationFrame(1, b"\x86"), last):
        watch.feed((b"" if begun else PREFACE) + _serialized(frame))
        begun.append(watch.mid_frame)
    assert begun == [True, True, False]


@pytest.mark.parametrize("ack", [SettingsFrame(0, flags=["ACK"]), PingFrame(0, b"12345678", flags=["ACK"])])
def test_acknowledgements_that_nobody_awaits_are_noise(ack: Frame) -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE)
    watch.acks_owed += 1
    assert watch.feed(_serialized(ack) * 2).flood == 0
    assert watch.feed(_serialized(ack) * 3).flood == 3


def test_a_header_block_beyond_its_bound_is_known_before_it_is_whole() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE)
    parts = [HeadersFrame(1, bytes(20)), ContinuationFrame(1, bytes(20)), ContinuationFrame(1, bytes(1))]
    assert [watch.feed(_serialized(part)).violation != "" for part in parts] == [False, False, True]


def test_each_header_block_is_measured_by_itself() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    block = HeadersFrame(1, bytes(39), flags=["END_HEADERS"])
    assert not watch.feed(PREFACE + _serialized(block) * 2).violation


def _price(*frames: Frame) -> int:
    watch = FrameWatch(20_000)
    watch.feed(PREFACE)
    return watch.feed(b"".join(map(_serialized, frames))).flood


def test_headers_cost_by_their_length_and_are_remembered_for_their_call() -> None:
    begin = HeadersFrame(1, bytes(1000))
    rest = [ContinuationFrame(1, bytes(1000)), ContinuationFrame(1, bytes(10), flags=["END_HEADERS"])]
    assert _price(begin, *rest) == 2 + 1000 // 128 + 1 + 1000 // 128 + 1
    watch = FrameWatch(20_000)
    watch.feed(PREFACE + b"".join(map(_serialized, [begin, *rest])))
    assert watch.call_costs == {1: 2 + 2 * (1000 // 128)}
    trailers = HeadersFrame(1, bytes(300), flags=["END_HEADERS", "END_STREAM"])
    assert watch.feed(_serialized(trailers)).flood == 2
    assert watch.call_costs == {1: 2 + 2 * (1000 // 128)}


def test_data_and_trailers_are_noted_with_their_call() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    frames: tuple[Frame, ...] = (_HEADERS, DataFrame(1, b"ab"), DataFrame(3, b"abc"), _HEADERS)
    assert watch.feed(PREFACE + b"".join(map(_serialized, frames))).of_calls == [(1, 2), (3, 3), (1, 1)]


def test_data_in_flight_of_a_refused_call_is_free_within_its_window() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.refused(3, 10.0)
    assert watch.price_of_stray(1, 100, 10.0) == COSTS.STRAY.flood
    whole = [16_384, 16_384, 16_384, 16_383]
    assert sum(whole) == STREAM_WINDOW
    assert [watch.price_of_stray(3, length, 10.5) for length in whole] == [0, 0, 0, 0]
    assert watch.price_of_stray(3, 0, 10.5) == COSTS.STRAY.flood


def test_small_data_in_flight_counts_as_more_than_it_is() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.refused(3, 10.0)
    assert [watch.price_of_stray(3, 0, 10.0) for _ in range(20)] == [0] * 15 + [COSTS.STRAY.flood] * 5


def test_what_comes_long_after_a_refusal_was_not_in_flight() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.refused(3, 10.0)
    assert watch.price_of_stray(3, 4, 12.1) == COSTS.STRAY.flood


def test_a_reset_in_answer_to_a_refusal_is_free_once() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE)
    watch.refused(3, 10.0)
    reset = _serialized(RstStreamFrame(3, 0))
    assert [watch.feed(reset).flood for _ in range(2)] == [0, COSTS.RESET.flood]


def _charged(budget: FloodBudget, units: int, now: float) -> bool:
    """Whether a charge was covered."""
    budget.charge(units, now)
    return budget.left >= 0


def test_a_burst_is_forgiven_and_a_flood_is_not() -> None:
    budget = FloodBudget(burst=10, per_s=1.0, now=0.0)
    assert all(_charged(budget, 1, 0.0) for _ in range(10))
    assert not _charged(budget, 1, 0.0)


def test_the_budget_comes_back_with_time_up_to_the_burst() -> None:
    budget = FloodBudget(burst=10, per_s=1.0, now=0.0)
    assert _charged(budget, 10, 0.0)
    assert _charged(budget, 5, 5.0)
    assert _charged(budget, 10, 1000.0)
    assert not _charged(budget, 1, 1000.0)


def test_progress_gives_back_up_to_the_burst() -> None:
    budget = FloodBudget(burst=10, per_s=0.0, now=0.0)
    assert _charged(budget, 8, 0.0)
    budget.refund(3)
    assert _charged(budget, 5, 0.0)
    budget.refund(1000)
    assert _charged(budget, 10, 0.0)
    assert not _charged(budget, 1, 0.0)
