"""A tree under arbitrary treatment: whatever happens to it, in whatever order, some things always hold.

Trio runs in a thread of its own and does one thing at a time on request, with a clock that only the machine moves: a
run is a function of its steps, so that Hypothesis can shrink it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from supervisors import (
    Backoff,
    DynamicSupervisor,
    Event,
    Intensity,
    NodeState,
    NotRunning,
    Restart,
    SpecError,
    StartFailed,
    State,
    Strategy,
    SupervisionError,
    Supervisor,
    TooManyChildren,
    TooManyRestarts,
    Worker,
)
from supervisors._engine import Engine

from .probes import NO_BACKOFF, Stage, observed

T = TypeVar("T")

GRACE_S = 2.0
CLEAN_UP_S = 0.5
START_TIMEOUT_S = 3.0
STEP_S = 0.25
UP = (State.STARTING, State.RUNNING, State.STOPPING)

STATIC = ("a", "s/b", "s/c", "s/d", "e")  # in start order; s is a supervisor, and so is pool, right of all
DYNAMIC = ("p1", "p2", "p3")
SIBLINGS = {"/": ("a", "s", "e", "pool"), "s": ("s/b", "s/c", "s/d"), "pool": tuple(f"pool/{name}" for name in DYNAMIC)}
NODES = (*STATIC, "s", "pool", *SIBLINGS["pool"])
LEAVES = (*"abcde", *DYNAMIC)


class TrioThread:
    """Runs Trio in a thread; `call` has it do one thing and settle."""

    def __init__(self) -> None:
        self.clock = MockClock()
        self._started = threading.Event()
        self._done = trio.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), kwargs={"clock": self.clock}, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self.nursery:
            self._started.set()
            await self._done.wait()

    def call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            result = function()
            await wait_all_tasks_blocked()
            return result

        return trio.from_thread.run(run, trio_token=self._token)

    def pass_time(self, seconds: float) -> None:
        """In small steps, as a jump over several deadlines would make them one moment."""

        async def run() -> None:
            for _ in range(round(seconds / STEP_S)):
                self.clock.jump(STEP_S)
                await wait_all_tasks_blocked()

        trio.from_thread.run(run, trio_token=self._token)

    def end(self) -> None:
        self._token.run_sync_soon(self._done.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


class Tree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.trio = TrioThread()
        self.stage = Stage()
        self.root = Supervisor("app")
        self.pool = DynamicSupervisor("pool")
        self.supervisors: dict[str, Supervisor | DynamicSupervisor] = {}
        self.strategies: dict[str, Strategy] = {}
        self.outcome: list[BaseException | None] = []
        self.stop_asked_at: float | None = None
        self.handled: set[str] = set()  # stopped by hand: they may have missed their turn
        self.killed: set[str] = set()
        self.asked_back: dict[str, int] = {}  # when asked to restart, down or stopping, of this incarnation

    @initialize(
        outer=st.sampled_from(Strategy),
        inner=st.sampled_from(Strategy),
        restarts=st.lists(st.sampled_from(Restart), min_size=5, max_size=5),
        max_restarts=st.integers(0, 4),
        backoff=st.sampled_from([NO_BACKOFF, Backoff(first_s=0.5, max_s=1.0, jitter=0.0, healthy_after_s=5.0)]),
        start_s=st.lists(st.sampled_from([0.0, 0.0, 1.0]), min_size=5, max_size=5),
    )
    def begin(
        self,
        outer: Strategy,
        inner: Strategy,
        restarts: list[Restart],
        max_restarts: int,
        backoff: Backoff,
        start_s: list[float],
    ) -> None:
        self.intensity = Intensity(max_restarts, 5.0)
        self.backoff = backoff
        specs: dict[str, Worker[None]] = {}
        for name, restart, seconds in zip(STATIC, restarts, start_s, strict=True):
            leaf = name.rpartition("/")[2]
            specs[leaf] = self.stage.spec(
                leaf, restart=restart, grace_s=GRACE_S, start_timeout_s=START_TIMEOUT_S, backoff=backoff
            )
            self.stage[leaf].start_s = seconds
        for name in DYNAMIC:
            self.stage.spec(name)
        self.strategies = {"/": outer, "s": inner, "pool": Strategy.ONE_FOR_ONE}
        self.pool = DynamicSupervisor("pool", max_children=2, intensity=self.intensity)
        middle = Supervisor("s", [specs["b"], specs["c"], specs["d"]], strategy=inner, intensity=self.intensity)
        children = [specs["a"], middle, specs["e"], self.pool]
        root = Supervisor("app", children, strategy=outer, intensity=self.intensity, backoff=backoff)
        self.root = observed(root, self.stage.observe)
        self.supervisors = {"/": self.root, "s": middle, "pool": self.pool}
        self.trio.call(lambda: self.trio.nursery.start_soon(self._run))

    async def _run(self) -> None:
        try:
            await self.root.run()
        except SupervisionError as exc:
            self.outcome.append(exc)
        else:
            self.outcome.append(None)

    # --- what may happen ---

    @rule(name=st.sampled_from(LEAVES))
    def crash(self, name: str) -> None:
        self.trio.call(self.stage[name].fail)

    @rule(first=st.sampled_from(LEAVES), second=st.sampled_from(LEAVES))
    def crash_two_at_once(self, first: str, second: str) -> None:
        def crash() -> None:
            self.stage[first].fail()
            self.stage[second].fail()

        self.trio.call(crash)

    @rule(name=st.sampled_from(LEAVES))
    def come_to_an_end(self, name: str) -> None:
        self.trio.call(self.stage[name].finish)

    @rule(name=st.sampled_from(LEAVES), hangs=st.booleans())
    def hang_in_start(self, name: str, hangs: bool) -> None:
        self.stage[name].hangs_in_start = hangs

    @rule(name=st.sampled_from(LEAVES), starts=st.integers(0, 3))
    def fail_in_start(self, name: str, starts: int) -> None:
        self.stage[name].failing_starts = starts

    @rule(name=st.sampled_from(LEAVES), stop_s=st.sampled_from([0.0, 1.0, math.inf]))
    def stop_slowly(self, name: str, stop_s: float) -> None:
        self.stage[name].stop_s = stop_s

    @rule(name=st.sampled_from(LEAVES), clean_up_s=st.sampled_from([0.0, CLEAN_UP_S]))
    def clean_up_slowly(self, name: str, clean_up_s: float) -> None:
        self.stage[name].clean_up_s = clean_up_s

    @rule(path=st.sampled_from(NODES))
    def kill(self, path: str) -> None:
        self.killed.add(path)
        self._ask(lambda: self.root.find(path).kill())

    @rule(path=st.sampled_from(NODES))
    def stop_child(self, path: str) -> None:
        self.handled.add(path)
        self.asked_back.pop(path, None)
        self._ask(lambda: self.root.find(path).stop())

    @rule(path=st.sampled_from(NODES))
    def restart_child(self, path: str) -> None:
        self.handled.add(path)
        self._ask(lambda: self._ask_back(path))

    @rule(path=st.sampled_from(NODES))
    def stop_and_restart_child(self, path: str) -> None:
        """In one moment."""
        self.handled.add(path)

        def ask() -> None:
            self.root.find(path).stop()
            self._ask_back(path)

        self._ask(ask)

    def _ask_back(self, path: str) -> None:
        node = next((node for node in self._nodes() if node.path == path), None)
        self.root.find(path).restart()
        if node is not None and node.state in (State.STOPPING, State.STOPPED, State.FINISHED, State.FAILED):
            self.asked_back[path] = node.incarnation

    @rule(name=st.sampled_from(DYNAMIC), restart=st.sampled_from(Restart))
    def add(self, name: str, restart: Restart) -> None:
        async def start() -> None:
            spec = Worker(
                name,
                self.stage[name].run,
                restart=restart,
                start_timeout_s=START_TIMEOUT_S,
                backoff=self.backoff,
                grace_s=GRACE_S,
            )
            with suppress(NotRunning, TooManyChildren, SpecError, StartFailed):
                await self.pool.start(spec)

        self.trio.call(lambda: self.trio.nursery.start_soon(start))

    @rule(seconds=st.sampled_from([STEP_S, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.trio.pass_time(seconds)

    @precondition(lambda self: self.stop_asked_at is None)
    @rule(brutally=st.booleans())
    def stop(self, brutally: bool) -> None:
        self.stop_asked_at = self.trio.call(trio.current_time)
        self.trio.call(lambda: self.root.stop(0.0 if brutally else math.inf))

    def _ask(self, call: Callable[[], object]) -> None:
        def ask() -> None:
            with suppress(LookupError, NotRunning):
                call()

        self.trio.call(ask)

    # --- what always holds ---

    @invariant()
    def a_child_lives_exactly_while_its_node_is_up(self) -> None:
        for node in self._nodes():
            probe = self.stage.probes.get(node.name)
            if probe is not None:
                # (That there are never two incarnations of one child is asserted by the probe itself.)
                assert probe.up is (node.state in UP), f"{node.path} is {node.state}, its task is up: {probe.up}"

    @invariant()
    def nobody_lives_without_a_node(self) -> None:
        assert self.stage.up() <= {node.name for node in self._nodes()}

    @invariant()
    def who_waits_has_one_turn_to_come(self) -> None:
        for supervisor in self._running():
            engine = supervisor._record.below
            assert isinstance(engine, Engine)
            batches = set(engine._turns.values())
            turns = [record for batch in batches for record in batch.to_start]
            assert len(turns) == len(set(turns))
            assert set(turns) == set(engine._turns) <= set(engine.records.values())
            assert all(set(batch.to_stop) <= set(batch.to_start) for batch in batches)
            for record in engine.records.values():
                assert record in turns or record.state not in (State.WAITING, State.BACKOFF), record.path

    @invariant()
    def who_was_asked_back_comes_back(self) -> None:
        for supervisor in self._running():
            for node in supervisor.snapshot().children:
                if self.asked_back.get(node.path) == node.incarnation:
                    assert node.state in (State.STOPPING, State.WAITING), f"{node.path} is {node.state}"

    @invariant()
    def nobody_is_asked_to_stop_for_another_one_who_is_none_of_its_concern(self) -> None:
        for supervisor, siblings in SIBLINGS.items():
            strategy, starting, going_down = self.strategies.get(supervisor), True, False
            concerned: dict[str, bool] = dict.fromkeys(siblings, False)
            for event in self.stage.events:
                if event.path == supervisor:
                    starting = event.kind == "starting" or (starting and event.kind != "started")
                    going_down = event.kind in ("stopping", "escalated", "cancelled", "failed")
                elif event.path not in siblings:
                    continue
                elif event.kind == "starting":
                    concerned[event.path] = False
                elif event.kind == "failed" and starting:
                    going_down = True
                elif event.kind == "backoff":
                    place = siblings.index(event.path)
                    rest = siblings[place + 1 :] if strategy is Strategy.REST_FOR_ONE else ()
                    concerned |= dict.fromkeys(siblings if strategy is Strategy.ONE_FOR_ALL else rest, True)
                elif event.kind == "stopping" and not going_down and not _gives_up(event):
                    by_hand = {event.path, supervisor} & (self.handled | self.killed)
                    assert by_hand or concerned[event.path], event

    @invariant()
    def nothing_below_a_node_that_is_down_is_up(self) -> None:
        for node in self._nodes():
            if node.state not in UP:
                assert not any(below.state in UP for below in node.walk()), node.path

    @invariant()
    def no_more_dynamic_children_than_allowed(self) -> None:
        assert sum(node.path.startswith("pool/") for node in self._nodes()) <= 2

    @invariant()
    def restarts_per_window_are_bounded(self) -> None:
        for supervisor in ("/", "s", "pool"):
            times: list[float] = []
            for event in self.stage.events:
                if event.path == "/" and event.kind == "starting":
                    times.clear()  # a new run of the tree has new windows
                elif event.kind == "backoff" and (event.path.rpartition("/")[0] or "/") == supervisor:
                    times.append(event.at)
                    recent = [time for time in times if event.at - time <= self.intensity.within_s]
                    assert len(recent) <= self.intensity.max_restarts

    @invariant()
    def first_starts_are_left_to_right(self) -> None:
        first = [path for path in self._told("starting", 1) if path not in self.handled and "s" not in self.handled]
        assert first == sorted(first, key=STATIC.index)

    @invariant()
    def the_last_stop_is_right_to_left(self) -> None:
        asked = [path for path in self._told("stopping", after=("/", "stopping")) if path not in self.handled]
        assert asked == sorted(asked, key=STATIC.index, reverse=True)

    @invariant()
    def the_end_leaves_nothing_behind(self) -> None:
        if self.outcome:
            assert self.stage.up() == set()
            assert not any(node.state in UP for node in self._nodes())
            assert self.outcome[0] is None or isinstance(self.outcome[0], StartFailed | TooManyRestarts)
            assert self.outcome[0] is not None or self.stop_asked_at is not None

    def teardown(self) -> None:
        """Whatever was done to it, it stops, and in bounded time: each static child's grace and clean-up in turn."""
        begun = self.trio.call(trio.current_time)
        if self.stop_asked_at is None:
            self.stop_asked_at = begun
            self.trio.call(self.root.stop)
        bound_s = (len(STATIC) + 1) * (GRACE_S + CLEAN_UP_S)
        while not self.outcome and self.trio.call(trio.current_time) - begun <= bound_s + STEP_S:
            self.trio.pass_time(STEP_S)
        assert self.outcome, "still not stopped"
        self.the_end_leaves_nothing_behind()
        self.trio.end()

    def _running(self) -> list[Supervisor | DynamicSupervisor]:
        """Those that start or serve."""
        up = (State.STARTING, State.RUNNING)
        return [each for each in self.supervisors.values() if each.snapshot().state in up]

    def _nodes(self) -> list[NodeState]:
        return [node for child in self.root.snapshot().children for node in child.walk()]

    def _told(self, kind: str, incarnation: int | None = None, after: tuple[str, str] | None = None) -> list[str]:
        """The static children that such an event told of, in order."""
        events = list(self.stage.events)
        if after is not None:
            begin = next((i for i, event in enumerate(events) if (event.path, event.kind) == after), len(events))
            events = events[begin:]
        return [
            event.path
            for event in events
            if event.kind == kind and event.path in STATIC and incarnation in (None, event.incarnation)
        ]


def _gives_up(event: Event) -> bool:
    """A supervisor that stops by itself."""
    reason = event.reason or ""
    return reason == "kill" or reason.startswith("too many restarts") or reason.endswith("failed to start")


Tree.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTree = Tree.TestCase
