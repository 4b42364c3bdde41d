"""``python -m tests.mutation``: each mutant of `supervisors/` against its tests. ``--only _policy`` for one module,
``--since REVISION`` for the lines that were changed since then.

Prints who survives. Exit status 1 if one does that `survivors.toml` gives no reason for, or if a reason there has
become void.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# What the tests import, but never what is mutated: each trial is a fork of this process.
import hypothesis.stateful
import trio.testing  # noqa: F401

from tests.mutation.operators import Mutant, enums_of, mutants_of
from tests.mutation.trial import PLUGINS, Trials, Verdict

HOUSE = Path(__file__).parents[2]
PACKAGE = HOUSE / "supervisors"
REASONS = Path(__file__).with_name("survivors.toml")
_LAST = ("interruptions", "protection", "otp_model", "docs", "machine", "everywhere")  # they take longest
_WITHOUT = ("types",)  # a type checker's
_NAMES = {path.stem.removeprefix("test_") for path in (PACKAGE / "tests").glob("test_*.py")}.difference(_LAST, _WITHOUT)
TESTS = tuple(f"supervisors/tests/test_{name}.py" for name in (*sorted(_NAMES), *_LAST))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a survivor may live. ``change`` is its diff, line by line without the indentation."""

    module: str
    change: tuple[str, ...]
    why: str


def main() -> int:
    """0 when every survivor has its reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", default="", help="modules with this in their name")
    parser.add_argument("--since", default="", help="a revision: only lines that were changed since then")
    parser.add_argument("--part", default="1/1", help="2/3: every third mutant, from the second on")
    parser.add_argument("--list", action="store_true", help="print the mutants, and try none")
    arguments = parser.parse_args()
    os.chdir(HOUSE)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for plugin in PLUGINS:
        importlib.import_module(plugin)
    assert not any(name.partition(".")[0] == "supervisors" for name in sys.modules)
    sources = {f"supervisors.{path.stem}": path.read_text() for path in sorted(PACKAGE.glob("_[a-z]*.py"))}
    enums = enums_of(sources.values())
    changed = {module: _changed_lines(module, arguments.since) for module in sources if arguments.since}
    mutants = [
        (module, mutant)
        for module, source in sources.items()
        if arguments.only in module
        for mutant in mutants_of(source, enums)
        if not arguments.since or mutant.line in changed[module]
    ]
    part, parts = map(int, arguments.part.split("/"))
    mutants = mutants[part - 1 :: parts]
    if arguments.list:
        for module, mutant in mutants:
            print(f"{module}:{mutant.line}", *mutant.diff(), sep="\n  ")
        print(f"{len(mutants)} mutants")
        return 0
    return _try_all(mutants, _expected(arguments.only), whole=parts == 1 and not arguments.since)


def _try_all(
    mutants: list[tuple[str, Mutant]], expected: dict[tuple[str, tuple[str, ...]], Reason], *, whole: bool
) -> int:
    started = time.monotonic()
    module, first = mutants[0]
    gc.freeze()
    trials = Trials(TESTS)
    if not trials.measure(module, first.original):
        print("the tests fail without any mutant")
        return 1
    verdicts: Counter[str] = Counter()
    unexplained, explained = 0, set()
    for number, (module, mutant) in enumerate(mutants, 1):
        verdict = trials.run(module, mutant.source, (f"{module.partition('.')[2]}.py", mutant.function))
        verdicts[verdict] += 1
        if verdict is Verdict.SURVIVED:
            reason = expected.get(_key(module, mutant))
            explained.add(reason)
            unexplained += reason is None
            print(f"survived: {module.replace('.', '/')}.py:{mutant.line}", *mutant.diff(), sep="\n  ")
            print(f"  {reason.why if reason else 'UNEXPLAINED'}", flush=True)
        if number % 50 == 0:
            print(f"{number} of {len(mutants)}, {time.monotonic() - started:.0f} s", flush=True)
    void = [reason for reason in expected.values() if whole and reason not in explained]
    for reason in void:
        print(f"not needed: {reason.module}", *reason.change, sep="\n  ")
    print(
        f"{len(mutants)} mutants: {verdicts[Verdict.KILLED]} killed, {verdicts[Verdict.HUNG]} ended as hung,"
        f" {verdicts[Verdict.SURVIVED]} survived, {unexplained} of them unexplained;"
        f" {time.monotonic() - started:.0f} s"
    )
    return 1 if unexplained or void else 0


def _changed_lines(module: str, since: str) -> set[int]:
    command = ("git", "diff", "-U0", since, "--", f"{module.replace('.', '/')}.py")
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    hunks = re.findall(r"^@@ .* \+(\d+)(?:,(\d+))? @@", text, flags=re.MULTILINE)
    return {line for first, count in hunks for line in range(int(first), int(first) + int(count or 1))}


def _expected(only: str) -> dict[tuple[str, tuple[str, ...]], Reason]:
    entries = tomllib.loads(REASONS.read_text()).get("survivor", [])
    reasons = [
        Reason(entry["module"], tuple(map(str.strip, entry["change"].strip().splitlines())), entry["why"])
        for entry in entries
        if only in entry["module"]
    ]
    return {(reason.module, reason.change): reason for reason in reasons}


def _key(module: str, mutant: Mutant) -> tuple[str, tuple[str, ...]]:
    return module, tuple(f"{line[0]} {line[1:].strip()}".strip() for line in mutant.diff())


if __name__ == "__main__":
    # Hypothesis would keep what it finds, and judge the next mutant by it.
    hypothesis.settings.register_profile("mutation", database=None)
    hypothesis.settings.load_profile("mutation")
    sys.exit(main())
