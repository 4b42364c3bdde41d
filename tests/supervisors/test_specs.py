from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from supervisors import (
    AutoShutdown,
    Child,
    ChildSpec,
    DynamicSupervisor,
    Restart,
    SpecError,
    Supervisor,
)


async def idle(child: Child) -> None:
    child.ready()
    await child.stopping.wait()


SIGNIFICANT = ChildSpec(name="a", run=idle, restart=Restart.TRANSIENT, significant=True)


def spec_with(fields: dict[str, Any]) -> ChildSpec:
    merged: dict[str, Any] = {"name": "a", "run": idle} | fields
    return ChildSpec(**merged)


def supervisor_with(arguments: dict[str, Any]) -> Supervisor:
    merged: dict[str, Any] = {"name": "app"} | arguments
    return Supervisor(**merged)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"run": None}, "either run or child"),
        ({"child": Supervisor("x")}, "either run or child"),
        ({"run": None, "child": "x"}, "must be a supervisor"),
        ({"run": "idle"}, "async callable"),
        ({"name": ""}, "a name"),
        ({"name": "a/b"}, "a name"),
        ({"name": "a b"}, "a name"),
        ({"name": "a\n"}, "a name"),
        ({"name": 7}, "a name"),
        ({"restart": "permanent"}, "restart"),
        ({"shutdown_s": -1}, "shutdown_s"),
        ({"shutdown_s": "5"}, "shutdown_s"),
        ({"shutdown_s": math.nan}, "shutdown_s"),
        ({"start_timeout_s": 0}, "start_timeout_s"),
        ({"start_timeout_s": True}, "start_timeout_s"),
        ({"backoff": 1.0}, "backoff"),
        ({"ready_on_start": 1}, "ready_on_start"),
        ({"significant": "yes"}, "significant"),
        ({"significant": True}, "permanent child"),
        ({"run": None, "child": Supervisor("a"), "ready_on_start": True}, "when its children are"),
        ({"run": None, "child": Supervisor("other")}, "own name is 'other'"),
    ],
)
def test_faulty_child(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec_with(fields)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "a/b"}, "a name"),
        ({"children": [ChildSpec(name="a", run=idle), ChildSpec(name="a", run=idle)]}, "twice: a"),
        ({"children": [ChildSpec(name="a", run=idle), Supervisor("a")]}, "twice: a"),
        ({"children": [ChildSpec(name=name, run=idle) for name in "ecadbbdace"]}, "twice: a, b, c, d, e"),
        ({"children": [idle]}, "a child is"),
        ({"strategy": "one_for_one"}, "strategy must be of Strategy"),
        ({"intensity": 3}, "intensity must be of Intensity"),
        ({"auto_shutdown": None}, "auto_shutdown must be of AutoShutdown"),
        ({"children": [SIGNIFICANT]}, "need an auto_shutdown"),
        ({"children": [SIGNIFICANT, ChildSpec(name="b", run=idle)]}, "need an auto_shutdown"),
    ],
)
def test_faulty_supervisor(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        supervisor_with(arguments)


@pytest.mark.parametrize("max_children", [0, -1, True, 2.0, "3"])
def test_faulty_dynamic_supervisor(max_children: Any) -> None:
    with pytest.raises(SpecError, match="max_children"):
        DynamicSupervisor("pool", max_children=max_children)


def test_specification_is_frozen() -> None:
    spec = ChildSpec(name="a", run=idle)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "b"  # type: ignore[misc]


def test_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        ChildSpec("a", idle)  # type: ignore[call-arg]


def test_defaults() -> None:
    worker, tree = ChildSpec(name="a", run=idle), ChildSpec(child=Supervisor("s"))
    assert (worker.grace_s, worker.start_limit_s, worker.restart) == (5.0, 30.0, Restart.PERMANENT)
    assert (tree.name, tree.grace_s, tree.start_limit_s) == ("s", math.inf, math.inf)


def test_budgets_add_up_along_the_tree() -> None:
    inner = Supervisor("inner", [ChildSpec(name="a", run=idle), ChildSpec(name="b", run=idle, ready_on_start=True)])
    capped = ChildSpec(child=Supervisor("capped", [ChildSpec(name="a", run=idle)]), shutdown_s=2, start_timeout_s=3)
    root = Supervisor("app", [inner, capped, ChildSpec(name="c", run=idle, shutdown_s=1, start_timeout_s=4)])
    assert root.stop_budget_s == 5 + 5 + 2 + 1
    assert root.start_budget_s == 30 + 0 + 3 + 4
    assert DynamicSupervisor("pool").stop_budget_s == math.inf


def test_significant_children_with_their_flag() -> None:
    root = Supervisor("app", [SIGNIFICANT], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    assert root.children == (SIGNIFICANT,)
