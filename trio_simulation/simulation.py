"""One run: nodes on a network, in one event loop, with virtual time."""

from __future__ import annotations

import contextvars
import os
import random
import socket as stdlib_socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import trio
from trio.testing import MockClock

from . import scheduler
from .clocks import patch_clocks, real_perf_counter
from .descriptors import patch_descriptors
from .faults import KINDS, Begin, Fault
from .network import Network
from .nodes import Node
from .patches import Patches
from .processes import Process, current
from .randomness import patch_randomness, seeded_random
from .threads import patch_threads
from .trace import Trace

Scenario = Callable[["Simulation"], Awaitable[Any]]

DEFAULT_LIMIT_S = 3600.0
_FIRST_PID = 1001
_CLEANUP_S = 1.0


class LimitExceeded(Exception):
    """A scenario did not end in time."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended.

    Attributes:
      seed: what it was run with.
      digest: the hash of its trace. Equal hashes are equal runs.
      virtual_s: how long it took on the virtual clock.
      real_s: how long it took here.
      value: what the scenario returned.
      error: what it raised, or None.
      faults: what it was disturbed by.
      lines: the trace as text, if it was kept.
    """

    seed: int
    digest: str
    virtual_s: float
    real_s: float
    value: Any
    error: BaseException | None
    faults: tuple[Fault, ...]
    lines: tuple[str, ...] | None


