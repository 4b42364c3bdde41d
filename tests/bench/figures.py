"""What a measurement found, as one line: ours, theirs, the ratio, the goal, and whether it was met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_NAME_WIDTH = 54


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the ``ratio`` or on ``ours``: at most that much, or (``at_least``) no less."""

    limit: float
    of: str = "ratio"
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Whether ``value`` keeps the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. ``spread`` is the least and the greatest ratio of the single rounds; None where there was one round."""

    name: str
    unit: str
    ours: float
    theirs: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or ``-`` without a goal."""
        if self.goal is None:
            return "-"
        value = self.ratio if self.goal.of == "ratio" else self.ours
        return "met" if value is not None and self.goal.is_met(value) else "missed"

    def line(self) -> str:
        """For people: ``name  ours  theirs  ratio  goal  met|missed``, and the spread of the ratio behind it."""
        goal = "-" if self.goal is None else f"{self.goal}{'' if self.goal.of == 'ratio' else f' {self.unit}'}"
        spread = "" if self.spread is None else f"({self.spread[0]:.2f} to {self.spread[1]:.2f})"
        ratio = "-" if self.ratio is None else f"{self.ratio:.3f}"
        columns = f"{_shown(self.ours):>9} {_shown(self.theirs):>9} {ratio:>7} {goal:>9} {self.verdict:>7}"
        return f"{f'{self.name}, {self.unit}':{_NAME_WIDTH}} {columns}  {spread}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"verdict": self.verdict}


HEADING = f"{'':{_NAME_WIDTH}} {'ours':>9} {'theirs':>9} {'ratio':>7} {'goal':>9} {'':>7}  (spread of the ratio)"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rounds in which both sides took turns: the machine's noise hits both, and drops out of each round's ratio."""

    rounds: Sequence[tuple[float, float]]

    @classmethod
    def taken(cls, rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Pairs:
        """Measure both sides ``rounds`` times, each side first in every other round."""
        taken = []
        for number in range(rounds):
            if number % 2:
                their_value = theirs()
                taken.append((ours(), their_value))
            else:
                our_value = ours()
                taken.append((our_value, theirs()))
        return cls(taken)

    def figure(self, name: str, unit: str, goal: Goal | None = None) -> Figure:
        """Medians of each side, and the median of the rounds' ratios (which drifts less than the times do)."""
        ratios = [ours / theirs for ours, theirs in self.rounds]
        return Figure(
            name,
            unit,
            ours=statistics.median(ours for ours, _ in self.rounds),
            theirs=statistics.median(theirs for _, theirs in self.rounds),
            ratio=statistics.median(ratios),
            spread=(min(ratios), max(ratios)) if len(ratios) > 1 else None,
            goal=goal,
        )


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 1 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"
