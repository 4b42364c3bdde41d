"""Whole replicas run on simulated sockets, and the same seed is the same run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.replicas import READY_S, run_uploads
from trio_simulation import Fault

ROOT = Path(__file__).resolve().parents[2]


def test_uploads_are_published_whatever_order_sets_have() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.replicas", "7"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    digests = {process.communicate(timeout=120)[0].splitlines()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == 1


def test_uploads_are_published_after_a_kill_and_a_partition() -> None:
    faults = (
        Fault("kill", READY_S + 0.5, 3.0, ("one",)),
        Fault("partition", READY_S + 2.0, 8.0, ("two", "redis")),
        Fault("store refuses", READY_S + 3.0, 4.0, ("store",), amount=0.5),
    )
    done = run_uploads(3, faults)
    if done.error is not None:
        raise done.error
    assert done.virtual_s > READY_S + 10