class Simulation:
    """What a scenario works with.

    Attributes:
      seed: the number that decides everything.
      random: for choices of the scenario. It is no part of what the program under test draws from `random`.
      network: connects the nodes, and fails on demand.
      fault_kinds: what a `Fault` does, by its kind. A scenario adds those of its models.
      outside: the node of the scenario itself, which reaches all others.
    """

    def __init__(self, seed: int, trace: Trace, clock: MockClock) -> None:
        self.seed = seed
        self.random = random.Random(f"{seed}/scenario")
        self.fault_kinds: dict[str, Begin] = dict(KINDS)
        self.network = Network(random.Random(f"{seed}/network"), self._note)
        self._trace = trace
        self._clock = clock
        self._pids = count(_FIRST_PID)
        self._nodes: dict[str, Node] = {}
        self._nursery: trio.Nursery | None = None
        self._context = contextvars.Context()
        self._faults_over = trio.Event()
        self.error: BaseException | None = None
        self.ended_at: float | None = None
        self.outside = self.node("outside", address="10.255.255.254")
        self.outside.process = Process(self.outside, self.next_pid())

    # --- for scenarios

    def node(self, name: str, *, address: str | None = None) -> Node:
        """Add a machine. Others reach it by its name or address (10.0.0.1 and so on)."""
        number = len(self._nodes)
        node = Node(self, name, address or f"10.0.{number // 250}.{number % 250}")
        self.network.add(node)
        self._nodes[name] = node
        return node

    @property
    def nodes(self) -> Sequence[Node]:
        """All nodes in the order in which they were added, without `outside`."""
        return [node for node in self._nodes.values() if node is not self.outside]

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    @property
    def now(self) -> float:
        """Virtual seconds since the start of the run."""
        return self._clock.current_time()

    def note(self, text: str) -> None:
        """Write a line into the trace, unless a killed process does."""
        self._note(text, b"")

    def start_soon(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Start a task of the scenario, which ends with the scenario at the latest."""
        self.spawn(function, *arguments)

    async def until_faults_are_over(self) -> None:
        """Wait until the last fault of this run has been undone."""
        await self._faults_over.wait()

    # --- for nodes

    def next_pid(self) -> int:
        """Return the number of a new process."""
        return next(self._pids)

    def spawn(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Start a task outside all processes."""
        assert self._nursery is not None
        context = self._context.copy()
        context.run(current.set, self.outside_process)
        context.run(self._nursery.start_soon, self._guarded, function, arguments)

    def spawn_here(self, function: Callable[[], Awaitable[None]]) -> None:
        """Start a task in the process of the current one."""
        assert self._nursery is not None
        self._nursery.start_soon(self._guarded, function, ())

    def let_run(self, process: Process) -> None:
        """Let a stopped process go on."""
        scheduler.let_run(process)

    @property
    def outside_process(self) -> Process:
        """The process of the scenario."""
        assert self.outside.process is not None
        return self.outside.process

    def _note(self, text: str, data: bytes) -> None:
        if current.get(self.outside_process).alive:
            self._trace.add(self._clock.current_time(), text, data)

    async def _guarded(self, function: Callable[..., Awaitable[Any]], arguments: Sequence[Any]) -> None:
        try:
            await function(*arguments)
        except Exception as error:  # noqa: BLE001  # it is the result of the run
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the run with this error, unless another one came first."""
        if self.error is None:
            self.error = error
        self._stop_clock()
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    def _stop_clock(self) -> None:
        """Note when the run ended; its tasks still clean up."""
        if self.ended_at is None:
            self.ended_at = self.now
            self._trace.close()

    # --- the run

    async def live(self, scenario: Scenario, faults: Sequence[Fault], limit_s: float) -> Any:
        """Run a scenario to its end."""
        scheduler.install_run_queue()
        trio.socket.set_custom_socket_factory(self.network)
        trio.socket.set_custom_hostname_resolver(self.network)
        current.set(self.outside_process)
        value = None
        async with trio.open_nursery() as self._nursery:
            self.spawn(self.network.postman.run)
            self._disturb(faults)
            self.spawn(self._limit, limit_s)
            try:
                value = await scenario(self)
            except Exception as error:  # noqa: BLE001  # it is the result of the run
                self._fail(error)
            finally:
                self._stop_clock()
                await self._end_all()
        return value

    def _disturb(self, faults: Sequence[Fault]) -> None:
        self._faults_left = len(faults)
        for fault in faults:
            self.spawn(self._let_happen, fault)
        if not faults:
            self._faults_over.set()

    async def _let_happen(self, fault: Fault) -> None:
        await fault.happen(self)
        self._faults_left -= 1
        if self._faults_left == 0:
            self._faults_over.set()

    async def _limit(self, limit_s: float) -> None:
        await trio.sleep(limit_s)
        raise LimitExceeded(f"the scenario had not ended after {limit_s:g} virtual seconds")

    async def _end_all(self) -> None:
        """Kill all programs. Their cleanup gets some virtual time, and then no shield holds any more."""
        for node in self.nodes:
            node.kill()
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            while self._nursery.child_tasks:
                await trio.sleep(_CLEANUP_S)
                scheduler.end_shields(self._nursery)


def attempt(
    scenario: Scenario,
    *,
    seed: int,
    faults: Sequence[Fault] = (),
    limit_s: float = DEFAULT_LIMIT_S,
    keep_trace: bool = False,
) -> Run:
    """Run a scenario in a loop of its own, and return how it ended, also if it raised an exception.

    Args:
      scenario: an async function of a `Simulation`. It starts nodes, waits, and raises what is wrong.
      seed: decides the order of tasks, all randomness and all delays.
      faults: what happens to nodes and the network meanwhile.
      limit_s: virtual seconds after which the run fails with `LimitExceeded`.
      keep_trace: whether the trace is kept as text.
    """
    scheduler.check_trio()
    trace = Trace(keep=keep_trace)
    clock = MockClock(autojump_threshold=0)
    simulation = Simulation(seed, trace, clock)
    started_at = real_perf_counter()
    with simulated(simulation) as garbage_collection:
        value = trio.run(simulation.live, scenario, faults, limit_s, clock=clock, instruments=[garbage_collection])
    lines = None if trace.lines is None else tuple(trace.lines)
    real_s = real_perf_counter() - started_at
    return Run(seed, trace.digest, simulation.ended_at or 0.0, real_s, value, simulation.error, tuple(faults), lines)


def run(scenario: Scenario, *, seed: int, faults: Sequence[Fault] = (), limit_s: float = DEFAULT_LIMIT_S) -> Any:
    """Run a scenario, and return or raise what it does. The error has a note with the seed."""
    done = attempt(scenario, seed=seed, faults=faults, limit_s=limit_s)
    if done.error is not None:
        done.error.add_note(f"seed {seed}, after {done.virtual_s:.3f} virtual seconds, trace {done.digest}")
        raise done.error
    return done.value


@contextmanager
def simulated(simulation: Simulation) -> Iterator[trio.abc.Instrument]:
    """Replace clocks, randomness, threads and the names of machine and process while the block runs."""
    seed = str(simulation.seed)
    patches = Patches()

    def here() -> Process:
        return current.get(simulation.outside_process)

    def wall() -> float:
        return here().node.clock.read(simulation.now)

    patch_clocks(patches, lambda: simulation.now, wall)
    patch_randomness(patches, seed)
    patch_threads(patches, seed, simulation.spawn_here)
    patch_descriptors(patches, simulation.network)
    patches.everywhere(os.getpid, lambda: here().pid)
    patches.everywhere(stdlib_socket.gethostname, lambda: here().node.name)
    with ExitStack() as stack:
        garbage_collection = stack.enter_context(scheduler.steady_garbage_collection())
        stack.enter_context(seeded_random(seed))
        stack.enter_context(patches.applied())
        stack.enter_context(scheduler.seeded_order(f"{seed}/order"))
        yield garbage_collection
