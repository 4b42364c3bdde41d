"""Metrics to a collector, repeatedly, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from avion_media.telemetry.export_thread import ExportThread

_INTERVAL_MS = 60_000.0


def interval_s(environ: Mapping[str, str]) -> float:
    """``OTEL_METRIC_EXPORT_INTERVAL`` in seconds. ValueError when it is no positive number."""
    milliseconds = float(environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or _INTERVAL_MS)
    if milliseconds <= 0:
        raise ValueError("OTEL_METRIC_EXPORT_INTERVAL: expected a positive number")
    return milliseconds / 1000


class MetricExport(ExportThread):
    """Calls ``export`` every ``interval_s`` seconds. It says whether it got through, and may block as long as it likes.

    The first call comes at once, so that it is known early whether the collector answers.
    """

    def __init__(self, export: Callable[[], bool], interval_s: float) -> None:
        super().__init__("telemetry-metrics")
        self._export = export
        self._interval_s = interval_s
        self.flush()
        self._start()

    def export_all(self) -> None:
        """Send all metrics as they are now."""
        self._try(self._export)

    @property
    def pause_s(self) -> float:
        """The interval, whether the collector answers or not."""
        return self._interval_s
