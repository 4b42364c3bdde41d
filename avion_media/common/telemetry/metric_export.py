"""Exports metrics to a collector, repeatedly, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from avion_media.common.telemetry.export_thread import ExportThread

_INTERVAL_MS = 60_000.0


def interval_s(environ: Mapping[str, str]) -> float:
    """Return ``OTEL_METRIC_EXPORT_INTERVAL`` in seconds. Raises ValueError unless it is a positive number."""
    milliseconds = float(environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or _INTERVAL_MS)
    if milliseconds <= 0:
        raise ValueError("OTEL_METRIC_EXPORT_INTERVAL: expected a positive number")
    return milliseconds / 1000


class MetricExport(ExportThread):
    """Calls ``export`` every ``interval_s`` seconds. It returns whether it succeeded, and may block without a limit.

    The first call is made at once, to find out early whether the collector responds.
    """

    def __init__(self, export: Callable[[], bool], interval_s: float) -> None:
        super().__init__("telemetry-metrics")
        self._export = export
        self._interval_s = interval_s
        self.flush()
        self._start()

    def export_all(self) -> None:
        """Export the present values of all metrics."""
        self._try(self._export)

    @property
    def pause_s(self) -> float:
        """The interval, even if the collector does not respond."""
        return self._interval_s
