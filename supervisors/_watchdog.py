"""A thread that ends a process that does not end by itself, because the event loop is stuck or a stop takes too long.

Kubernetes or systemd would kill it a little later. The watchdog first writes where everything hangs.
"""

from __future__ import annotations

import faulthandler
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from supervisors._errors import stack_of

EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
_DUMP_S = 2.0  # for the dump, because standard error may be a pipe without a reader
_LAST_RESORT_S = 3.0  # after the budget and the dump, in case nothing in Python runs any more
_STDERR = 2


class Watchdog:
    """Ends the process ``budget_s`` seconds after it was armed, unless its `watching` block has ended by then.

    All tasks and threads are written to standard error, behind ``name``; the exit status is 70. If no code in Python
    runs any more, a thread in C ends the process with status 1.
    """

    def __init__(self, budget_s: float, name: str = "") -> None:
        self._budget_s = budget_s
        self._prefix = f"{name}: " if name else ""
        self._deadline = math.inf  # until it is armed
        self._waker: socket.socket | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Enclose the run. Enter it inside Trio, in the main thread, once."""
        root = trio.lowlevel.current_root_task()
        assert root is not None
        woken, waker = socket.socketpair()
        thread = threading.Thread(target=self._watch, args=(woken, root), name="watchdog", daemon=True)
        thread.start()
        self._waker = waker
        try:
            yield
        finally:
            self._waker = None
            waker.shutdown(socket.SHUT_WR)
            thread.join()
            waker.close()
            woken.close()
            if self._deadline < math.inf:
                faulthandler.cancel_dump_traceback_later()

    def arm(self) -> None:
        """Start the clock, when the stop begins. Only the first call counts, and only within `watching`.

        Safe in a signal handler, because it takes no lock. An infinite budget, as a pool has, is never used up.
        """
        if self._budget_s < math.inf == self._deadline and self._waker is not None:
            self._deadline = time.monotonic() + self._budget_s
            # A thread in C, in case some code never releases the interpreter.
            faulthandler.dump_traceback_later(self._budget_s + _LAST_RESORT_S, exit=True, file=_STDERR)
            self._waker.send(b".")

    def _watch(self, woken: socket.socket, root: trio.lowlevel.Task) -> None:
        try:
            while woken.recv(1):  # a byte when it is armed, nothing at the end
                woken.settimeout(max(0.0, self._deadline - time.monotonic()))
        except (TimeoutError, BlockingIOError):  # the latter if no time was left
            dump = threading.Thread(target=self._dump, args=(root,))
            dump.start()
            dump.join(_DUMP_S)
            os._exit(EXIT_STUCK)

    def _dump(self, root: trio.lowlevel.Task) -> None:
        _write_line(f"{self._prefix}not ended {self._budget_s:g} s after the stop began; tasks and threads:")
        faulthandler.dump_traceback(_STDERR)  # first, because it reads no files
        _write_line(stack_of(root, math.inf))


def _write_line(text: str) -> None:
    os.write(_STDERR, f"{text}\n".encode(errors="replace"))
