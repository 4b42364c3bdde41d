"""What the tests need of their process."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Ctrl-C is a thing to test: a shell that started us in the background hands down that SIGINT is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
