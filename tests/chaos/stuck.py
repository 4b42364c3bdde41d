"""A program for `test_signals`: a tree whose only child gets stuck, and a watchdog that waits half a second."""

from __future__ import annotations

import sys
import time
from functools import partial

import trio

from avion_media.config import Config
from avion_media.process.drain import run_until_stopped
from avion_media.process.runtime import Runtime
from avion_media.process.settings import DrainConfig
from avion_media.process.watchdog import Watchdog
from supervisors import Child, Supervisor, Worker


async def the_stuck_child(how: str, child: Child[None]) -> None:
    """Block the event loop, or delay the stop by a shield without a limit."""
    child.started()
    print("stuck", flush=True)
    if how == "blocked":
        time.sleep(60)  # noqa: ASYNC251 - the very thing
    with trio.CancelScope(shield=True):
        await trio.sleep(60)


async def main(how: str) -> None:
    """Run the tree until the watchdog ends the process."""
    runtime = Runtime(Config(drain=DrainConfig(settle=0, grace=0)))
    root = Supervisor("root", [Worker("stuck", partial(the_stuck_child, how), grace_s=0)])
    await run_until_stopped(root, runtime, trio.sleep_forever, watchdog=Watchdog(0.5))


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
