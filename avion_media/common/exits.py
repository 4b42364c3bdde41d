"""Says how a process ended."""

from __future__ import annotations

import signal


def describe_exit(returncode: int) -> str:
    """Return the rest of a sentence about a process, such as "was killed by SIGKILL" or "ended with status 3"."""
    return f"was killed by {signal_name(-returncode)}" if returncode < 0 else f"ended with status {returncode}"


def signal_name(number: int) -> str:
    """Return the name of a signal; its number if it has no name."""
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)
