"""Ctrl-C inside the supervisor's own book-keeping waits until that is done: nothing is left half way.

The signal is raised from within, at a call of the code under test, so that it is there at the same place each time.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio

from supervisors import Child, DynamicSupervisor, Event, Restart, State, Supervisor, Worker, open_tree
from supervisors._engine import Engine

from .probes import Stage, observed


async def idle(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()


def press_inside(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """Ctrl-C at the next call of that method, once."""
    real = getattr(owner, name)

    def pressing(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(owner, name, pressing)


@pytest.mark.parametrize(
    ("act", "owner", "name"),
    [
        (lambda pool: pool.find("a").kill(), Engine, "_cancel"),
        (lambda pool: pool.find("a").stop(), Engine, "_ask_to_stop"),
        (lambda pool: pool.find("a").restart(), Engine, "_ask_to_stop"),
        (lambda pool: pool._add(Worker("b", idle)), Engine, "_begin_batch"),
    ],
    ids=["kill", "stop", "restart", "add"],
)
def test_a_verb_is_done_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[DynamicSupervisor], object], owner: type, name: str
) -> None:
    done: list[str] = []

    async def main() -> None:
        async with open_tree(DynamicSupervisor("pool")) as pool:
            await pool.start(Worker("a", idle))
            press_inside(monkeypatch, owner, name)
            act(pool)
            done.append("all of it")
            await trio.lowlevel.checkpoint()
            done.append("too much")

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(KeyboardInterrupt)
    assert done == ["all of it"]


def test_a_step_is_finished_before_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    press_inside(monkeypatch, Engine, "_advance")
    with pytest.raises(KeyboardInterrupt):
        trio.run(Supervisor("app", [stage.spec("a"), stage.spec("b")]).run)
    assert stage.take_log() == "+a -a"


def test_a_child_that_says_it_is_ready_is_not_hit_there(monkeypatch: pytest.MonkeyPatch) -> None:
    went_on: list[bool] = []

    async def run(child: Child[None]) -> None:
        child.started()
        went_on.append(True)
        await child.stopping.wait()

    press_inside(monkeypatch, Engine, "_end_turn")
    with pytest.raises(KeyboardInterrupt):
        trio.run(Supervisor("app", [Worker("a", run)]).run)
    assert went_on == [True]


def test_the_end_of_a_child_is_not_lost() -> None:
    class Pressing(deque[Any]):
        def append(self, each: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            super().append(each)

    async def run(child: Child[None]) -> None:
        child.started()

    def tamper(event: Event) -> None:
        if (event.path, event.kind) == ("a", "starting"):
            assert isinstance(root._record.below, Engine)
            root._record.below._exits = Pressing()

    leaf = Worker("a", run, restart=Restart.TEMPORARY)
    root = observed(Supervisor("app", [leaf]), tamper)
    with pytest.raises(KeyboardInterrupt):
        trio.run(root.run)
    assert root.snapshot().children[0].state is State.FINISHED
