from __future__ import annotations

import dataclasses
import logging

import pytest

from supervisors import End, Event, EventKind, NodeState, State
from supervisors._state import LEGAL, OVER, UP

NODE = NodeState("a", "s/a", "worker", State.RUNNING, None, 3, 2, None, 2.0)


def test_the_whole_machine() -> None:
    assert {str(state): sorted(after) for state, after in LEGAL.items()} == {
        "waiting": ["starting", "stopped"],
        "starting": ["backoff", "failed", "finished", "running", "stopping"],
        "running": ["backoff", "failed", "finished", "stopping"],
        "stopping": ["backoff", "failed", "finished", "stopped"],
        "stopped": ["waiting"],
        "backoff": ["starting", "stopped"],
        "finished": ["waiting"],
        "failed": ["waiting"],
    }
    assert {type(after) for after in LEGAL.values()} == {frozenset}


def test_words_of_the_wire() -> None:
    assert ", ".join(State) == "waiting, starting, running, stopping, stopped, backoff, finished, failed"
    assert ", ".join(EventKind) == (
        "starting, started, stopping, cancelled, stuck, stopped, returned, ignored, failed, backoff, escalated"
    )


def test_a_task_exists_from_the_start_to_the_end_of_the_stop() -> None:
    assert {State.STARTING, State.RUNNING, State.STOPPING} == UP
    assert {State.STOPPED, State.FINISHED, State.FAILED} == OVER


EVENT = Event(7, 2.0, "s/a", EventKind.FAILED, 3)


@pytest.mark.parametrize("told", [NODE, EVENT, End("s/a", 3, EventKind.FAILED)])
def test_what_is_told_is_frozen(told: NodeState | Event | End) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.path = "b"  # type: ignore[misc]


def test_an_event_without_details() -> None:
    assert (EVENT.delay_s, EVENT.is_raised, EVENT.level) == (0.0, False, logging.ERROR)


def test_a_walk_goes_through_all_nodes_parents_first() -> None:
    failed = dataclasses.replace(NODE, state=State.FAILED)
    inner = dataclasses.replace(NODE, kind="supervisor", children=(NODE, failed))
    whole = dataclasses.replace(inner, children=(inner,))
    assert list(whole.walk()) == [whole, inner, NODE, failed]
