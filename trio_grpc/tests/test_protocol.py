"""The protocol core, without I/O: fed by h2's own client, cut at will, and with bytes at random."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import dataclass, field
from unittest.mock import Mock

import h2.connection
import pytest
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from hyperframe.frame import ContinuationFrame, HeadersFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_grpc import Code, GrpcLimits, RpcError
from trio_grpc.frames import PREFACE
from trio_grpc.lifecycle import Happening
from trio_grpc.net import Bound, PeerLimiter, ResourceKind
from trio_grpc.protocol import Protocol
from trio_grpc.stream import CallBegun, CallGone, Event, MessageReceived, RequestEnded
from trio_grpc.wire_format import Message, framed

from .raw_client import data

_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def _core(limits: GrpcLimits, limiter: PeerLimiter) -> Protocol:
    return Protocol(limits, limiter.account("test"), lambda _path: limits.max_message_bytes, 0.0)


def _respond(core: Protocol, stream_id: int, payload: bytes) -> None:
    core.send_message(stream_id, framed(payload))
    core.send_end(stream_id)


@dataclass
class Pair:
    """h2's client and our core, talking."""

    limits: GrpcLimits = field(default_factory=GrpcLimits)
    max_buffered_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        self.now = 0.0
        self.limiter = PeerLimiter({ResourceKind.BUFFERED_BYTES: Bound(self.max_buffered_bytes)})
        self.core = _core(self.limits, self.limiter)
        self.client = h2.connection.H2Connection(H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.events: list[Event] = []
        self.answers: list[object] = []
        self.exchange()

    @property
    def held_bytes(self) -> int:
        """Bytes that the core holds for the connection's calls."""
        return self.limiter.held(ResourceKind.BUFFERED_BYTES)

    def has_failed(self) -> bool:
        """Whether the core has ended the connection."""
        return any(event is Happening.FAILED for event in self.events)

    def exchange(self, piece_bytes: int = 1 << 20) -> list[Event]:
        """Pass on everything in both directions until both are silent; returns the core's new events."""
        new: list[Event] = []
        while True:
            to_core = self.client.data_to_send()
            for start in range(0, len(to_core), piece_bytes):
                new += self.core.receive(to_core[start : start + piece_bytes], self.now)
            to_client = self.core.take_output()
            if to_client:
                self.answers += self.client.receive_data(to_client)
                new += self.core.written(self.now)
            if not to_core and not to_client:
                break
        self.events += new
        return new

    def call(self, body: bytes, stream_id: int = 1) -> None:
        """Send a request with this body."""
        self.client.send_headers(stream_id, _HEADERS)
        while body:
            room = min(self.client.local_flow_control_window(stream_id), 16_384, len(body))
            if not room:
                self.exchange()
                assert self.client.local_flow_control_window(stream_id), "the window stays closed"
                continue
            self.client.send_data(stream_id, body[:room])
            body = body[room:]
        self.client.end_stream(stream_id)

    def kinds(self) -> list[type]:
        """What the client got, by type."""
        return [type(answer) for answer in self.answers]


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 300))
def test_messages_arrive_however_the_bytes_are_cut(payloads: list[bytes], piece_bytes: int) -> None:
    pair = Pair()
    pair.call(b"".join(framed(payload) for payload in payloads))
    events = pair.exchange(piece_bytes)
    assert isinstance(events[0], CallBegun)
    assert [event.message.payload for event in events if isinstance(event, MessageReceived)] == payloads
    assert events[-1] == RequestEnded(1)
    assert pair.held_bytes == sum(len(payload) + 64 for payload in payloads)
    for payload in payloads:
        pair.core.message_taken(1, Message(payload))
    assert pair.held_bytes == 0


def test_a_message_larger_than_the_window_is_let_in() -> None:
    pair = Pair()
    payload = bytes(300_000)
    pair.call(framed(payload))
    pair.exchange()
    assert MessageReceived(1, Message(payload)) in pair.events


def test_a_stream_of_requests_waits_until_its_handler_wants_more() -> None:
    pair = Pair()
    pair.client.send_headers(1, _HEADERS)
    for _ in range(6):
        pair.client.send_data(1, framed(bytes(10_000)))
        pair.exchange()
    closed = pair.client.local_flow_control_window(1)
    pair.core.want_message(1)
    pair.exchange()
    assert pair.client.local_flow_control_window(1) > closed + 50_000


