"""A process that does not end by itself is ended by its watchdog."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.process.stuck import HOW

STUCK = Path(__file__).parent / "stuck.py"


@pytest.mark.parametrize("how", HOW)
def test_a_stuck_process_is_ended_with_a_dump(how: str) -> None:
    """A thread ends it after the budget, with all tasks and threads on standard error; a thread in C, if no other can
    run."""
    with subprocess.Popen(
        [sys.executable, STUCK, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "stuck\n"
        if how != "gives up":
            it.send_signal(signal.SIGTERM)
        try:
            _, said = it.communicate(timeout=50)
        finally:
            it.kill()
    assert "the_stuck_child" in said
    assert "Thread 0x" in said
    if how == "holds the interpreter":
        assert it.returncode == 1, said
    else:
        assert it.returncode == 70, said
        assert "not ended 0.5 s after the stop began" in said
