"""SIGTERM and SIGINT before the service can drain: while its modules are imported there is nothing to drain.

Imports only the standard library, so it is active a few milliseconds after the interpreter starts.
"""

from __future__ import annotations

import os
import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signal() -> None:
    """Make SIGTERM and SIGINT end the process with status 0, until `avion_media.process.drain` takes over."""
    for number in STOP_SIGNALS:
        signal.signal(number, _end)


def _end(_number: int, _frame: object) -> None:
    # Not by an exception, because the code that is being imported might catch it.
    os._exit(0)
