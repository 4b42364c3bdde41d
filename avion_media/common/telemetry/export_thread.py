"""A thread that exports repeatedly, so that no other code waits for a collector."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

_SLOW_S = 1.0  # the end does not wait for a collector that takes longer for one batch


class ExportThread(ABC):
    """Calls `export_all` after each pause, when it is woken, and once more at the end.

    The thread does not keep the process alive. A subclass calls `_start` when it is ready.
    """

    def __init__(self, name: str) -> None:
        self._wake = threading.Event()
        self._closed = False
        self._answered: bool | None = None
        self._trying_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def export_all(self) -> None:
        """Export everything, each piece by `_try`. May block without a limit."""

    @property
    @abstractmethod
    def pause_s(self) -> float:
        """The time until the next export."""

    @property
    def answers(self) -> bool | None:
        """Whether the collector responds; None while that is unknown."""
        since = self._trying_since
        if since is not None and time.monotonic() - since > _SLOW_S:
            return False
        return self._answered

    def flush(self) -> None:
        """Export soon. Does not wait."""
        self._wake.set()

    def close(self) -> None:
        """Export once more, then end the thread. Does not wait: see `join`."""
        self._closed = True
        self._wake.set()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, for at most ``timeout_s``."""
        self._thread.join(timeout_s)

    def _start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(self.pause_s)
            self._wake.clear()
            if self._closed:
                break
            self.export_all()
        self.export_all()

    def _try(self, export: Callable[[], bool]) -> bool:
        """Return whether ``export`` succeeded. Any exception counts as a failure, which its exporter has logged."""
        self._trying_since = time.monotonic()
        try:
            self._answered = export()
        except Exception:  # noqa: BLE001 - after any error the next export may succeed
            self._answered = False
        self._trying_since = None
        return self._answered
