"""``python -m tests.mutation.rules``: each rule of the service, broken on purpose, must make its test fail.

The operators of `tests.mutation` change `supervisors/` alone. These rules of the service were once broken without any
test noticing. Each is one change of one file, and the tests that must fail. Exit status 1 if a rule survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(".*", "data", "node_modules", "build", "docs", "examples", "__pycache__")
_APP, _STUCK, _DRAIN = (
    "tests/unit/test_app.py",
    "tests/unit/process/test_watchdog.py",
    "tests/unit/process/test_drain.py",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """``before`` becomes ``after`` in ``path``: the rule is broken, and a test in ``tests`` must fail."""

    path: str
    before: str
    after: str
    tests: str


RULES = {
    "a supervisor gives up": Rule(
        "avion_media/nodes/__init__.py", "Intensity(20, within_s=60.0)", "Intensity(float('inf'))", _APP
    ),
    "the watchdog has the budget of the drain": Rule(
        "avion_media/service.py", "Watchdog(budget.total_s", "Watchdog(1e6", _STUCK
    ),
    "a tree that gives up arms the watchdog": Rule(
        "avion_media/process/drain.py", "            watchdog.arm()\n", "", _STUCK
    ),
    "the signal handler arms the watchdog": Rule(
        "avion_media/process/drain.py", "_on_signal(watchdog.arm, received)", "_on_signal(int, received)", _STUCK
    ),
    "a process that holds the interpreter ends": Rule(
        "supervisors/_watchdog.py", "            faulthandler.dump_traceback_later(", "            str(", _STUCK
    ),
    "a second signal skips a phase": Rule("avion_media/process/drain.py", "again.send_nowait(number)", "pass", _DRAIN),
    "the last signal cuts the grace": Rule("avion_media/process/drain.py", "    root.stop(grace_s=0)\n", "", _DRAIN),
    "a drain waits for active work": Rule(
        "avion_media/process/drain.py", "trio.move_on_after(grace_s)", "trio.move_on_after(0)", _DRAIN
    ),
    "nodes have time to close": Rule("avion_media/app.py", "grace_s: float = 1.0", "grace_s: float = 0.0", _APP),
    "gRPC starts last and stops first": Rule(
        "avion_media/app.py",
        "] = {\n",
        '] = {\n        "grpc": lambda: grpc,\n',
        _APP,
    ),
    "the store restarts with Redis": Rule(
        "avion_media/app.py", "others], strategy=Strategy.REST_FOR_ONE)", "others])", _APP
    ),
    "restarts are counted": Rule(
        "avion_media/service.py",
        "elif event.kind is EventKind.STARTING and event.incarnation > 1:",
        "elif False:",
        _APP,
    ),
    "the budget includes the stop": Rule("avion_media/service.py", '        "stop": stop_s,\n', "", _APP),
    "a replica that settles is not ready": Rule(
        "avion_media/process/lifecycle.py",
        "return self._lifecycle.phase is Phase.READY and",
        "return self._lifecycle.phase in (Phase.READY, Phase.LAME_DUCK) and",
        "tests/unit/process/test_readiness.py",
    ),
    "a replica that settles takes no tasks": Rule(
        "avion_media/process/lifecycle.py",
        "return self._phase in (Phase.STARTING, Phase.READY)\n",
        "return self._phase in (Phase.STARTING, Phase.READY, Phase.LAME_DUCK)\n",
        "tests/unit/process/test_lifecycle.py",
    ),
}


def main() -> int:
    """Return 0 if each broken rule makes a test fail."""
    survivors = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "copy"
        shutil.copytree(HOUSE, copy, ignore=_LEFT_OUT)
        for tests in sorted({rule.tests for rule in RULES.values()}):
            if _fails(copy, tests):
                print(f"{tests} fails without any change")
                return 1
        for name, rule in RULES.items():
            file = copy / rule.path
            original = file.read_text()
            file.write_text(original.replace(rule.before, rule.after))
            killed = _fails(copy, rule.tests)
            file.write_text(original)
            survivors += not killed
            print(f"{'killed' if killed else 'SURVIVED'}: {name}", flush=True)
    print(f"{len(RULES)} rules, {survivors} survived")
    return 1 if survivors else 0


def _fails(copy: Path, tests: str) -> bool:
    options = ("-q", "-x", "--tb=no", "-p", "no:cacheprovider", "--timeout=120")
    command = [sys.executable, "-m", "pytest", *options, tests]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    return subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
