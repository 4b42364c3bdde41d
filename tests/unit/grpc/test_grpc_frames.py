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

from avion_media.grpc.frames import PREFACE, FrameWatch, Kind, count_resets

_MAX_BLOCK_BYTES = 40
_HEADERS = HeadersFrame(1, b"\x83", flags=["END_HEADERS"])
_GOAWAY = GoAwayFrame(0, last_stream_id=7, additional_data=b"bye")
_FRAMES: list[tuple[Frame, int, int]] = [  # frame, nuisances, resets
    (SettingsFrame(0), 1, 0),
    (SettingsFrame(0, flags=["ACK"]), 0, 0),
    (_HEADERS, 0, 0),
    (DataFrame(1, b"abc"), 0, 0),
    (DataFrame(1), 1, 0),
    (DataFrame(1, flags=["END_STREAM"]), 0, 0),
    (PingFrame(0, b"12345678"), 1, 0),
    (PingFrame(0, b"12345678", flags=["ACK"]), 0, 0),
    (WindowUpdateFrame(0, 5), 1, 0),
    (RstStreamFrame(1, 8), 0, 1),
    (_GOAWAY, 0, 0),
]


def _serialized(frame: Frame) -> bytes:
    return bytes(frame.serialize())


def _bytewise(frame: Frame) -> list[bytes]:
    return [bytes([byte]) for byte in _serialized(frame)]


@given(st.lists(st.sampled_from(_FRAMES), max_size=12), st.lists(st.integers(1, 30), max_size=20))
def test_pieces_of_any_size_give_the_same(chosen: list[tuple[Frame, int, int]], cuts: list[int]) -> None:
    stream = PREFACE + b"".join(_serialized(frame) for frame, _, _ in chosen)
    kept = PREFACE + b"".join(_serialized(frame) for frame, _, _ in chosen if frame is not _GOAWAY)
    watch = FrameWatch(_MAX_BLOCK_BYTES, acks_owed=100)
    passed, nuisances, resets, leaving = b"", 0, 0, False
    position = 0
    for size in [*cuts, len(stream)]:
        seen = watch.feed(stream[position : position + size])
        position += size
        passed += seen.data
        nuisances += seen.nuisances
        resets += seen.resets
        leaving = leaving or seen.going_away
    assert passed == kept
    assert nuisances == sum(count for _, count, _ in chosen) + max(
        sum(frame is _GOAWAY for frame, _, _ in chosen) - 1, 0
    )
    assert resets == sum(count for _, _, count in chosen)
    assert leaving == any(frame is _GOAWAY for frame, _, _ in chosen)
    assert not watch.mid_frame


@given(st.lists(st.sampled_from(_FRAMES), min_size=1, max_size=12), st.integers(0, 40), st.integers(1, 30))
def test_a_turn_ends_with_a_frame_and_has_the_work_asked_for(
    chosen: list[tuple[Frame, int, int]], fed: int, work: int
) -> None:
    frames = [_serialized(frame) for frame, _, _ in chosen]
    whole = PREFACE + b"".join(frames)
    ends = list(itertools.accumulate(map(len, frames), initial=len(PREFACE)))
    fed = min(fed, len(whole) - 1)
    watch = FrameWatch(_MAX_BLOCK_BYTES, acks_owed=100)
    watch.feed(whole[:fed])
    end = fed + watch.end_of_turn(whole[fed:], 0, work)
    assert end in ends
    # Frames whose header had come before were begun by an earlier turn.
    begun = [frame for frame, at in zip(frames, ends, strict=False) if at + 9 > fed and at < end]
    done = sum(8 if frame[3] == Kind.HEADERS else 1 for frame in begun)
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


def test_goaway_within_a_header_block_is_left_for_h2_to_refuse() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE + _serialized(HeadersFrame(1, b"\x83")))
    assert watch.feed(_serialized(_GOAWAY)).data == _serialized(_GOAWAY)


def test_an_overlong_frame_is_known_by_its_header() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE)
    assert not watch.feed(b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + bytes(16_384)).overlong
    assert watch.feed(b"\x00\x40\x01\x00\x00\x00\x00\x00\x01").overlong


def test_our_own_resets_are_counted() -> None:
    frames: list[Frame] = [RstStreamFrame(1, 0), DataFrame(3, bytes(30)), RstStreamFrame(3, 0), SettingsFrame(0)]
    assert count_resets(b"".join(_serialized(frame) for frame in frames)) == 2


@pytest.mark.parametrize("ack", [SettingsFrame(0, flags=["ACK"]), PingFrame(0, b"12345678", flags=["ACK"])])
def test_what_was_not_asked_for_is_a_nuisance(ack: Frame) -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE)
    watch.acks_owed += 1
    assert watch.feed(_serialized(ack) * 2).nuisances == 0
    assert watch.feed(_serialized(ack) * 3).nuisances == 3


def test_a_header_block_beyond_its_bound_is_known_before_it_is_whole() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    watch.feed(PREFACE)
    parts = [HeadersFrame(1, bytes(20)), ContinuationFrame(1, bytes(20)), ContinuationFrame(1, bytes(1))]
    assert [watch.feed(_serialized(part)).overlong_block for part in parts] == [False, False, True]


def test_each_header_block_is_measured_by_itself() -> None:
    watch = FrameWatch(_MAX_BLOCK_BYTES)
    block = HeadersFrame(1, bytes(39), flags=["END_HEADERS"])
    assert not watch.feed(PREFACE + _serialized(block) * 2).overlong_block