def test_a_response_waits_for_windows_and_ends_in_order() -> None:
    pair = Pair()
    pair.call(framed(b"x"))
    pair.exchange()
    pair.core.send_message(1, framed(bytes(100_000)))
    pair.core.send_message(1, framed(b"last"))
    pair.core.send_end(1)
    pair.exchange()
    assert pair.core.pending_bytes(1) > 30_000
    assert StreamEnded not in pair.kinds()
    pair.client.increment_flow_control_window(200_000)
    pair.client.increment_flow_control_window(200_000, 1)
    pair.exchange()
    assert pair.kinds()[-2:] == [TrailersReceived, StreamEnded]
    body = b"".join(bytes(answer.data) for answer in pair.answers if isinstance(answer, DataReceived))
    assert body == framed(bytes(100_000)) + framed(b"last")
    assert pair.core.calls == 0


def test_output_beyond_the_high_water_waits_for_the_socket() -> None:
    pair = Pair()
    pair.client.increment_flow_control_window(1 << 30)
    pair.client.update_settings({4: 1 << 30})
    pair.call(framed(b"x"))
    pair.exchange()
    pair.core.send_message(1, framed(bytes(1 << 20)))
    assert len(pair.core.take_output()) < 300_000
    assert pair.core.take_output() == b""
    pair.core.written(0.0)
    assert pair.core.take_output()


def test_an_error_while_a_message_waits_comes_after_it() -> None:
    pair = Pair()
    pair.call(framed(b"x"))
    pair.exchange()
    pair.core.send_message(1, framed(bytes(70_000)))
    pair.core.send_end(1, RpcError(Code.ABORTED, "late"))
    pair.client.increment_flow_control_window(100_000)
    pair.client.increment_flow_control_window(100_000, 1)
    pair.exchange()
    trailers = next(answer for answer in pair.answers if isinstance(answer, TrailersReceived))
    assert dict(trailers.headers)[b"grpc-status"] == b"10"


def test_answers_to_calls_that_are_gone_are_ignored() -> None:
    pair = Pair()
    pair.call(framed(b"x"))
    pair.client.reset_stream(1)
    pair.exchange()
    _respond(pair.core, 1, b"late")
    pair.core.send_message(1, framed(b"late"))
    pair.core.send_end(1)
    pair.core.cancel(1)
    pair.core.want_message(1)
    pair.exchange()
    assert not pair.answers or ResponseReceived not in pair.kinds()


def test_a_call_begun_and_reset_in_one_piece_is_never_seen() -> None:
    pair = Pair()
    pair.call(framed(b"x"))
    pair.client.reset_stream(1)
    assert pair.exchange() == []
    assert pair.core.calls == 0


def test_a_window_and_the_reset_of_a_call_that_waits_for_it_in_one_piece_leave_the_connection() -> None:
    pair = Pair()
    for stream_id in (1, 3):
        pair.call(framed(b"x"), stream_id)
    pair.exchange()
    _respond(pair.core, 1, bytes(70_000))
    pair.exchange()
    assert pair.core.pending_bytes(1)
    pair.client.increment_flow_control_window(100_000, 1)
    pair.client.increment_flow_control_window(100_000)
    pair.client.reset_stream(1)
    assert pair.exchange() == [CallGone(1)]
    _respond(pair.core, 3, b"answer")
    pair.exchange()
    assert StreamEnded in pair.kinds()


def test_data_of_a_call_that_was_reset_within_a_frame_is_not_taken_for_another_ones() -> None:
    pair = Pair()
    for stream_id in (1, 3):
        pair.client.send_headers(stream_id, _HEADERS)
    pair.exchange()
    pair.core.receive(data(1, bytes(100)).serialize()[:50], 0.0)
    pair.core.cancel(1)
    pair.core.receive(bytes(59) + data(3, framed(b"x"), end=True).serialize(), 0.0)
    pair.core.receive(data(1, bytes(100)).serialize(), 0.0)
    assert pair.core.receive(b"", 0.0) == []
    assert pair.held_bytes == 1 + 64


def test_nothing_is_sent_after_the_end_of_the_connection() -> None:
    pair = Pair()
    pair.call(framed(b"x"))
    pair.exchange()
    pair.core.send_message(1, framed(bytes(100_000)))
    pair.exchange()
    pair.client.increment_flow_control_window(100_000, 1)
    pair.client.increment_flow_control_window(100_000)
    pair.core.close()
    _respond(pair.core, 1, b"late")
    assert pair.core.output_bytes == 0
    assert pair.held_bytes == 0


def test_an_error_in_a_receiver_comes_out_of_the_library() -> None:
    pair = Pair()
    pair.core._max_message_bytes = Mock(side_effect=ZeroDivisionError)
    pair.call(framed(b"x"))
    with pytest.raises(ZeroDivisionError):
        pair.exchange()


