"""The life of a connection: every state and happening, and each deadline."""

from __future__ import annotations

import math

import pytest

from trio_grpc.lifecycle import TABLE, ConnectionLife, ConnectionState, Due, Happening
from trio_grpc.limits import GrpcLimits

_LIMITS = GrpcLimits(max_age_s=1e9, max_age_grace_s=50.0)
_PATH: dict[ConnectionState, list[Happening]] = {
    ConnectionState.HANDSHAKE: [],
    ConnectionState.PREFACE: [],
    ConnectionState.OPEN: [Happening.SETTLED],
    ConnectionState.GOAWAY_SENT: [Happening.SETTLED, Happening.RETIRED],
    ConnectionState.LAST_CALLS: [Happening.SETTLED, Happening.RETIRED, Happening.ACKNOWLEDGED],
    ConnectionState.CLOSING: [Happening.FAILED],
    ConnectionState.LINGER: [Happening.FAILED, Happening.WRITTEN],
    ConnectionState.CLOSED: [Happening.GONE],
}
# By hand from the design: where each happening leads in each state, in the order of `Happening`; a dot changes nothing.
_DESIGN = {
    ConnectionState.HANDSHAKE: "PREFACE . CLOSED . . LINGER . CLOSED",
    ConnectionState.PREFACE: ". OPEN GOAWAY_SENT . . CLOSING . CLOSED",
    ConnectionState.OPEN: ". . GOAWAY_SENT . . CLOSING . CLOSED",
    ConnectionState.GOAWAY_SENT: ". . . LAST_CALLS . CLOSING . CLOSED",
    ConnectionState.LAST_CALLS: ". . . . CLOSING CLOSING . CLOSED",
    ConnectionState.CLOSING: ". . . . . . LINGER CLOSED",
    ConnectionState.LINGER: ". . . . . . . CLOSED",
    ConnectionState.CLOSED: ". . . . . . . .",
}


def _in_state(state: ConnectionState, now: float = 0.0, limits: GrpcLimits = _LIMITS) -> ConnectionLife:
    life = ConnectionLife(limits, now, is_tls=state is ConnectionState.HANDSHAKE)
    for happening in _PATH[state]:
        life.happened(happening, now)
    life.owes(False, False, now)
    assert life.state is state
    return life


@pytest.mark.parametrize("state", ConnectionState)
@pytest.mark.parametrize(("index", "happening"), list(enumerate(Happening)))
def test_every_happening_in_every_state_leads_where_the_design_says(
    state: ConnectionState, index: int, happening: Happening
) -> None:
    life = _in_state(state)
    expected = _DESIGN[state].split()[index]
    assert life.happened(happening, 0.0) is (None if expected == "." else ConnectionState[expected])
    assert life.state is (state if expected == "." else ConnectionState[expected])
    assert set(TABLE) == set(ConnectionState)


def _first_due(life: ConnectionLife, due: Due | Happening, *, calls: int = 1, horizon_s: int = 2000) -> float:
    """The first second at which this is asked for; everything that was asked for before is done."""
    for now in range(horizon_s):
        for each in life.due(float(now), calls):
            if each is due:
                return now
            if each is Due.PING:
                life.received(float(now))
            elif isinstance(each, Happening):
                life.happened(each, float(now))
    return math.inf


def test_a_frame_that_was_begun_has_to_end() -> None:
    assert _first_due(ConnectionLife(_LIMITS, 0.0), Due.GIVE_UP) == 10
    life = _in_state(ConnectionState.OPEN)
    life.owes(True, True, 5.0)
    life.owes(True, False, 9.0)
    assert _first_due(life, Due.GIVE_UP) == 15
    life.owes(True, True, 9.0)
    assert _first_due(life, Due.GIVE_UP) == 19


def test_what_the_client_owes_is_not_asked_for_while_nothing_is_read() -> None:
    life = _in_state(ConnectionState.OPEN)
    life.owes(True, True, 0.0)
    life.pause()
    assert life.due(500.0, 1) == []
    life.resume(500.0)
    assert life.due(509.0, 1) == []
    assert life.due(510.0, 1) == [Due.GIVE_UP]


