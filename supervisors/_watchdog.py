"""A thread that ends a process that does not end by itself, because the event loop is stuck or a stop takes too long.

Kubernetes or systemd would kill it a little later. The watchdog first writes where everything hangs.
"""

from __future__ import annotations

import faulthandler
import math
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from supervisors._errors import stack_of

EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
_DUMP_S = 2.0  # for the dump, because standard error may be a pipe without a reader
_LAST_RESORT_S = 1.0  # after that, in case nothing in Python runs any more
_STDERR = 2


class Watchdog:
    """Ends the process ``budget_s`` seconds after it was armed, unless its `watching` block has ended by then.

    All tasks and threads are written to standard error, behind ``name``; the exit status is 70. If no code in Python
    runs any more, a thread in C ends the process with status 1.
    """

    def __init__(self, budget_s: float, name: str = "") -> None:
        self._budget_s = budget_s
        self._prefix = f"{name}: " if name else ""
        self._deadline: float | None = None
        self._over = False
        self._root: trio.lowlevel.Task | None = None
        self._waker: socket.socket | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Enclose the run. Enter it inside Trio, in the main thread, once."""
        self._root = trio.lowlevel.current_root_task()
        woken, waker = socket.socketpair()
        self._waker = waker
        thread = threading.Thread(target=self._watch, args=(woken,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over = True
            self._waker = None
            waker.send(b".")
            thread.join()
            waker.close()
            woken.close()
            if self._deadline is not None:
                faulthandler.cancel_dump_traceback_later()

    def arm(self) -> None:
        """Start the clock, when the stop begins. Only the first call counts, and only within `watching`.

        Safe in a signal handler, because it takes no lock.
        """
        if self._deadline is None and self._waker is not None:
            self._deadline = time.monotonic() + self._budget_s
            # A thread in C, in case some code never releases the interpreter.
            faulthandler.dump_traceback_later(self._budget_s + _DUMP_S + _LAST_RESORT_S, exit=True, file=_STDERR)
            self._waker.send(b".")

    def _watch(self, woken: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            while not self._over:
                left_s = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                if selector.select(left_s):
                    woken.recv(16)
                elif not self._over:
                    self._terminate()
                    return

    def _terminate(self) -> None:
        dump = threading.Thread(target=self._dump, name="watchdog-dump", daemon=True)
        dump.start()
        dump.join(_DUMP_S)
        os._exit(EXIT_STUCK)

    def _dump(self) -> None:
        head = f"{self._prefix}not ended {self._budget_s:g} s after the stop began; tasks and threads:\n"
        os.write(_STDERR, head.encode(errors="replace"))
        faulthandler.dump_traceback(_STDERR, all_threads=True)  # first, because it reads no files
        if self._root is not None:
            os.write(_STDERR, f"{stack_of(self._root, math.inf)}\n".encode(errors="replace"))
