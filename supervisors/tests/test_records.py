"""The book-keeping for one node. What it remembers of a dead incarnation would keep that alive."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import trio

from supervisors import Child, Restart, State
from supervisors._record import Policy, Record


async def idle(child: Child[Any]) -> None:
    await child.stopping.wait()


def record_of(restart: Restart = Restart.PERMANENT) -> Record:
    record = Record("a", idle, Policy(restart, 5.0, 30.0, significant=False), None)
    record.force(State.WAITING, 1.0)
    return record


def test_before_the_first_start() -> None:
    record = record_of()
    assert (record.name, record.path, record.state, record.since) == ("a", "a", State.WAITING, 1.0)
    assert (record.handle, record.scope, record.deadline) == (None, None, math.inf)
    assert (record.incarnation, record.failures, record.last_failure) == (0, 0, None)
    assert (record.cancel_cause, record.error) == (None, None)
    assert [record.remains_down, record.ever_started, record.cancelled] == [False] * 3


def test_a_policy_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        record_of().policy.grace_s = 6.0  # type: ignore[misc]


def test_an_end_keeps_nothing_of_the_incarnation() -> None:
    record = record_of()
    record.begin(2.0)
    assert (record.state, record.since, record.incarnation) == (State.STARTING, 2.0, 1)
    record.handle = Child(record.path, 1, None, lambda _value: None)
    record.scope = trio.CancelScope()
    record.cancelled, record.stop_requested, record.cancel_cause = True, True, TimeoutError()
    record.reset_incarnation()
    assert [record.handle, record.scope, record.cancel_cause] == [None, None, None]
    assert [record.cancelled, record.stop_requested] == [False, False]


def test_a_transition_that_the_table_does_not_have_is_a_defect() -> None:
    record = record_of()
    with pytest.raises(AssertionError, match="a: waiting -> running"):
        record.enter(State.RUNNING, 2.0)
    assert (record.state, record.since) == (State.WAITING, 1.0)


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


def test_a_former_place_leaves_its_path() -> None:
    above, record = record_of(), record_of()
    above.name, above.children = "pool", {"a": record}
    record.enter_tree(above, record.backoff)
    assert record.path == "a"  # the root is no part of a path
    higher = record_of()
    higher.children = {"pool": above}
    above.enter_tree(higher, above.backoff)
    assert record.path == "pool/a"
    record.leave()
    assert (record.path, record.parent, above.children) == ("pool/a", None, {})
