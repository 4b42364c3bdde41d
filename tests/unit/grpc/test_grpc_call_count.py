"""Shares of the handlers."""

from __future__ import annotations

from avion_media.grpc.call_count import CallCount


def _begun(count: CallCount, peer: str, *, is_stream: bool = False) -> int:
    begun = 0
    while count.begin(peer, is_stream=is_stream):
        begun += 1
    return begun


def test_one_peer_leaves_the_rest_to_others() -> None:
    count = CallCount(10, 6)
    assert _begun(count, "a") == 6
    assert _begun(count, "b") == 4
    assert count.total == 10


def test_streams_leave_a_quarter_to_calls_that_end() -> None:
    count = CallCount(10, 8)
    assert _begun(count, "a", is_stream=True) == 6
    assert _begun(count, "b", is_stream=True) == 1
    assert _begun(count, "a") == 2
    assert _begun(count, "b") == 1


def test_a_share_for_each_peer_larger_than_all_is_all() -> None:
    count = CallCount(8, 500)
    assert _begun(count, "a", is_stream=True) == 6
    assert _begun(count, "a") == 2


def test_the_smallest_bound_still_lets_a_stream_in() -> None:
    assert _begun(CallCount(1, 1), "a", is_stream=True) == 1


def test_what_has_ended_leaves_room_and_nothing_else() -> None:
    count = CallCount(4, 4)
    for is_stream in (True, False):
        begun = _begun(count, "a", is_stream=is_stream)
        for _ in range(begun):
            count.end("a", is_stream=is_stream)
    assert count.total == 0
    assert _begun(count, "a", is_stream=True) == 3
