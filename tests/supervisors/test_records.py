"""The book-keeping for one child. What it remembers of a dead incarnation would keep that alive."""

from __future__ import annotations

import math

import pytest
import trio

from supervisors import Backoff, Child, ChildSpec, Killed, Restart, State
from supervisors._record import Record


async def idle(child: Child) -> None:
    await child.stopping.wait()


def record_of(restart: Restart = Restart.PERMANENT) -> Record:
    return Record(ChildSpec(name="a", run=idle, restart=restart, backoff=Backoff()), "s/a", 1.0)


def begin(record: Record, now: float) -> Child:
    handle = Child(record.path, record.incarnation + 1, lambda: None)
    record.begin(handle, trio.CancelScope(), now)
    return handle


def kill(record: Record) -> None:
    record.doom = Killed(record.path)
    record.cancel()


def holds_nothing(record: Record) -> bool:
    return (record.handle, record.scope) == (None, None)


def test_before_the_first_start() -> None:
    record = record_of()
    assert (record.spec.name, record.path, record.state, record.since) == ("a", "s/a", State.WAITING, 1.0)
    assert holds_nothing(record)
    assert record.deadline == math.inf
    assert (record.incarnation, record.failures, record.last_failure) == (0, 0, None)
    assert (record.doom, record.start_error) == (None, None)
    assert [record.held, record.ever_ready, record.cancelled] == [False] * 3
    assert record.down.is_set()
    assert not record.settled.is_set()


def test_from_the_start_to_the_end() -> None:
    record = record_of()
    handle = begin(record, 2.0)
    assert (record.state, record.since, record.deadline) == (State.STARTING, 2.0, 32.0)
    assert record.handle is handle
    assert record.scope is not None
    assert not record.down.is_set()
    record.end()
    assert holds_nothing(record)
    assert record.down.is_set()


def test_the_incarnation_after_a_cancelled_one_is_new() -> None:
    record = record_of()
    begin(record, 2.0)
    kill(record)
    assert record.cancelled
    assert record.scope is not None
    assert record.scope.cancel_called
    record.end()
    record.enter(State.BACKOFF, 3.0)
    begin(record, 4.0)
    assert record.incarnation == 2
    assert record.doom is None
    assert not record.cancelled


def test_one_that_does_not_run_can_be_cancelled() -> None:
    record = record_of()
    record.cancel()
    assert (record.cancelled, record.state, record.since) == (True, State.WAITING, 1.0)


def test_what_the_table_does_not_allow_is_a_defect() -> None:
    record = record_of()
    with pytest.raises(AssertionError, match="s/a: waiting -> running"):
        record.enter(State.RUNNING, 2.0)
    assert (record.state, record.since) == (State.WAITING, 1.0)


@pytest.mark.parametrize("restart", Restart)
def test_a_temporary_child_stays_down_once_it_has_begun(restart: Restart) -> None:
    record = record_of(restart)
    begin(record, 2.0)
    assert record.held is (restart is Restart.TEMPORARY)


@pytest.mark.parametrize("state", State)
def test_what_is_over_and_what_is_up(state: State) -> None:
    record = record_of()
    record.state = state
    assert record.over is (state in (State.STOPPED, State.FINISHED, State.FAILED))
    assert record.up is (state in (State.STARTING, State.RUNNING, State.STOPPING))