def test_a_silent_client_is_pinged_and_abandoned() -> None:
    life = _in_state(ConnectionState.OPEN)
    assert life.due(59.0, 1) == []
    assert life.due(60.0, 1) == [Due.PING]
    assert life.due(79.0, 1) == []
    assert life.due(80.0, 1) == [Happening.GONE]


def test_a_client_that_takes_bytes_slowly_is_not_pinged() -> None:
    life = _in_state(ConnectionState.OPEN)
    life.sent(0, 1 << 20, 50.0)
    assert life.due(79.0, 1) == []
    life.sent(64 << 10, 1 << 10, 79.0)
    assert life.due(108.0, 1) == []
    life.sent(1 << 10, 0, 108.0)
    assert life.due(167.0, 1) == []
    assert life.due(168.0, 1) == [Due.PING]


def test_a_client_that_takes_less_than_a_piece_within_the_timeout_is_abandoned() -> None:
    life = _in_state(ConnectionState.OPEN)
    life.sent(0, 1 << 20, 5.0)
    life.sent(60 << 10, 1 << 20, 30.0)
    assert life.due(34.0, 1) == []
    assert life.due(35.0, 1) == [Happening.GONE]
    life.sent(4 << 10, 1 << 20, 34.0)
    assert life.due(63.0, 1) == []
    assert life.due(64.0, 1) == [Happening.GONE]


def test_a_client_that_takes_bytes_is_alive_but_owes_the_answer_to_an_earlier_ping() -> None:
    life = _in_state(ConnectionState.OPEN)
    life.sent(1, 0, 50.0)
    assert life.due(109.0, 1) == []
    assert life.due(110.0, 1) == [Due.PING]
    life.sent(1, 0, 120.0)
    assert life.due(130.0, 1) == [Happening.GONE]


def test_an_idle_connection_retires_and_one_with_a_call_does_not() -> None:
    life = _in_state(ConnectionState.OPEN)
    assert _first_due(life, Happening.RETIRED, calls=1) == math.inf
    assert _first_due(life, Happening.RETIRED, calls=0) == 900


def test_an_old_connection_retires_with_its_calls() -> None:
    life = _in_state(ConnectionState.OPEN, limits=GrpcLimits(max_age_s=100.0))
    assert 90 <= _first_due(life, Happening.RETIRED) <= 110


def test_the_final_goaway_waits_a_second_for_the_client() -> None:
    assert _first_due(_in_state(ConnectionState.GOAWAY_SENT), Happening.ACKNOWLEDGED) == 1


@pytest.mark.parametrize("state", [ConnectionState.GOAWAY_SENT, ConnectionState.LAST_CALLS])
def test_after_its_age_streams_have_the_grace_and_other_calls_ten_seconds_more(state: ConnectionState) -> None:
    assert _first_due(_in_state(state), Due.END_STREAMS) == 50
    assert _first_due(_in_state(state), Due.END_CALLS) == 60


def test_a_drain_ends_streams_at_once_and_other_calls_before_its_grace() -> None:
    life = _in_state(ConnectionState.LAST_CALLS)
    life.drain(5.0, 25.0)
    assert life.ends_streams(5.0)
    assert _first_due(life, Due.END_CALLS) == 29


def test_a_drain_never_gives_more_time_than_the_age() -> None:
    life = _in_state(ConnectionState.LAST_CALLS)
    life.drain(0.0, 1000.0)
    assert _first_due(life, Due.END_CALLS) == 60


@pytest.mark.parametrize(
    ("state", "after_s"), [(ConnectionState.HANDSHAKE, 10), (ConnectionState.CLOSING, 1), (ConnectionState.LINGER, 1)]
)
def test_a_state_without_frames_has_a_deadline(state: ConnectionState, after_s: int) -> None:
    assert _first_due(_in_state(state), Happening.GONE) == after_s


def test_nothing_is_due_once_it_is_closed() -> None:
    assert _in_state(ConnectionState.CLOSED).due(1e12, 1) == []
