"""A tree beside a block of code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import trio

from supervisors._nodes import Supervisor

S = TypeVar("S", bound=Supervisor)


@asynccontextmanager
async def open_tree(root: S, *, cancel_grace_s: float = 0.0) -> AsyncIterator[S]:
    """Run ``root`` beside the block: enter when all children have started, stop in order on the way out.

    An exception of the block comes out after the ordered stop. A cancel from outside is an ordered stop that has
    ``cancel_grace_s`` in all. A failed tree cancels the block. Errors come out in a group, as from a nursery.
    """
    ended = trio.Event()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(cancel_grace_s=cancel_grace_s, task_status=task_status)
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield root
        except BaseException:
            root.stop()
            with suppress(trio.Cancelled):  # the nursery waits anyway, and the block's own error must come out
                await ended.wait()
            raise
        root.stop()
        await ended.wait()
