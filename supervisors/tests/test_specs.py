from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from supervisors import (
    AutoShutdown,
    Backoff,
    Child,
    DynamicSupervisor,
    Intensity,
    NotRunning,
    Restart,
    SpecError,
    State,
    Supervisor,
    Worker,
    open_tree,
)

from .probes import Stage, settled


async def idle(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()


def significant() -> Worker[None]:
    return Worker("a", idle, restart=Restart.TRANSIENT, significant=True)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"run": None}, "async callable"),
        ({"run": "idle"}, "async callable"),
        ({"name": ""}, "a name"),
        ({"name": "a/b"}, "a name"),
        ({"name": "a b"}, "a name"),
        ({"name": "a\n"}, "a name"),
        ({"name": 7}, "a name"),
        ({"restart": "permanent"}, "restart must be of Restart"),
        ({"grace_s": -1}, "grace_s"),
        ({"grace_s": "5"}, "grace_s"),
        ({"grace_s": math.nan}, "grace_s"),
        ({"start_timeout_s": 0}, "start_timeout_s"),
        ({"start_timeout_s": True}, "start_timeout_s"),
        ({"backoff": 1.0}, "backoff must be of Backoff"),
        ({"significant": "yes"}, "significant must be of bool"),
        ({"significant": True}, "permanent child"),
    ],
)
def test_faulty_worker(fields: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {"name": "a", "run": idle} | fields
    with pytest.raises(SpecError, match=says):
        Worker(**arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "a/b"}, "a name"),
        ({"children": [Worker("a", idle), Worker("a", idle)]}, "two children with the name 'a'"),
        ({"children": [Worker("a", idle), Supervisor("a")]}, "two children with the name 'a'"),
        ({"children": [idle]}, "is a node"),
        ({"strategy": "one_for_one"}, "strategy must be of Strategy"),
        ({"intensity": 3}, "intensity must be of Intensity"),
        ({"backoff": 3}, "backoff must be of Backoff"),
        ({"auto_shutdown": None}, "auto_shutdown must be of AutoShutdown"),
        ({"children": [significant()]}, "need an auto_shutdown"),
        ({"children": [Worker("b", idle), significant()]}, "need an auto_shutdown"),
    ],
)
def test_faulty_supervisor(arguments: dict[str, Any], says: str) -> None:
    merged: dict[str, Any] = {"name": "app"} | arguments
    with pytest.raises(SpecError, match=says):
        Supervisor(**merged)


@pytest.mark.parametrize("max_children", [0, -1, True, 2.0, "3"])
def test_faulty_dynamic_supervisor(max_children: Any) -> None:
    with pytest.raises(SpecError, match="max_children"):
        DynamicSupervisor("pool", max_children=max_children)


def test_a_refused_placement_leaves_every_node_free() -> None:
    worker = Worker("a", idle)
    with pytest.raises(SpecError):
        Supervisor("app", [worker, Worker("a", idle)])
    assert Supervisor("app", [worker]).children == (worker,)


def test_a_node_has_one_place() -> None:
    worker = Worker("a", idle)
    root = Supervisor("app", [Supervisor("left", [worker])])
    with pytest.raises(SpecError, match="left/a has a place already"):
        Supervisor("right", [worker])
    assert worker.path == "left/a"
    assert root.find("left/a") is worker


async def test_a_tree_that_runs_cannot_be_placed_and_not_below_itself() -> None:
    root, inner = Supervisor("app"), Supervisor("inner")
    with trio.fail_after(5):
        async with open_tree(root):
            with pytest.raises(SpecError, match="has a place already"):
                await root.start(root)
            with pytest.raises(SpecError, match="has a place already"):
                Supervisor("other", [root])
            await root.start(inner)
            with pytest.raises(SpecError, match="has a place already"):
                await inner.start(root)


def test_paths_are_known_before_the_run() -> None:
    worker, inner = Worker("w", idle), Supervisor("inner")
    assert (worker.path, inner.path, worker.state, worker.name) == ("w", "/", State.WAITING, "w")
    root = Supervisor("app", [Supervisor("middle", [worker, inner])])
    assert (worker.path, inner.path, root.path) == ("middle/w", "middle/inner", "/")
    assert inner.find("middle/w") is worker
    assert inner.find("/") is root
    for wrong in ("", "w", "middle/", "middle/w/x", "/middle", "app"):
        with pytest.raises(LookupError):
            root.find(wrong)
    assert repr(worker) == "<Worker middle/w waiting>"


def test_a_node_that_does_not_run_has_no_value() -> None:
    with pytest.raises(NotRunning, match="w is waiting"):
        _ = Worker("w", idle).value


def test_budgets_add_up_along_the_tree() -> None:
    inner = Supervisor("inner", [Worker("a", idle), Worker("b", idle)])
    capped = Supervisor("capped", [Worker("a", idle)], grace_s=2)
    pool = DynamicSupervisor("pool", grace_s=7)
    root = Supervisor("app", [inner, capped, Worker("c", idle, grace_s=1), pool])
    assert root.stop_budget_s == 5 + 5 + 2 + 1 + 7
    assert DynamicSupervisor("pool").stop_budget_s == math.inf
    assert Supervisor("app", [DynamicSupervisor("pool")]).stop_budget_s == 30


def test_significant_children_with_their_flag() -> None:
    child = significant()
    root = Supervisor("app", [child], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    assert root.children == (child,)


async def test_a_tree_can_run_again_with_its_counts() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")], backoff=Backoff(0, 0), intensity=Intensity(5, 1))
    with trio.fail_after(5):
        for _ in range(2):
            async with open_tree(root):
                stage["a"].fail()
                await settled()
    (node,) = root.snapshot().children
    assert (node.incarnation, node.last_failure, node.state) == (4, "Boom: a", State.STOPPED)
    assert root.snapshot().incarnation == 2
