"""What a flood unit of gRPC costs: each row of the cost table as a flood, in the protocol core without its sockets."""

from __future__ import annotations

import statistics
import time

from tests.bench.figures import Figure, Goal
from tests.bench.setting import Setting
from trio_grpc.tests.test_costs import ROWS, Attack, Row

_MOST_US = 25.0  # what `frames` says of a unit
_BUDGET = 900  # of the 1000 units of a connection: what a row's setup takes is in none of them


def measure(setting: Setting) -> list[Figure]:
    """Microseconds of CPU for a unit: the median of the rounds."""
    rounds, budget = (1, 0) if setting.quick else (9, _BUDGET)
    return [
        Figure(
            f"flood: {row.name}",
            "µs / unit",
            ours=statistics.median(_us_per_unit(row, budget) for _ in range(rounds)),
            goal=Goal(_MOST_US, of="ours"),
        )
        for row in ROWS
        if row.units
    ]


def _us_per_unit(row: Row, budget: int) -> float:
    """Of as many steps as ``budget`` units allow, and of one at least.

    Only what the core does with the bytes counts, not what it takes to make them.
    """
    attack = Attack()
    row.setup(attack)
    spent_s = 0.0
    receive = attack.core.receive

    def timed(piece: bytes, now: float) -> object:
        nonlocal spent_s
        begun = time.thread_time()
        events = receive(piece, now)
        spent_s += time.thread_time() - begun
        return events

    attack.core.receive = timed  # type: ignore[method-assign, assignment]
    steps = max((budget - row.before) // row.units, 1)
    for _ in range(row.free + steps):
        row.step(attack)
    return spent_s * 1e6 / (steps * row.units)
