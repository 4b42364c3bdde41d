"""SIGTERM and SIGINT before the service can drain: while its modules are imported there is nothing to drain.

Imports the standard library only: it is in place a few milliseconds after the interpreter.
"""

from __future__ import annotations

import os
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signal() -> None:
    """From now on a signal to stop ends the process with status 0; `avion_media.process` takes over later."""
    for number in STOP_SIGNALS:
        signal.signal(number, _end)


def _end(_number: int, _frame: object) -> None:
    # Not by an exception: it would come out in the middle of somebody's import, who may catch it.
    os._exit(0)
