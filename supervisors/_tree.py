"""A tree beside a block of code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import trio

from supervisors._child import Child
from supervisors._errors import NotRunning
from supervisors._nodes import Supervisor

S = TypeVar("S", bound=Supervisor)


@asynccontextmanager
async def open_tree(root: S, *, cancel_grace_s: float = 0.0) -> AsyncIterator[S]:
    """Run ``root`` beside the block. The block begins when all children have started, and the tree stops after it.

    An exception of the block is raised after the ordered stop. A cancel from outside causes an ordered stop with
    one grace for all children, ``cancel_grace_s``. A failed tree cancels the block. Errors are raised in a group, as
    from a nursery; `NotRunning` if the root was stopped before the block began.
    """
    started, ended = trio.Event(), trio.Event()
    status: Child[None] = Child(root.path, 1, None, lambda _value: started.set())

    async def run() -> None:
        try:
            await root.run(cancel_grace_s=cancel_grace_s, task_status=status)
            started.set()  # or it was stopped before
        finally:
            ended.set()

    # Not by `trio.Nursery.start`, which raises TrioInternalError if the start fails and the caller is interrupted.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            await started.wait()
            if ended.is_set():
                raise NotRunning(f"{root.path} was stopped before its block began")
            yield root
        except BaseException:
            root.stop()
            with suppress(trio.Cancelled):  # the nursery waits anyway, and the block's own error must come out
                await ended.wait()
            raise
        root.stop()
        await ended.wait()
