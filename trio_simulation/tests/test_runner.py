"""Many seeds, the shortest list of faults, and the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from trio_simulation import Explorer, Fault, FaultPlan, Simulation, main, shrink
from trio_simulation.faults import from_json

PLAN = FaultPlan(nodes=["one", "two"], span_s=60, mean_pause_s=2, kinds=["pause", "skew", "drift", "slow"])


class BothStoodStill(Exception):
    pass


async def both_stand_still(simulation: Simulation) -> None:
    """Fails if both nodes stand still at the same time."""
    nodes = [simulation.node(name) for name in PLAN.nodes]
    for node in nodes:
        node.start(trio.sleep_forever)
    while trio.current_time() < 90:
        await trio.sleep(0.05)
        if all(node.process is not None and node.process.stopped for node in nodes):
            raise BothStoodStill(f"at {simulation.now:.2f}")


@pytest.mark.parametrize(
    ("culprits", "length"),
    [({3}, 1), ({0, 99}, 2), ({5, 6, 50}, 3), (set(), 0)],
)
def test_shrinking_keeps_what_is_needed_and_nothing_else(culprits: set[int], length: int) -> None:
    tries = 0

    def fails(items: Sequence[int]) -> bool:
        nonlocal tries
        tries += 1
        return culprits <= set(items)

    assert set(shrink(range(100), fails)) == culprits
    assert len(culprits) == length
    assert tries < 100


def test_a_failing_seed_is_found_and_its_faults_are_shortened() -> None:
    explorer = Explorer(both_stand_still, PLAN, jobs=2)
    results = {result.seed: result for result in explorer.explore(range(8))}
    assert sorted(results) == list(range(8))
    failed = next(result for result in results.values() if result.error_type)
    assert failed.error_type == "BothStoodStill"
    assert len(failed.faults) > 10
    shortest = explorer.shrink(failed)
    assert sorted((fault.kind, fault.nodes) for fault in shortest) == [("pause", ("one",)), ("pause", ("two",))]
    assert explorer.run_one(failed.seed, failed.faults).digest == failed.digest


def test_a_run_that_hangs_or_dies_is_reported_and_harms_no_other() -> None:
    async def hang_or_die(simulation: Simulation) -> None:
        if simulation.seed == 1:
            while True:
                pass
        if simulation.seed == 2:
            os._exit(3)

    explorer = Explorer(hang_or_die, jobs=4, real_limit_s=3)
    errors = {result.seed: result.error for result in explorer.explore(range(1, 4))}
    assert errors[1] == "killed after 3 real seconds: it hangs, or is too slow"
    assert errors[2] == "its process ended with status 3"
    assert errors[3] == ""


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, trace = tmp_path / "faults", tmp_path / "trace"
    assert main(both_stand_still, PLAN, arguments=["--seeds", "8", "--jobs", "2", "--save", str(saved)]) == 1
    shown = capsys.readouterr().out
    assert "BothStoodStill: at " in shown
    assert "shortest list of faults, 2 of " in shown
    seed = shown.split()[1]
    shortest = from_json(saved.read_text())
    assert all(isinstance(fault, Fault) for fault in shortest)
    command = ["--seed", seed, "--replay", str(saved), "--trace", str(trace)]
    assert main(both_stand_still, PLAN, arguments=command) == 1
    assert next(line for line in trace.read_text().splitlines() if " fault " in line).endswith(str(shortest[0]))
    assert main(both_stand_still, arguments=["--seed", "1"]) == 0
    assert "seed 1 passed; trace " in capsys.readouterr().out
    assert main(both_stand_still, arguments=["--seconds", "0.5", "--jobs", "1"]) == 0
    assert " 0 failed" in capsys.readouterr().out
