"""Who reaches whom, and how fast."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..nodes import Node

# A network card is not involved.
_LOOPBACK_S = (0.00001, 0.00003)


@dataclass(eq=False)
class Cut:
    """A part of the network through which nothing passes, until it is healed."""

    sources: frozenset[str]
    targets: frozenset[str]
    one_way: bool
    on_heal: Callable[[Cut], None] = field(repr=False)

    def blocks(self, source: str, target: str) -> bool:
        """Return whether packets from one node to the other are lost."""
        if source in self.sources and target in self.targets:
            return True
        return not self.one_way and source in self.targets and target in self.sources

    def heal(self) -> None:
        """Let packets pass again. Safe to repeat."""
        self.on_heal(self)


class Links:
    """Latency and cuts between nodes.

    Attributes:
      latency_s: the range from which the time of each packet is chosen.
    """

    def __init__(self, chance: random.Random, changed: Callable[[], None]) -> None:
        self.latency_s = (0.0002, 0.001)
        self._chance = chance
        self._changed = changed
        self._cuts: dict[Cut, None] = {}
        self._extra_s: dict[str, float] = {}

    def cut(self, sources: Iterable[Node], targets: Iterable[Node], *, one_way: bool) -> Cut:
        """Lose all packets between two groups of nodes."""
        names, others = (frozenset(node.name for node in group) for group in (sources, targets))
        cut = Cut(names, others, one_way, self._heal)
        self._cuts[cut] = None
        return cut

    def heal_all(self) -> None:
        """End all cuts."""
        self._cuts.clear()
        self._changed()

    def _heal(self, cut: Cut) -> None:
        if self._cuts.pop(cut, self) is None:
            self._changed()

    def slow(self, node: Node, extra_s: float) -> None:
        """Let each packet from and to a node take up to so much longer; 0 ends it."""
        self._extra_s[node.name] = extra_s

    def open(self, source: Node, target: Node) -> bool:
        """Return whether a packet arrives."""
        if source is target:
            return target.powered
        if not (source.powered and target.powered):
            return False
        return not any(cut.blocks(source.name, target.name) for cut in self._cuts)

    def delay_s(self, source: Node, target: Node) -> float:
        """Choose how long the next packet takes."""
        if source is target:
            return self._chance.uniform(*_LOOPBACK_S)
        extra_s = self._extra_s.get(source.name, 0.0) + self._extra_s.get(target.name, 0.0)
        return self._chance.uniform(*self.latency_s) + self._chance.uniform(0, extra_s)
