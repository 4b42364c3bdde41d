"""Which task runs next: chosen by a seed, and never one of a stopped process.

What this uses of Trio's internals, all in `trio._core._run`:

- `_ALLOW_DETERMINISTIC_SCHEDULING` and `_r` (Trio 0.11 and later): with the flag, the tasks of a batch are sorted by
  `Task._counter` and shuffled by the random generator `_r`. Trio has them for Hypothesis.
- `Runner.runq` (0.11 and later): `reschedule` appends each task that can run, and the loop takes all of them.
- `Task._cancel_status` (0.12 and later): the cancel scopes around a task, whose shields end with the run.

`check_trio` tries both before the first run, so that another Trio fails with a sentence instead of a wrong hash.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import trio
from trio._core import _run

from .processes import Process, current

_TICKS_BETWEEN_COLLECTIONS = 1000


class TrioChanged(Exception):
    """This version of Trio has other internals than those that a simulation needs."""


class RunQueue(deque[trio.lowlevel.Task]):
    """The tasks that can run. Those of a stopped process wait with their process."""

    def append(self, task: trio.lowlevel.Task) -> None:
        """Add a task."""
        process = task.context.get(current)
        if process is not None and process.stopped:
            process.waiting_to_run.append(task)
        else:
            super().append(task)


def install_run_queue() -> None:
    """Replace the queue of the current run."""
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    runner.runq = RunQueue(runner.runq)


def let_run(process: Process) -> None:
    """Let the tasks of a process go on."""
    process.stopped = False
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    runner.runq.extend(process.waiting_to_run)
    process.waiting_to_run.clear()


def end_shields(nursery: trio.Nursery) -> None:
    """Let all tasks in a nursery be cancelled, whatever shields them."""
    for task in nursery.child_tasks:
        status: _run.CancelStatus | None = task._cancel_status
        while status is not None and status is not nursery._cancel_status:
            status._scope.shield = False
            status = status._parent
        for inner in task.child_nurseries:
            end_shields(inner)


@contextmanager
def seeded_order(seed: str) -> Iterator[None]:
    """Let Trio choose the order of tasks by this seed."""
    allowed, state = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # declared as Final
    _run._r.seed(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        _run._r.setstate(state)


class GarbageCollection(trio.abc.Instrument):
    """Collects garbage at fixed ticks of the loop.

    Python collects when it has allocated enough, which the hashes of strings influence. What a collection finalizes,
    for instance an asynchronous generator, would then run at another moment in each run.
    """

    def __init__(self) -> None:
        self._ticks = 0

    def before_io_wait(self, timeout: float) -> None:
        """Count a tick of the loop."""
        self._ticks += 1
        number, rest = divmod(self._ticks, _TICKS_BETWEEN_COLLECTIONS)
        if rest == 0:
            gc.collect(2 if number % 256 == 0 else 1 if number % 16 == 0 else 0)


@contextmanager
def steady_garbage_collection() -> Iterator[GarbageCollection]:
    """Collect garbage by the yielded instrument only. What exists before is not looked at."""
    enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        yield GarbageCollection()
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


@cache
def check_trio() -> None:
    """Raise TrioChanged if a seed does not decide the order of tasks, or if a stopped process runs."""
    version = f"Trio {trio.__version__}"
    for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT"):
        if not hasattr(_run, name):
            raise TrioChanged(
                f"{version} has no trio._core._run.{name}; trio_simulation needs it to order tasks by a seed"
            )
    orders = [_order_of_ten("1"), _order_of_ten("1"), _order_of_ten("2")]
    if orders[0] != orders[1] or orders[0] == orders[2]:
        raise TrioChanged(f"{version} does not order tasks by a seed; trio_simulation cannot repeat a run with it")
    if not trio.run(_stopped_task_waits):
        raise TrioChanged(f"{version} runs tasks that are not in Runner.runq; trio_simulation cannot stop a process")


def _order_of_ten(seed: str) -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(note, number)

    with seeded_order(seed):
        trio.run(main)
    return order


async def _stopped_task_waits() -> bool:
    install_run_queue()
    process = Process.__new__(Process)
    process.stopped, process.waiting_to_run = True, []
    ran = trio.Event()

    async def run() -> None:
        ran.set()

    async with trio.open_nursery() as nursery:
        token = current.set(process)
        nursery.start_soon(run)
        current.reset(token)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        waited = not ran.is_set()
        let_run(process)
    return waited and ran.is_set()
