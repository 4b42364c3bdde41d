"""Random trees against a model of OTP's rules, with the differences that the README names.

The model knows no tasks and no time: an end, a stop or a kill of one node changes it at once. After each step the tree
settles, and both must agree about which nodes run and in which incarnation. Then the tree is stopped or cancelled, in
some runs in the middle of a step. SUPERVISORS_MODEL_RUNS=2000 makes more runs.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from supervisors import (
    AutoShutdown,
    Backoff,
    Child,
    Intensity,
    Node,
    Restart,
    Shutdown,
    State,
    Strategy,
    Supervisor,
    TooManyRestarts,
    Worker,
)

from .probes import Boom, settled

RUNS = int(os.environ.get("SUPERVISORS_MODEL_RUNS", "120"))
PARTS = 8  # so that a failure names its part, and several processes can share the work
STEPS = 25
AT_ONCE = Backoff(0, 0)


@dataclass(eq=False)
class Model:
    """One node: what OTP's ``supervisor`` does with it and its children."""

    name: str
    restart: Restart
    significant: bool = False
    strategy: Strategy = Strategy.ONE_FOR_ONE
    limit: float = math.inf  # of restarts, in an endless window
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    children: list[Model] | None = None
    parent: Model | None = None
    up: bool = False
    starts: int = 0
    restarts: int = 0  # that it counted; a restart of its own does not forget them
    held: bool = False  # stopped by hand
    ended: str = ""  # of a root

    def walk(self) -> Iterator[Model]:
        yield self
        for child in self.children or ():
            yield from child.walk()

    def start(self) -> None:
        self.up = True
        self.starts += 1
        for child in self.children or ():
            if not child.held:
                child.start()

    def stop(self) -> None:
        for child in reversed(self.children or ()):
            child.stop()
        self.up = False

    def end(self, how: str) -> None:
        """It ended by itself: ``crash``, ``return`` or ``shutdown``."""
        self.stop()
        above = self.parent
        if above is None:
            self.ended = how
        elif self.restart is Restart.PERMANENT or (self.restart is Restart.TRANSIENT and how == "crash"):
            above.restart_group_of(self)
        elif self.significant:
            left = any(child.significant and child.up for child in above.children or ())
            if above.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not left:
                above.end("return")

    def restart_group_of(self, failed: Model) -> None:
        assert self.children is not None
        self.restarts += 1
        if self.restarts > self.limit:
            self.end("crash")
            return
        place = self.children.index(failed)
        group = {
            Strategy.ONE_FOR_ONE: [failed],
            Strategy.ONE_FOR_ALL: self.children,
            Strategy.REST_FOR_ONE: self.children[place:],
        }[self.strategy]
        for child in reversed(group):
            child.stop()
        for child in group:
            if child.restart is not Restart.TEMPORARY and not child.held:
                child.start()


