"""An interruption at every scheduler step of a scripted life, alone and in pairs.

A run on a `MockClock` is a function of its script and of the random seed of Trio's scheduler. One run counts its
steps through an instrument; then the run is repeated once per step, with one interruption at that step.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Child,
    DynamicSupervisor,
    Event,
    Intensity,
    Killed,
    NotRunning,
    StartFailed,
    State,
    Strategy,
    SupervisionError,
    Supervisor,
    Worker,
    open_tree,
)

from .probes import NO_BACKOFF, Boom

GRACE_S = 2.0
CLEAN_UP_S = 0.5
CANCEL_GRACE_S = 3.0


@dataclass
class Life:
    """One run: a tree of three workers, a nested supervisor and a pool, through starts, a crash and a stop."""

    seed: int
    steps: int = 0
    log: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    waits: int = 0  # that have begun and not ended
    interrupted_at: float = math.inf
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    crash: dict[str, trio.Event] = field(default_factory=dict)

    @property
    def ended_at(self) -> float:
        """When the last node was down; the block of the script may take longer."""
        return self.events[-1].at if self.events else 0.0

    def __post_init__(self) -> None:
        workers = {name: Worker(name, self._work, grace_s=GRACE_S, backoff=NO_BACKOFF) for name in "abc"}
        self.inner = Supervisor(
            "s", [workers["b"], workers["c"]], strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(3, 100)
        )
        self.pool = DynamicSupervisor("pool", grace_s=GRACE_S)
        self.root = Supervisor("app", [workers["a"], self.inner, self.pool], intensity=Intensity(9, 100))
        self.workers = workers
        self.root.observe(self.events.append)

    async def _work(self, child: Child[int]) -> None:
        self.log.append(f"+{child.name}")
        crash = self.crash[child.name] = trio.Event()
        try:
            await trio.sleep(0.25)
            child.started(child.incarnation)
            with child.until_stopping():
                await crash.wait()
                raise Boom(child.name)
            await trio.sleep(GRACE_S / 2 if child.name != "c" else math.inf)  # one of them does not stop in time
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(CLEAN_UP_S)
            raise
        finally:
            self.log.append(f"-{child.name}")

    async def script(self) -> None:
        async with open_tree(self.root, cancel_grace_s=CANCEL_GRACE_S), trio.open_nursery() as nursery:
            for wait in (self.workers["b"].wait_started, self.pool.wait_started, self._task, self._added):
                nursery.start_soon(self._waiting, wait)
            await trio.sleep(1)
            self.fail("b")
            await trio.sleep(1)
            _while_running(lambda life: life.workers["a"].restart())(self)
            await trio.sleep(1)
            nursery.cancel_scope.deadline = trio.current_time() + 10

    async def _waiting(self, wait: Callable[[], object]) -> None:
        self.waits += 1
        try:
            await wait()  # type: ignore[misc]
        except SupervisionError:
            pass
        finally:
            self.waits -= 1

    async def _task(self) -> None:
        await self.pool.start_task(trio.sleep, 1.5).result()

    async def _added(self) -> None:
        await self.pool.start(Worker("added", self._work, grace_s=GRACE_S, backoff=NO_BACKOFF))

    def fail(self, name: str) -> None:
        if name in self.crash:
            self.crash[name].set()

    async def main(self, at: dict[int, Callable[[Life], None]]) -> None:
        life = self

        class Steps(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                life.steps += 1
                act = at.get(life.steps)
                if act is not None:
                    life.interrupted_at = min(life.interrupted_at, trio.current_time())
                    act(life)

        trio.lowlevel.add_instrument(Steps())
        with self.scope:
            await self.script()

    def run(self, at: dict[int, Callable[[Life], None]]) -> BaseException | None:
        """Run it, with the interruptions of ``at``; return what came out."""
        trio._core._run._r = random.Random(self.seed)
        try:
            trio.run(self.main, at, clock=MockClock(autojump_threshold=0))
        except BaseException as error:  # noqa: BLE001 - the result of the run
            return error
        return None


def _while_running(act: Callable[[Life], object]) -> Callable[[Life], None]:
    def guarded(life: Life) -> None:
        try:
            act(life)
        except NotRunning:
            pass

    return guarded


ACTS: dict[str, Callable[[Life], None]] = {
    "cancel": _while_running(lambda life: life.scope.cancel()),
    "stop": _while_running(lambda life: life.root.stop()),
    "stop at once": _while_running(lambda life: life.root.stop(grace_s=0)),
    "kill the root": _while_running(lambda life: life.root.kill()),
    "kill a supervisor": _while_running(lambda life: life.inner.kill()),
    "kill a worker": _while_running(lambda life: life.workers["c"].kill()),
    "stop a worker": _while_running(lambda life: life.workers["c"].stop(grace_s=1)),
    "restart a supervisor": _while_running(lambda life: life.inner.restart()),
    "crash": _while_running(lambda life: life.fail("b")),
    "KeyboardInterrupt": _while_running(lambda life: trio._core._run.GLOBAL_RUN_CONTEXT.runner.deliver_ki()),
}
ENDS = frozenset({"cancel", "stop", "stop at once", "kill the root", "KeyboardInterrupt"})


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _check(life: Life, error: BaseException | None, names: tuple[str, ...]) -> None:
    """What holds at the end of every run."""
    context = (names, life.seed, life.log, error)
    for name in ("a", "b", "c", "added"):
        assert life.log.count(f"+{name}") == life.log.count(f"-{name}"), context  # no task is left
    assert life.waits == 0, context
    nodes = list(life.root.snapshot().walk())
    assert not any(node.state in (State.STARTING, State.RUNNING, State.STOPPING) for node in nodes), context
    assert [event.seq for event in life.events] == list(range(1, len(life.events) + 1)), context
    _check_order(life)
    for leaf in [] if error is None else _leaves(error):
        assert isinstance(leaf, Killed | StartFailed | KeyboardInterrupt | NotRunning), context
    if set(names) & ENDS and life.interrupted_at < math.inf:
        # Each of three levels in turn, each with its grace and its clean-up; the pool is stopped in parallel.
        assert life.ended_at - life.interrupted_at <= 4 * (GRACE_S + CLEAN_UP_S) + 6, context
    if names[0] == "stop at once":
        assert life.ended_at - life.interrupted_at <= 5 * CLEAN_UP_S, context


def _check_order(life: Life) -> None:
    """In the stop of the root, each supervisor stops after its children, and begins before them."""
    kinds = [(event.path, str(event.kind)) for event in life.events]
    if ("/", "stopping") not in kinds:
        return
    last = kinds[kinds.index(("/", "stopping")) :]
    asked = [path for path, kind in last if kind == "stopping" and "/" not in path]
    assert asked == [path for path in ("pool", "s", "a") if path in asked], last
    for path in ("s/b", "s/c"):
        if (path, "stopped") in last and ("s", "stopped") in last:
            assert last.index((path, "stopped")) < last.index(("s", "stopped")), last


def _steps(seed: int) -> int:
    life = Life(seed)
    assert life.run({}) is None
    _check(life, None, ("nothing",))
    return life.steps


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ACTS)
def test_an_interruption_at_every_step(name: str, seed: int) -> None:
    for step in range(1, _steps(seed) + 1):
        life = Life(seed)
        _check(life, life.run({step: ACTS[name]}), (name, str(step)))


@pytest.mark.parametrize(("first", "second"), [*itertools.product(ACTS, ACTS)])
def test_two_interruptions(first: str, second: str) -> None:
    """The pairs are shifted by the names, so that all of them together come close to every pair."""
    names = list(ACTS)
    steps = _steps(3)
    shift = names.index(first) * len(names) + names.index(second)
    pairs = list(itertools.combinations(range(1, steps + 1), 2))
    for one, two in pairs[shift % 499 :: 499]:
        life = Life(3)
        _check(life, life.run({one: ACTS[first], two: ACTS[second]}), (first, second, str(one), str(two)))


class SmallLife(Life):
    """One worker below a supervisor below the root: its start, a crash, the stop. Few enough steps for all pairs."""

    def __post_init__(self) -> None:
        self.workers = {"c": Worker("c", self._work, grace_s=GRACE_S, backoff=NO_BACKOFF)}
        self.inner = Supervisor("s", self.workers.values(), intensity=Intensity(3, 100))
        self.root = Supervisor("app", [self.inner], intensity=Intensity(9, 100))
        self.root.observe(self.events.append)

    async def script(self) -> None:
        async with open_tree(self.root, cancel_grace_s=CANCEL_GRACE_S):
            self.fail("c")
            await self._waiting(self.workers["c"].wait_started)


SMALL_ACTS = {name: ACTS[name] for name in ("cancel", "stop", "kill a worker", "KeyboardInterrupt")} | {
    "crash": _while_running(lambda life: life.fail("c"))
}


@pytest.mark.parametrize(("first", "second"), [*itertools.product(SMALL_ACTS, SMALL_ACTS)])
def test_every_pair_of_interruptions_at_every_pair_of_steps_of_a_small_tree(first: str, second: str) -> None:
    counting = SmallLife(4)
    assert counting.run({}) is None
    for one, two in itertools.combinations(range(1, counting.steps + 1), 2):
        life = SmallLife(4)
        acts = {one: SMALL_ACTS[first], two: SMALL_ACTS[second]}
        _check(life, life.run(acts), (first, second, str(one), str(two)))
