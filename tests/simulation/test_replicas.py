"""Whole replicas run on simulated sockets, and the same seed is the same run.

Each run is a process of its own: it changes what the process logs, and modules of the service have state.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def started(*arguments: str, hash_seed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation.replicas", *arguments],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the virtual time of a run and its digest, once it has ended well."""
    lines = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 0, lines
    return lines[-2], lines[-1]


def test_uploads_are_published_whatever_order_sets_have() -> None:
    first, second = (started("7", hash_seed=each) for each in ("1", "2"))
    assert ended(first) == ended(second)


def test_uploads_are_published_after_a_kill_and_a_partition() -> None:
    virtual_s, _ = ended(started("3", "faults", hash_seed="1"))
    assert float(virtual_s.removesuffix(" s")) > 20
