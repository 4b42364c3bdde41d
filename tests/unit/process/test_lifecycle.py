"""The phases of the process."""

from __future__ import annotations

import itertools

import pytest

from avion_media.process.lifecycle import FOLLOWERS, Lifecycle, Phase


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Phase, Phase)))
def test_only_what_the_table_has_is_legal(before: Phase, after: Phase) -> None:
    lifecycle = Lifecycle()
    for phase in Phase:  # one way to `before`
        if lifecycle.phase is not before:
            lifecycle.advance_to(phase)
    assert lifecycle.phase is before
    lifecycle.advance_to(after)
    assert lifecycle.phase is (after if after in FOLLOWERS[before] else before)


def test_no_phase_leads_back() -> None:
    order = list(Phase)
    assert all(order.index(after) > order.index(before) for before in Phase for after in FOLLOWERS[before])


async def test_listeners_and_waiters_hear_of_each_phase() -> None:
    lifecycle = Lifecycle()
    heard: list[Phase] = []
    lifecycle.on_change(heard.append)
    lifecycle.advance_to(Phase.READY)
    lifecycle.advance_to(Phase.READY)  # again: nothing happens
    lifecycle.advance_to(Phase.STOPPING)
    await lifecycle.reached(Phase.READY)
    await lifecycle.reached(Phase.STOPPING)
    assert heard == [Phase.READY, Phase.STOPPING]


def test_work_is_taken_until_the_first_phase_of_the_drain() -> None:
    taking = {Phase.STARTING, Phase.READY}
    lifecycle = Lifecycle()
    for phase in Phase:
        lifecycle.advance_to(phase)
        assert (lifecycle.phase, lifecycle.accepting_tasks) == (phase, phase in taking)


def test_clients_are_let_in_until_the_drain_has_told_all_to_go() -> None:
    accepting_connections = {Phase.STARTING, Phase.READY, Phase.LAME_DUCK}
    lifecycle = Lifecycle()
    for phase in Phase:
        lifecycle.advance_to(phase)
        assert (lifecycle.phase, lifecycle.accepting_connections) == (phase, phase in accepting_connections)
