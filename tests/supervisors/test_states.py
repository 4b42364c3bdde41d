from __future__ import annotations

import dataclasses

import pytest

from supervisors import Event, EventKind, NodeState, State
from supervisors._state import LEGAL, is_up

NODE = NodeState("a", "s/a", "worker", State.RUNNING, 3, None, 2.0)


def test_the_whole_machine() -> None:
    assert {str(state): sorted(after) for state, after in LEGAL.items()} == {
        "waiting": ["starting", "stopped"],
        "starting": ["backoff", "failed", "finished", "running", "stopping"],
        "running": ["backoff", "failed", "finished", "stopping"],
        "stopping": ["failed", "stopped"],
        "stopped": ["waiting"],
        "backoff": ["starting", "stopped"],
        "finished": ["waiting"],
        "failed": ["waiting"],
    }
    assert {type(after) for after in LEGAL.values()} == {frozenset}


def test_words_of_the_wire() -> None:
    assert ", ".join(State) == "waiting, starting, running, stopping, stopped, backoff, finished, failed"
    assert ", ".join(EventKind) == (
        "starting, ready, stopping, cancelled, stopped, returned, failed, backoff, escalated"
    )


def test_a_task_exists_from_the_start_to_the_end_of_the_stop() -> None:
    assert [state for state in State if is_up(state)] == [State.STARTING, State.RUNNING, State.STOPPING]


@pytest.mark.parametrize("told", [NODE, Event("s/a", EventKind.READY, 3, None, 2.0)])
def test_what_is_told_is_frozen(told: NodeState | Event) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.path = "b"  # type: ignore[misc]


def test_restarts_are_the_incarnations_after_the_first() -> None:
    assert [dataclasses.replace(NODE, incarnation=number).restarts for number in range(4)] == [0, 0, 1, 2]


def test_an_event_without_a_delay() -> None:
    assert Event("s/a", EventKind.READY, 3, None, 2.0).delay_s == 0.0
