"""A stop that hangs ends the process, which says where it hung; one that ends in time is left alone."""

from __future__ import annotations

import math
import os
import time
import warnings
from pathlib import Path

import pytest
import trio

from supervisors import Child, Supervisor, Watchdog, Worker, open_tree

_BUDGETS_S = {"ends": 60.0, "ends, of any budget": math.inf}


async def _program(how: str) -> None:
    async def the_child(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        if how == "blocks":
            time.sleep(60)  # noqa: ASYNC251 - it hangs
        if how == "shields itself":
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    root = Supervisor("root", [Worker("child", the_child, grace_s=0)])
    watchdog = Watchdog(_BUDGETS_S.get(how, 0.3), "a program")
    with watchdog.watching():
        async with open_tree(root):
            watchdog.arm()
            root.stop()


def _run(how: str, errors: Path) -> int:
    """Run the program in a fork of this process, which the mutants of the watchdog have as well. Return its status."""
    with warnings.catch_warnings(), errors.open("wb") as file:
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of pytest: the child needs none of them
        pid = os.fork()
        if not pid:
            os.dup2(file.fileno(), 2)
            try:
                trio.run(_program, how)
            except BaseException:  # noqa: BLE001 - else the child would go on as a second pytest
                os._exit(1)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("how", ["blocks", "shields itself", "ends", "ends, of any budget"])
def test_only_a_process_that_hangs_is_ended(how: str, tmp_path: Path) -> None:
    status = _run(how, tmp_path / "errors")
    errors = (tmp_path / "errors").read_text()
    if how.startswith("ends"):
        assert (status, errors) == (0, "")
    else:
        assert status == 70, errors
        assert errors.startswith("a program: not ended 0.3 s after the stop began; tasks and threads:\n")
        assert "the_child" in errors
        assert "Thread 0x" in errors
