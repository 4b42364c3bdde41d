"""A stop that hangs ends the process, which says where it hung; one that ends in time is left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import math, sys, time
import trio
from supervisors import Child, Supervisor, Watchdog, Worker, open_tree

async def the_child(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()
    if sys.argv[1] == "blocks":
        time.sleep(60)
    if sys.argv[1] == "shields itself":
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

async def main() -> None:
    root = Supervisor("root", [Worker("child", the_child, grace_s=0)])
    watchdog = Watchdog({"ends": 60, "ends, of any budget": math.inf}.get(sys.argv[1], 0.3), "a program")
    with watchdog.watching():
        async with open_tree(root):
            watchdog.arm()
            root.stop()

trio.run(main)
"""


@pytest.mark.parametrize("how", ["blocks", "shields itself", "ends", "ends, of any budget"])
def test_only_a_process_that_hangs_is_ended(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=50)
    if how.startswith("ends"):
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 70, done.stderr
        assert done.stderr.startswith("a program: not ended 0.3 s after the stop began; tasks and threads:\n")
        assert "the_child" in done.stderr
        assert "Thread 0x" in done.stderr