@pytest.mark.parametrize("answered", [False, True])
def test_only_calls_that_were_answered_make_up_for_resets(answered: bool) -> None:
    pair = Pair(GrpcLimits(max_flood_units=100, flood_units_per_s=0.0))
    for stream_id in range(1, 200, 4):
        if answered:
            pair.call(framed(b"x"), stream_id)
            pair.exchange()
            _respond(pair.core, stream_id, b"answer")
            pair.exchange()
        pair.call(framed(b"x"), stream_id + 2)
        pair.exchange()
        if pair.has_failed():
            break
        pair.client.reset_stream(stream_id + 2)
        pair.exchange()
        if pair.has_failed():
            break
    assert pair.has_failed() is not answered


@pytest.mark.parametrize(("timeout", "is_calmed"), [("300m", False), ("30S", True), ("1n", True)])
def test_calls_given_up_at_their_deadline_are_no_attack(timeout: str, is_calmed: bool) -> None:
    pair = Pair(GrpcLimits(max_flood_units=100, flood_units_per_s=0.0))
    for stream_id in range(1, 400, 2):
        pair.client.send_headers(stream_id, [*_HEADERS, ("grpc-timeout", timeout)], end_stream=True)
        pair.exchange()
        if pair.has_failed():
            break
        pair.now += 0.299 if timeout == "300m" else 0.01
        pair.client.reset_stream(stream_id)
        pair.exchange()
        if pair.has_failed():
            break
    assert pair.has_failed() is is_calmed


def test_a_reset_of_a_call_in_flight_is_told() -> None:
    pair = Pair()
    pair.client.send_headers(1, _HEADERS)
    pair.exchange()
    pair.client.reset_stream(1)
    assert pair.exchange() == [CallGone(1)]


def test_what_half_a_message_held_is_given_back_when_it_goes() -> None:
    pair = Pair()
    pair.client.send_headers(1, _HEADERS)
    pair.client.send_data(1, framed(bytes(1000))[:500])
    pair.exchange()
    assert pair.held_bytes == 500
    pair.client.reset_stream(1)
    pair.exchange()
    assert pair.held_bytes == 0


def test_messages_count_as_held_until_their_handler_has_got_them_or_the_call_is_over() -> None:
    pair = Pair(max_buffered_bytes=5000)
    for stream_id in (1, 3, 5):
        pair.client.send_headers(stream_id, _HEADERS)
        pair.client.send_data(stream_id, framed(bytes(1000)))
        pair.exchange()
    assert CallGone(5, Code.RESOURCE_EXHAUSTED) in pair.events
    assert pair.held_bytes == 2 * 1064
    pair.core.message_taken(1, Message(bytes(1000)))
    assert pair.held_bytes == 1064
    pair.core.send_end(3, RpcError(Code.ABORTED))
    pair.core.collect()
    assert pair.held_bytes == 0


def test_what_half_a_message_held_is_given_back_with_the_connection() -> None:
    pair = Pair()
    pair.client.send_headers(1, _HEADERS)
    pair.client.send_data(1, framed(bytes(1000))[:500])
    pair.exchange()
    pair.core.close()
    assert pair.held_bytes == 0


def test_a_cancel_resets_the_call() -> None:
    pair = Pair()
    pair.call(framed(b"x"))
    pair.exchange()
    pair.core.cancel(1)
    pair.exchange()
    assert pair.kinds()[-1] is StreamReset


def test_a_header_block_beyond_what_was_announced_is_not_decoded() -> None:
    pair = Pair()
    pair.core._session.receive = Mock(side_effect=AssertionError)  # type: ignore[method-assign]
    part = bytes(8000)
    parts = [HeadersFrame(1, part), *[ContinuationFrame(1, part)] * 2, ContinuationFrame(1, b"", flags=["END_HEADERS"])]
    (failed,) = pair.core.receive(b"".join(frame.serialize() for frame in parts), pair.now)
    assert failed is Happening.FAILED
    (terminated,) = pair.client.receive_data(pair.core.take_output())
    assert isinstance(terminated, ConnectionTerminated)
    assert terminated.error_code == ErrorCodes.ENHANCE_YOUR_CALM


_PAYLOADS = [b"\x83\x86\x84", bytes(4), bytes(8), b"\0\0\0\0\x01x", b"\0\x04\0\0\0\0"]
_FRAME = st.builds(
    lambda kind, flags, stream_id, payload: (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload
    ),
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 0, 1, 1, 3, 5, 2, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(_PAYLOADS),
    ),
)
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


