"""What a replica says of itself while a part of it is down: the whole, and what calls need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from avion_media.app import build_tree
from avion_media.common.errors import Dependency
from avion_media.config import Config
from avion_media.nodes.foundation import readiness
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import ROLES, Runtime
from supervisors import Supervisor, Worker


@pytest.fixture
def runtime() -> Runtime:
    """Of a service that is ready."""
    runtime = Runtime(Config())
    runtime.readiness.set_components_ready(True)
    runtime.lifecycle.advance_to(Phase.READY)
    return runtime


def test_what_calls_need_is_written_once() -> None:
    tree = build_tree(Runtime(Config()), Config())
    assert [node.path for node in tree.calls_need] == ["foundation", "foundation/redis", "foundation/store", "service"]
    assert not tree.calls_can_run()  # nothing runs


@pytest.mark.parametrize("serving", [True, False])
def test_a_node_that_is_down_makes_it_unready_and_is_named(runtime: Runtime, serving: bool) -> None:
    seen: list[bool] = []
    runtime.readiness.on_change(seen.append)
    runtime.readiness.set_down(frozenset({"service/sweeper"}), calls_can_run=serving)
    report = runtime.report()
    assert (report["ready"], report["down"], runtime.readiness.serving) == (False, ["service/sweeper"], serving)
    runtime.readiness.set_down(frozenset(), calls_can_run=True)
    report = runtime.report()
    assert (report["ready"], report["down"], runtime.readiness.serving) == (True, [], True)
    assert seen == [True, serving, True]


def test_ready_changes_count_each_change_of_ready_and_nothing_else(runtime: Runtime) -> None:
    assert runtime.report()["ready_changes"] == 1  # it became ready
    for down in ({"service/sweeper"}, {"service/sweeper", "service/origin"}, {"service/origin"}):
        runtime.readiness.set_down(frozenset(down), calls_can_run=True)
        assert runtime.report()["ready_changes"] == 2
    runtime.readiness.set_down(frozenset(), calls_can_run=True)
    assert runtime.report()["ready_changes"] == 3
    runtime.readiness.set_components_ready(False)
    assert runtime.report()["ready_changes"] == 4
    runtime.lifecycle.advance_to(Phase.LAME_DUCK)
    assert runtime.report()["ready_changes"] == 4


def test_the_log_names_the_topmost_only(runtime: Runtime) -> None:
    with capture_logs() as said:
        runtime.readiness.set_down(
            frozenset({"service/cache", "service/cache/reader", "service/cached"}), calls_can_run=True
        )
        runtime.readiness.set_down(
            frozenset({"service/cache", "service/cache/renewer", "service/cached"}), calls_can_run=True
        )
    assert [line["down"] for line in said] == [["service/cache", "service/cached"]]


def state_of(runtime: Runtime) -> tuple[bool, bool, Phase]:
    """Ready as a whole, ready for gRPC calls, and the phase."""
    return runtime.readiness.ready, runtime.readiness.serving, runtime.lifecycle.phase


@asynccontextmanager
async def the_node(runtime: Runtime) -> AsyncIterator[None]:
    """The readiness child, up; stopped afterwards."""
    tree = Supervisor("root", [Worker("readiness", partial(readiness, runtime))])
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        yield
        tree.stop()


async def test_it_is_ready_once_each_dependency_has_answered() -> None:
    runtime = Runtime(Config())
    async with the_node(runtime):
        await trio.testing.wait_all_tasks_blocked()
        states = [runtime.report()["dependencies"]]
        assert (runtime.readiness.ready, runtime.readiness.serving, runtime.lifecycle.phase) == (
            False,
            False,
            Phase.STARTING,
        )
        runtime.readiness.note_answer(Dependency.REDIS)
        await trio.testing.wait_all_tasks_blocked()
        states.append(runtime.report()["dependencies"])
        assert (runtime.readiness.ready, runtime.lifecycle.phase) == (False, Phase.STARTING)
        runtime.readiness.note_answer(Dependency.STORE)
        await runtime.lifecycle.reached(Phase.READY)
        states.append(runtime.report()["dependencies"])
        assert (runtime.readiness.ready, runtime.readiness.serving) == (True, True)
    assert not runtime.readiness.ready
    assert states == [
        {"redis": "never_answered", "store": "never_answered"},
        {"redis": "unavailable", "store": "never_answered"},  # answered once; nobody is connected in this test
        {"redis": "unavailable", "store": "unavailable"},
    ]


@pytest.mark.parametrize("role", ROLES)
async def test_only_events_and_webhooks_need_no_store(role: str) -> None:
    runtime = Runtime(Config(), frozenset({role}))
    async with the_node(runtime):
        runtime.readiness.note_answer(Dependency.REDIS)
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.readiness.ready is (role in ("events", "webhooks"))


async def test_a_replica_that_drains_does_not_become_ready_by_a_late_answer() -> None:
    runtime = Runtime(Config())
    async with the_node(runtime):
        runtime.lifecycle.advance_to(Phase.LAME_DUCK)
        for each in Dependency.REDIS, Dependency.STORE:
            runtime.readiness.note_answer(each)
        await trio.testing.wait_all_tasks_blocked()
        assert (runtime.readiness.ready, runtime.readiness.serving, runtime.lifecycle.phase) == (
            False,
            False,
            Phase.LAME_DUCK,
        )
