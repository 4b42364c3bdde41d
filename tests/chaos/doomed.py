"""A program for `test_root`: the real service with a sweeper that crashes when run, and an intensity of one restart."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import trio

from avion_media import app
from avion_media.cli import command_line
from avion_media.process.runtime import Runtime
from avion_media.workers.settings import WorkerSettings
from supervisors import Child, Intensity, Supervisor


async def doomed(_runtime: Runtime, child: Child[None], *, config: WorkerSettings) -> None:
    """A sweeper that crashes after each successful start."""
    child.started()
    await trio.sleep(0.2)  # so that the whole tree has started
    raise RuntimeError("a defect of the sweeper")


if __name__ == "__main__":
    with (
        patch.object(app, "sweeper", doomed),
        patch.object(app, "branch", partial(Supervisor, intensity=Intensity(1, 60.0))),
    ):
        command_line()
