"""Many seeds, each in a process of its own, and what the failing ones have in common: a command line for scenarios."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from .children import ChildFailed, map_in_children
from .faults import Fault, FaultPlan, from_json, to_json
from .shrinking import shrink
from .simulation import DEFAULT_LIMIT_S, Scenario, attempt

REAL_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """How one seed ended.

    Attributes:
      digest: the hash of its trace, "" if the process was killed.
      error_type: the name of the exception's class, "" if there is none.
      error: the exception as a sentence.
      report: the exception with its traceback.
    """

    seed: int
    digest: str
    virtual_s: float
    real_s: float
    error_type: str
    error: str
    report: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Explorer:
    """Runs a scenario with many seeds.

    Attributes:
      plan: which faults happen; without one, none do.
      limit_s: virtual seconds after which a run fails.
      jobs: how many processes run at once.
      real_limit_s: real seconds after which a run is killed.
    """

    scenario: Scenario
    plan: FaultPlan | None = None
    limit_s: float = DEFAULT_LIMIT_S
    jobs: int = 1
    real_limit_s: float = REAL_LIMIT_S

    def faults(self, seed: int) -> tuple[Fault, ...]:
        """Return the faults of a seed."""
        return self.plan.draw(seed) if self.plan is not None else ()

    def explore(self, seeds: Iterable[int]) -> Iterator[Result]:
        """Run seeds, and yield how each ended, in the order in which they end."""
        yield from self._run_all((seed, self.faults(seed)) for seed in seeds)

    def run_one(self, seed: int, faults: Sequence[Fault]) -> Result:
        """Run one seed in a process of its own."""
        [result] = self._run_all([(seed, tuple(faults))])
        return result

    def shrink(self, failed: Result) -> list[Fault]:
        """Return the shortest list of faults with which the seed ends with the same type of error."""
        return shrink(failed.faults, lambda faults: self._fails_alike(failed, faults))

    def _fails_alike(self, failed: Result, faults: Sequence[Fault]) -> bool:
        return self.run_one(failed.seed, faults).error_type == failed.error_type

    def _run_all(self, tries: Iterable[tuple[int, tuple[Fault, ...]]]) -> Iterator[Result]:
        run = partial(_run, self.scenario, self.limit_s)
        for (seed, faults), result in map_in_children(run, tries, jobs=self.jobs, limit_s=self.real_limit_s):
            if isinstance(result, ChildFailed):
                yield Result(seed, "", 0.0, self.real_limit_s, "ChildFailed", str(result), str(result), faults)
            else:
                yield result


def _run(scenario: Scenario, limit_s: float, one: tuple[int, tuple[Fault, ...]]) -> Result:
    seed, faults = one
    done = attempt(scenario, seed=seed, faults=faults, limit_s=limit_s)
    error_type, error, report = "", "", ""
    if done.error is not None:
        error_type, error = type(done.error).__name__, f"{type(done.error).__name__}: {done.error}"
        report = "".join(traceback.format_exception(done.error))
    return Result(seed, done.digest, done.virtual_s, done.real_s, error_type, error, report, faults)


def main(
    scenario: Scenario,
    plan: FaultPlan | None = None,
    *,
    limit_s: float = DEFAULT_LIMIT_S,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a scenario from the command line, and return the exit status: 1 if a seed failed.

    A script ends with ``sys.exit(main(scenario, plan))``; its ``--help`` says what it can do.
    """
    options = _parser(scenario).parse_args(arguments)
    explorer = Explorer(scenario, plan, limit_s, options.jobs)
    if options.replay is not None:
        return _show(explorer, options.seed, from_json(options.replay.read_text()), options.trace)
    if options.trace is not None:
        return _show(explorer, options.seed, explorer.faults(options.seed), options.trace)
    if options.twice:
        return _compare(options.seed)
    return _explore(explorer, options)


def _parser(scenario: Scenario) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=scenario.__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, help="how many seeds; without it and --seconds, one")
    parser.add_argument("--seconds", type=float, help="real seconds after which no further seed is begun")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes run at once")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for the shortest list of faults")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the shortest list of faults")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one seed with the faults of a file")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="run one seed, and write its trace")
    parser.add_argument(
        "--twice", action="store_true", help="compare two runs of a seed, whose strings hash differently"
    )
    return parser


def _explore(explorer: Explorer, options: argparse.Namespace) -> int:
    seeds = _seeds(options.seed, options.seeds, options.seconds)
    began_at, tried, failed, virtual_s, real_s = time.monotonic(), 0, 0, 0.0, 0.0
    for result in explorer.explore(seeds):
        tried += 1
        virtual_s += result.virtual_s
        real_s += result.real_s
        if result.error_type:
            failed += 1
            print(f"seed {result.seed} failed after {time.monotonic() - began_at:.1f} s, {tried} seeds", flush=True)
            _report(explorer, result, options)
            if not options.keep_going:
                break
        elif options.seeds is None and options.seconds is None:
            print(f"seed {result.seed} passed; trace {result.digest}")
    print(f"{tried} seeds, {failed} failed; {virtual_s:.0f} virtual seconds in {real_s:.1f} s of processes")
    return int(failed > 0)


def _seeds(first: int, number: int | None, seconds: float | None) -> Iterator[int]:
    ends_at = time.monotonic() + seconds if seconds is not None else None
    if number is None and seconds is None:
        number = 1
    for tried, seed in enumerate(count(first)):
        if (number is not None and tried >= number) or (ends_at is not None and time.monotonic() >= ends_at):
            return
        yield seed


def _report(explorer: Explorer, failed: Result, options: argparse.Namespace) -> None:
    print(f"  {failed.error}\n  trace {failed.digest}")
    if options.no_shrink:
        return
    shortest = explorer.shrink(failed)
    print(f"  shortest list of faults, {len(shortest)} of {len(failed.faults)}:")
    for fault in shortest:
        print(f"    {fault}")
    if options.save is not None:
        options.save.write_text(to_json(shortest))
    print(explorer.run_one(failed.seed, shortest).report, end="", flush=True)


def _show(explorer: Explorer, seed: int, faults: Sequence[Fault], trace: Path | None) -> int:
    done = attempt(explorer.scenario, seed=seed, faults=faults, limit_s=explorer.limit_s, keep_trace=trace is not None)
    if trace is not None and done.lines is not None:
        trace.write_text("".join(f"{line}\n" for line in done.lines))
    print(f"seed {seed}: {done.error!r}; trace {done.digest}")
    if done.error is not None:
        traceback.print_exception(done.error)
    return int(done.error is not None)


def _compare(seed: int) -> int:
    """Run the same command with other hashes of strings, which decide the order of sets."""
    answers = [_output_with(hash_seed, seed) for hash_seed in ("1", "2")]
    if answers[0] == answers[1]:
        print(f"twice the same: {answers[0]}")
        return 0
    print(f"two runs of seed {seed} differ: a set of strings or objects decides something.\n{answers[0]}\n{answers[1]}")
    return 1


def _output_with(hash_seed: str, seed: int) -> str:
    command = [*sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1], "--seed", str(seed), "--no-shrink"]
    environ = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return "\n".join(line for line in done.stdout.splitlines() if "trace" in line).strip()
