"""The book-keeping for one node. What it remembers of a dead incarnation would keep that alive."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from supervisors import Child, End, EventKind, Restart, State
from supervisors._policy import Policy
from supervisors._record import Record


async def idle(child: Child[Any]) -> None:
    await child.stopping.wait()


def record_of(restart: Restart = Restart.PERMANENT) -> Record:
    record = Record("a", idle, Policy(restart, 5.0, 30.0, significant=False), None)
    record.force(State.WAITING, 1.0)
    return record


def test_before_the_first_start() -> None:
    record = record_of()
    assert (record.name, record.path, record.state, record.since) == ("a", "a", State.WAITING, 1.0)
    assert (record.incarnation, record.deadline) == (None, math.inf)
    assert (record.incarnations, record.membership.failures, record.last_failure) == (0, 0, None)
    assert record.membership.error is None
    assert [record.remains_down, record.membership.ever_started, record.runs] == [False] * 3


def test_a_policy_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        record_of().policy.grace_s = 6.0  # type: ignore[misc]


def test_an_incarnation_begins_with_nothing_of_the_one_before() -> None:
    record = record_of()
    first = record.begin(2.0)
    assert (record.state, record.since, record.incarnations, record.incarnation) == (State.STARTING, 2.0, 1, first)
    first.cancelled, first.stop_requested, first.cancel_cause = True, True, TimeoutError()
    record.force(State.WAITING, 3.0)
    second = record.begin(3.0)
    assert (second.handle, second.cancel_cause, second.started_at) == (None, None, None)
    assert second.scope is not first.scope
    assert (record.deadline, second.stop_by) == (math.inf, math.inf)
    assert [second.cancelled, second.stop_requested] == [False, False]


def test_a_transition_that_the_table_does_not_have_is_a_defect() -> None:
    record = record_of()
    with pytest.raises(AssertionError, match="a: waiting -> running"):
        record.enter(State.RUNNING, 2.0)
    assert (record.state, record.since) == (State.WAITING, 1.0)


def test_the_end_of_a_life_leaves_no_deadline() -> None:
    record = record_of()
    incarnation = record.begin(2.0)
    record.deadline = 5.0
    record.end_incarnation(EventKind.STOPPED, None)
    assert (record.incarnation, record.deadline) == (None, math.inf)
    assert incarnation.end == End("a", 1, EventKind.STOPPED)


@pytest.mark.parametrize("restart", Restart)
def test_a_temporary_child_stays_down_once_it_has_begun(restart: Restart) -> None:
    record = record_of(restart)
    record.begin(2.0)
    assert record.remains_down is (restart is Restart.TEMPORARY)


@pytest.mark.parametrize("state", State)
def test_which_states_are_over_and_which_are_up(state: State) -> None:
    record = record_of()
    record.state = state
    assert record.over is (state in (State.STOPPED, State.FINISHED, State.FAILED))
    assert record.up is (state in (State.STARTING, State.RUNNING, State.STOPPING))


def place(record: Record, above: Record) -> None:
    above.children = {record.name: record}
    record.parent = above


def test_a_former_place_leaves_its_path() -> None:
    above, record = record_of(), record_of()
    above.name = "pool"
    place(record, above)
    assert record.path == "a"  # the root is no part of a path
    place(above, record_of())
    assert record.path == "pool/a"
    record.leave()
    assert (record.path, record.parent, above.children) == ("pool/a", None, {})