@settings(max_examples=400)
@given(st.lists(_FRAME, max_size=30), st.integers(1, 200))
def test_frames_at_random_never_raise_and_hold_nothing_afterwards(frames: list[bytes], piece_bytes: int) -> None:
    _feed(PREFACE + _SETTINGS + b"".join(frames), piece_bytes)


@settings(max_examples=200)
@given(st.binary(max_size=400), st.integers(1, 200))
def test_bytes_at_random_never_raise(sent: bytes, piece_bytes: int) -> None:
    _feed(PREFACE + _SETTINGS + sent, piece_bytes)
    _feed(sent, piece_bytes)


def _feed(sent: bytes, piece_bytes: int) -> None:
    limiter = PeerLimiter({ResourceKind.BUFFERED_BYTES: Bound(1 << 20)})
    core = _core(GrpcLimits(), limiter)
    for start in range(0, len(sent), piece_bytes):
        events = core.receive(sent[start : start + piece_bytes], 0.0)
        for event in events:
            if isinstance(event, CallBegun):
                core.send_message(event.stream_id, framed(b"early"))
            elif isinstance(event, RequestEnded):
                _respond(core, event.stream_id, b"answer")
        core.take_output()
        core.written(0.0)
        if any(event is Happening.FAILED for event in events):
            break
    core.close()
    assert limiter.held(ResourceKind.BUFFERED_BYTES) == 0


def test_the_connections_window_returns_also_for_a_frame_whose_call_was_reset_meanwhile() -> None:
    pair = Pair(GrpcLimits(max_streams=1, max_flood_units=1 << 20))
    sent, window = 0, pair.client.outbound_flow_control_window
    for stream_id in itertools.count(1, 2):
        pair.client.send_headers(stream_id, _HEADERS)
        pair.exchange()
        for _ in range(4):
            pair.client.send_data(stream_id, b"\0\0\x3f\xff\xff".ljust(16_000, b"x"))
        whole = pair.client.data_to_send()
        pair.core.receive(whole[:-9000], pair.now)
        pair.core.cancel(stream_id)
        reset = pair.core.take_output()
        pair.core.written(pair.now)
        pair.core.receive(whole[-9000:], pair.now)
        pair.client.receive_data(reset)
        pair.exchange()
        sent += 64_000
        if sent > 2 * window:
            break
    assert not pair.has_failed()
    assert pair.client.outbound_flow_control_window > window / 3


def test_trailers_that_wait_for_a_window_are_reset_when_it_does_not_come() -> None:
    pair = Pair()
    pair.call(framed(b""))
    pair.exchange()
    pair.core.send_message(1, framed(bytes(65_535 - 5)))  # all of the window
    pair.exchange()
    pair.core.reset_stalled(60.0)
    pair.core.send_end(1)
    pair.exchange()
    assert pair.core.calls == 1
    pair.now = 89.0  # their time begins with them, not with the message before
    assert not pair.core.reset_stalled(pair.now)
    while pair.core.calls and pair.now < 100:
        pair.now += 1
        pair.core.reset_stalled(pair.now)
    assert pair.core.calls == 0


def test_a_message_of_which_the_client_has_a_part_is_followed_by_a_reset_not_by_trailers() -> None:
    pair = Pair()
    pair.client.send_headers(1, _HEADERS)
    pair.exchange()
    pair.core.send_message(1, framed(bytes(100_000)))
    pair.exchange()  # as much as the window takes
    pair.client.send_data(1, b"\0\xff\xff\xff\xff")  # of a request that is too large
    pair.exchange()
    assert CallGone(1, Code.CANCELLED) in pair.events
    assert StreamReset in pair.kinds()
    assert TrailersReceived not in pair.kinds()


def test_requests_that_no_handler_reads_leave_room_for_others() -> None:
    pair = Pair()
    for stream_id in range(1, 200, 2):
        pair.client.send_headers(stream_id, _HEADERS)
        for _ in range(4):
            pair.client.send_data(stream_id, b"\0\0\x3f\xff\xff".ljust(16_383, b"x"))
        pair.exchange()
    assert not pair.has_failed()
    assert pair.client.outbound_flow_control_window > 65_535


_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN = 65, 1


def test_no_memory_is_writable_and_executable() -> None:
    script = f"""
import ctypes
if ctypes.CDLL(None).prctl({_PR_SET_MDWE}, {_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0):
    raise SystemExit("before Linux 6.3")
from trio_grpc import GrpcLimits, GrpcServer
from trio_grpc.http2 import Session
assert Session(None, GrpcLimits()).first_frames
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "before Linux 6.3" in ended.stderr:
        pytest.skip("the kernel cannot refuse it")
    assert ended.returncode == 0, ended.stderr
