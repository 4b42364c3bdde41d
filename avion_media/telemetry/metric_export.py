"""Metrics to a collector, again and again, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from avion_media.telemetry.health import Health

_INTERVAL_MS = 60_000.0


def interval_s(environ: Mapping[str, str]) -> float:
    """``OTEL_METRIC_EXPORT_INTERVAL`` in seconds. ValueError when it is no positive number."""
    milliseconds = float(environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or _INTERVAL_MS)
    if milliseconds <= 0:
        raise ValueError("OTEL_METRIC_EXPORT_INTERVAL: expected a positive number")
    return milliseconds / 1000


class MetricExport:
    """Calls ``export`` every ``interval_s`` seconds. It says whether it got through, and may block as long as it likes.

    The thread does not keep the process alive.
    """

    def __init__(self, export: Callable[[], bool], interval_s: float) -> None:
        self.health = Health()
        self._export = export
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="telemetry-metrics", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Export soon. Does not wait for it."""
        self._wake.set()

    def close(self) -> None:
        """Export once more, then end the thread. Does not wait for it: see `join`."""
        self._closed = True
        self._wake.set()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, for ``timeout_s`` at most."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        self._try()  # at once, so that it is known early whether the collector answers
        while not self._closed:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if not self._closed:
                self._try()
        self._try()

    def _try(self) -> None:
        self.health.trying()
        answered = False
        try:
            answered = self._export()
        except Exception:  # noqa: BLE001 - whatever it is, the next time may be better; the exporter logs its own
            pass
        self.health.tried(answered)