@dataclass
class Pair:
    """A tree, its model, and a way to end each worker."""

    choice: random.Random
    nodes: dict[Model, Node[Any]] = field(default_factory=dict)
    orders: dict[str, trio.MemorySendChannel[str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def worker(self, name: str, restart: Restart, *, significant: bool) -> Model:
        async def run(child: Child[None]) -> None:
            self.log.append(f"+{name}")
            self.orders[name], orders = trio.open_memory_channel[str](1)
            child.started()
            try:
                with child.until_stopping(), orders:
                    how = await orders.receive()
                    if how == "crash":
                        raise Boom(name)
                    if how == "shutdown":
                        raise Shutdown(name)
            finally:
                self.log.append(f"-{name}")

        model = Model(name, restart, significant)
        self.nodes[model] = Worker(name, run, restart=restart, significant=significant)
        return model

    def supervisor(self, name: str, depth: int, restart: Restart, *, significant: bool = False) -> Model:
        choice = self.choice
        auto_shutdown = choice.choice([AutoShutdown.NEVER, AutoShutdown.NEVER, *AutoShutdown])
        model = Model(name, restart, significant, choice.choice([*Strategy]), auto_shutdown=auto_shutdown)
        model.limit = choice.choice([math.inf, math.inf, 0, 1, 4])
        model.children = []
        for number in range(choice.randint(1, 4)):
            kind = choice.choice([*Restart])
            marked = auto_shutdown is not AutoShutdown.NEVER and kind is not Restart.PERMANENT and choice.random() < 0.6
            below = f"{name}{number}"
            if depth and choice.random() < 0.5:
                child = self.supervisor(below, depth - 1, kind, significant=marked)
            else:
                child = self.worker(below, kind, significant=marked)
            child.parent = model
            model.children.append(child)
        self.nodes[model] = Supervisor(
            name,
            [self.nodes[child] for child in model.children],
            strategy=model.strategy,
            intensity=Intensity(model.limit, 1e9),
            backoff=AT_ONCE,
            auto_shutdown=auto_shutdown,
            restart=restart,
            significant=significant,
        )
        return model

    def step(self, root: Model) -> str:
        """Do one thing to both, and return it in words."""
        model = self.choice.choice([each for each in root.walk() if each is not root])
        act = self.choice.choice(["crash", "crash", "return", "shutdown", "kill", "stop", "restart"])
        node = self.nodes[model]
        if act == "stop":
            node.stop()
            model.held = True
            model.stop()
        elif act == "restart" and model.parent is not None and model.parent.up:
            node.restart()
            model.held = False
            model.stop()
            model.start()
        elif model.up and act == "kill":
            node.kill()
            model.end("crash")
        elif model.up and model.children is None and act in ("crash", "return", "shutdown"):
            self.orders[model.name].send_nowait(act)
            model.end(act)
        return f"{act} {model.name}"

    def difference(self, root: Model) -> dict[str, tuple[object, object]]:
        found = {
            model: (node.state is State.RUNNING, node.snapshot().incarnation) for model, node in self.nodes.items()
        }
        wanted = {model: (model.up, model.starts) for model in root.walk()}
        return {model.name: (found[model], wanted[model]) for model in wanted if found[model] != wanted[model]}


async def _compare(seed: int) -> None:
    choice = random.Random(seed)
    pair = Pair(choice)
    root = pair.supervisor("r", 2, Restart.PERMANENT)
    tree = pair.nodes[root]
    assert isinstance(tree, Supervisor)
    raised: list[BaseException] = []
    scope = trio.CancelScope()

    async def run() -> None:
        try:
            with scope:
                await tree.run()
        except TooManyRestarts as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await settled()
        root.start()
        steps: list[str] = []
        for _ in range(choice.randint(1, STEPS)):
            steps.append(pair.step(root))
            await settled()
            assert not pair.difference(root), (seed, steps, pair.difference(root))
            if root.ended:
                break
        up = [f"-{model.name}" for model in root.walk() if model.up and model.children is None]
        if root.ended:
            assert (len(raised) == 1) is (root.ended == "crash"), (seed, steps, raised)
        else:
            await _end(pair, root, tree, scope, up, steps)
    assert sorted(pair.log) == sorted(line.translate({43: 45, 45: 43}) for line in pair.log)  # as many ends as starts


async def _end(
    pair: Pair, root: Model, tree: Supervisor, scope: trio.CancelScope, up: list[str], steps: list[str]
) -> None:
    """Stop or cancel the tree: right to left; in some runs while it is still at work on a last step."""
    at_rest = pair.choice.random() < 0.6
    if not at_rest:
        steps.append(pair.step(root))
        for _ in range(pair.choice.randint(0, 12)):
            await trio.lowlevel.checkpoint()
    pair.log = [] if at_rest else pair.log
    if pair.choice.random() < 0.7:
        scope.cancel()
    else:
        tree.stop()
    await settled()
    if at_rest:
        assert pair.log == [*reversed(up)], steps
        pair.log = []
        assert scope.cancelled_caught is scope.cancel_called
    assert not any(node.state in (State.STARTING, State.RUNNING, State.STOPPING) for node in pair.nodes.values()), steps


@pytest.mark.parametrize("part", range(PARTS))
def test_a_tree_does_what_its_model_does(part: int) -> None:
    for seed in range(part, RUNS, PARTS):
        trio._core._run._r = random.Random(seed)  # the order in which Trio runs what is ready
        trio.run(_compare, seed)
