"""A program for `test_watchdog`: `serve` with a tree whose only child does not end, and a drain of half a second."""

from __future__ import annotations

import ctypes
import sys
import time
from functools import partial
from unittest.mock import patch

import trio

from avion_media import service
from avion_media.config import Config
from avion_media.process.settings import DrainConfig
from avion_media.process.tree import Tree
from supervisors import Child, Intensity, Supervisor, Worker
from supervisors import _watchdog as watchdog

HOW = ("blocked", "overrun", "holds the interpreter", "gives up")


async def the_stuck_child(how: str, child: Child[None]) -> None:
    """Block the event loop, delay the stop by a shield without a limit, or never let another thread run."""
    child.started()
    print("stuck", flush=True)
    if how == "blocked":
        time.sleep(60)  # noqa: ASYNC251 - the very thing
    with trio.CancelScope(shield=True):
        if how == "holds the interpreter":
            await child.stopping.wait()
            ctypes.PyDLL(None).sleep(60)
        await trio.sleep(60)


async def the_crashing_child(child: Child[None]) -> None:
    """Make the root give up."""
    child.started()
    raise RuntimeError("a defect")


def main(how: str) -> None:
    """Serve until the watchdog ends the process."""
    children = [Worker("stuck", partial(the_stuck_child, how), grace_s=0)]
    if how == "gives up":
        children.append(Worker("crashing", the_crashing_child))
    root = Supervisor("root", children, intensity=Intensity(0))
    budget = service.DrainBudget({"margin": 0.5}, allowed_s=60)
    with (
        patch.object(service, "build_tree", lambda *_: Tree(root, {}, ())),
        patch.object(service, "drain_budget", lambda *_: budget),
        patch.object(watchdog, "_DUMP_S", 0.5),
        patch.object(watchdog, "_LAST_RESORT_S", 0.1),
    ):
        service.serve(Config(drain=DrainConfig(settle=0, grace=0)), frozenset())


if __name__ == "__main__":
    main(sys.argv[1])
