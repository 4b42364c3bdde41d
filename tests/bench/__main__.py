"""`make bench`: what the service costs, each figure as a ratio to others doing the same in the same run.

usage: python -m tests.bench [--quick] [--json] [MEASUREMENT ...]

Measurements: images rpc poster jobs idle telemetry origin lag flood children; all without arguments (twenty
minutes).
Both sides of each take turns; figures are medians of the rounds, and the spread of the ratio tells how noisy the
machine was. What is measured, and how, is written in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from tests.bench import children, flood, idle, lag, telemetry
from tests.bench.figures import HEADING, Figure
from tests.bench.images import measure as images
from tests.bench.jobs import compare as jobs
from tests.bench.origin import compare as origin
from tests.bench.poster import compare as poster
from tests.bench.rpc import compare as rpc
from tests.bench.setting import NODE, Setting, install_node_packages, open_setting
from tests.services import ServiceFailed

MEASUREMENTS: dict[str, Callable[[Setting], Sequence[Figure]]] = {
    "images": images.measure,
    "rpc": rpc.measure,
    "poster": poster.measure,
    "jobs": jobs.measure,
    "idle": idle.measure,
    "telemetry": telemetry.measure,
    "origin": origin.measure,
    "lag": lag.measure,
    "flood": flood.measure,
    "children": children.measure,
}
_USAGE_ERROR = 2


def main() -> int:
    """Exit status 0 whether or not goals are met: this measures, it does not judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n")[0])
    parser.add_argument("measurement", nargs="*", choices=[*MEASUREMENTS, []], help="all by default")
    parser.add_argument("--quick", action="store_true", help="one tiny round of each: the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        figures = _run(arguments.measurement or list(MEASUREMENTS), quick=arguments.quick, lines=not arguments.json)
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    if arguments.json:
        print(json.dumps([each.to_json() for each in figures], indent=2))
    else:
        print(f"\n{time.monotonic() - began:.0f} s; load {_load()}")
    return 0


def _run(names: Sequence[str], *, quick: bool, lines: bool) -> list[Figure]:
    """Each on a Redis and a Ceph of its own: all of them together write more than the Ceph has memory for."""
    install_node_packages()
    if lines:
        print(f"{time.strftime('%Y-%m-%d')}; {_versions()}; load {_load()}\n\n{HEADING}", flush=True)
    figures = []
    for name in names:
        with open_setting(quick=quick) as setting:
            for each in MEASUREMENTS[name](setting):
                figures.append(each)
                if lines:
                    print(each.line(), flush=True)
    return figures


def _versions() -> str:
    ours = [f"{name} {version(name)}" for name in ("trio", "ngh2", "Pillow", "boto3", "grpcio")]
    packages = json.loads((NODE / "package-lock.json").read_text())["packages"]
    theirs = [
        f"{name} {packages[f'node_modules/{name}']['version']}" for name in ("sharp", "bullmq", "@aws-sdk/client-s3")
    ]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return ", ".join(
        (f"{os.cpu_count()} cores", f"Python {platform.python_version()}", *ours, f"Node.js {node}", *theirs)
    )


def _load() -> str:
    """The machine's load over one minute; more than there are cores spoils the figures."""
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
