"""A thread that ends a process that does not end by itself, because the event loop is stuck or a drain takes too long.

Kubernetes would kill it a little later. The watchdog first writes where everything hangs.
"""

from __future__ import annotations

import faulthandler
import os
import select
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
_DUMP_S = 2.0  # for the dump, because standard error may be a pipe without a reader
_LAST_RESORT_S = 1.0  # after that, in case nothing in Python runs any more
_STDERR = 2


class Watchdog:
    """Ends the process ``budget_s`` seconds after it was armed, unless its `watching` block has ended by then.

    ``end`` is for tests: it is called with the exit status instead of `os._exit`.
    """

    def __init__(self, budget_s: float, *, end: Callable[[int], object] = os._exit) -> None:
        self._budget_s = budget_s
        self._end = end
        self._deadline: float | None = None
        self._over = False
        self._root: trio.lowlevel.Task | None = None
        self._reader, self._writer = -1, -1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Enclose the run. Enter it inside Trio, in the main thread."""
        self._root = trio.lowlevel.current_root_task()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over = True
            os.write(self._writer, b".")
            thread.join()
            os.close(self._reader)
            os.close(self._writer)
            if self._deadline is not None:
                faulthandler.cancel_dump_traceback_later()

    def arm(self) -> None:
        """Start the clock. Only the first call counts. Safe in a signal handler, because it takes no lock."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._budget_s
            # A thread in C, in case some code never releases the interpreter.
            faulthandler.dump_traceback_later(self._budget_s + _DUMP_S + _LAST_RESORT_S, exit=True, file=_STDERR)
            os.write(self._writer, b".")

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        while not self._over:
            left_s = None if self._deadline is None else self._deadline - time.monotonic()
            if poll.poll(None if left_s is None else max(0.0, left_s) * 1000):
                os.read(self._reader, 16)
            elif not self._over:
                self._terminate()
                return

    def _terminate(self) -> None:
        dump = threading.Thread(target=self._dump, name="watchdog-dump", daemon=True)
        dump.start()
        dump.join(_DUMP_S)
        self._end(EXIT_STUCK)

    def _dump(self) -> None:
        lines = [f"avion-media: not ended {self._budget_s:g} s after the drain began; tasks and threads:"]
        if self._root is not None:
            lines += task_tree(self._root)
        os.write(_STDERR, ("\n".join(lines) + "\n").encode(errors="replace"))
        faulthandler.dump_traceback(_STDERR, all_threads=True)


def task_tree(task: trio.lowlevel.Task, indent: str = "") -> list[str]:
    """Return every task below ``task`` and where it waits, indented by nursery. Can run in another thread; tasks that
    change meanwhile are left out."""
    lines = [f"{indent}{task.name}"]
    try:
        frames = traceback.StackSummary.extract(task.iter_await_frames(), lookup_lines=False)
        lines += [f"{indent}    {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        for nursery in list(task.child_nurseries):
            for child in list(nursery.child_tasks):
                lines += task_tree(child, indent + "  ")
    except Exception as error:  # noqa: BLE001 - the final output of a process that is about to be killed
        lines.append(f"{indent}    (gone: {error!r})")
    return lines
