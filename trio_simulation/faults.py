"""What goes wrong, as a list that can be drawn by a seed, written down, replayed and shortened."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .simulation import Simulation

Undo = Callable[[], None]
Begin = Callable[["Simulation", "Fault"], Undo | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
      kind: a name of `KINDS`, or of `Simulation.fault_kinds`.
      at_s: when, in virtual seconds from the start.
      duration_s: how long, until it is undone.
      nodes: the names of the nodes that it concerns.
      amount: what the kind makes of it: a share of connections, seconds of latency or of skew.
    """

    kind: str
    at_s: float
    duration_s: float
    nodes: tuple[str, ...]
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at_s:.3f} s: {self.kind} {', '.join(self.nodes)} for {self.duration_s:.3f} s ({self.amount:.3f})"

    async def happen(self, simulation: Simulation) -> None:
        """Wait for its time, let it happen, and undo it."""
        await trio.sleep(self.at_s)
        begin = simulation.fault_kinds.get(self.kind)
        if begin is None:
            raise ValueError(f"no fault is called {self.kind}; the scenario adds its own to Simulation.fault_kinds")
        if any(name not in simulation for name in self.nodes):
            simulation.note(f"no node for: {self}")
            return
        simulation.note(f"fault {self}")
        undo = begin(simulation, self)
        await trio.sleep(self.duration_s)
        if undo is not None:
            undo()


def _kill(simulation: Simulation, fault: Fault) -> Undo:
    node = simulation[fault.nodes[0]]
    node.kill()
    return node.power_on


def _power_off(simulation: Simulation, fault: Fault) -> Undo:
    node = simulation[fault.nodes[0]]
    node.power_off()
    return node.power_on


def _pause(simulation: Simulation, fault: Fault) -> Undo:
    node = simulation[fault.nodes[0]]
    node.pause()
    return node.resume


def _partition(simulation: Simulation, fault: Fault) -> Undo:
    node, *others = (simulation[name] for name in fault.nodes)
    return simulation.network.partition([node], others).heal


def _one_way(simulation: Simulation, fault: Fault) -> Undo:
    node, *others = (simulation[name] for name in fault.nodes)
    return simulation.network.partition([node], others, one_way=True).heal


def _reset(simulation: Simulation, fault: Fault) -> None:
    simulation.network.reset(simulation[fault.nodes[0]], share=fault.amount)


def _hang(simulation: Simulation, fault: Fault) -> None:
    simulation.network.hang(simulation[fault.nodes[0]], share=fault.amount)


def _slow(simulation: Simulation, fault: Fault) -> Undo:
    node = simulation[fault.nodes[0]]
    simulation.network.slow(node, fault.amount)
    return lambda: simulation.network.slow(node, 0.0)


def _skew(simulation: Simulation, fault: Fault) -> Undo:
    node = simulation[fault.nodes[0]]
    node.set_clock(skew_s=(2 * fault.amount - 1) * _MAX_SKEW_S)
    return lambda: node.set_clock(skew_s=0.0)


def _drift(simulation: Simulation, fault: Fault) -> Undo:
    node = simulation[fault.nodes[0]]
    node.set_clock(drift=(2 * fault.amount - 1) * _MAX_DRIFT)
    return lambda: node.set_clock(skew_s=0.0, drift=0.0)


# Machines whose clock is not kept by NTP are off by minutes.
_MAX_SKEW_S = 60.0
# Ten times the worst that cheap quartz does, so that a short run shows it.
_MAX_DRIFT = 0.001

KINDS: dict[str, Begin] = {
    "kill": _kill,
    "power off": _power_off,
    "pause": _pause,
    "partition": _partition,
    "one-way partition": _one_way,
    "reset": _reset,
    "hang": _hang,
    "slow": _slow,
    "skew": _skew,
    "drift": _drift,
}
_OF_TWO_GROUPS = frozenset({"partition", "one-way partition"})


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How often which faults happen.

    Attributes:
      nodes: the names of the nodes that faults may concern.
      span_s: the last fault begins before this time.
      mean_pause_s: the mean time between two faults.
      kinds: names of faults. A name that stands twice is twice as frequent.
      durations_s: the range of durations; short ones are as frequent as long ones.
    """

    nodes: Sequence[str]
    span_s: float
    mean_pause_s: float = 5.0
    kinds: Sequence[str] = tuple(KINDS)
    durations_s: tuple[float, float] = (0.01, 30.0)

    def draw(self, seed: int) -> tuple[Fault, ...]:
        """Return the faults of a seed."""
        chance = random.Random(f"{seed}/faults")
        faults: list[Fault] = []
        at_s = chance.expovariate(1 / self.mean_pause_s)
        while at_s < self.span_s:
            faults.append(self._draw_one(chance, at_s))
            at_s += chance.expovariate(1 / self.mean_pause_s)
        return tuple(faults)

    def _draw_one(self, chance: random.Random, at_s: float) -> Fault:
        kind = chance.choice(self.kinds)
        shuffled = chance.sample(self.nodes, len(self.nodes))
        shortest_s, longest_s = self.durations_s
        duration_s = shortest_s * (longest_s / shortest_s) ** chance.random()
        concerned = 1
        if kind in _OF_TWO_GROUPS:
            concerned = chance.randint(2, len(shuffled))
        return Fault(kind, at_s, duration_s, tuple(shuffled[:concerned]), chance.random())


def to_json(faults: Iterable[Fault]) -> str:
    """Return the faults as text, with a line for each."""
    return "".join(f"{json.dumps(asdict(fault))}\n" for fault in faults)


def from_json(text: str) -> tuple[Fault, ...]:
    """Read what `to_json` wrote."""
    found = [json.loads(line) for line in text.splitlines()]
    return tuple(Fault(**{**each, "nodes": tuple(each["nodes"])}) for each in found)
