"""Telemetry by OpenTelemetry: always Prometheus on the admin port, and OTLP if ``OTEL_…`` configures it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from avion_media.common.telemetry import instruments, otlp
from avion_media.common.telemetry.api import NO_SPAN, Span, Telemetry
from avion_media.common.telemetry.export import MetricExport, QueueBounds, SpanQueue, interval_s
from avion_media.common.telemetry.instruments import Instrument
from avion_media.common.telemetry.metrics import Metrics
from avion_media.common.telemetry.tracing import AttributeValue, Kind, Tracer, current_span, sampler_from

_log = logging.getLogger(__name__)
_POLL_S = 0.02  # how often the shutdown checks whether the collector still responds
_UNKNOWN_S = 1.0  # how long the shutdown waits for a collector that was never contacted


class OpenTelemetry(Telemetry):
    """One per process.

    An invalid setting is logged, and its feature stays off; the service starts all the same.
    """

    def __init__(self, version: str, instance: str = "", environ: Mapping[str, str] = os.environ) -> None:
        resource = _resource(version, instance)
        self._metrics = Metrics(resource)
        self._metric_export: MetricExport | None = None
        if _is_wanted(environ, "metrics"):
            self._metric_export = MetricExport(otlp.metric_export(self._metrics.take), _interval_s(environ))
        self._spans: SpanQueue | None = None
        if _is_wanted(environ, "traces"):
            self._spans = SpanQueue(otlp.span_export(resource, version), _bounds(environ))
            self.observe(instruments.TELEMETRY_SPANS, self._span_counts)
        else:
            self.observe(instruments.TELEMETRY_SPANS, _no_span_counts)
        self._tracer = Tracer(_sampler(environ), self._spans.put if self._spans else None)

    # -- spans

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str = "",
        medium: str = "",
        link: str = "",
        **attributes: AttributeValue,
    ) -> AbstractContextManager[Span]:
        return self._tracer.start(name, kind, parent, medium, link, attributes)

    def child_span(
        self, name: str, *, kind: Kind = "internal", **attributes: AttributeValue
    ) -> AbstractContextManager[Span]:
        if current_span() is None:
            return NO_SPAN
        return self._tracer.start(name, kind, "", "", "", attributes)

    def record_child_span(self, name: str, seconds: float, *, error: str = "", **attributes: AttributeValue) -> None:
        if current_span() is None or not self._tracer.records:
            return
        span = self._tracer.start(name, "internal", "", "", "", attributes)
        span.start_ns = time.time_ns() - round(seconds * 1e9)
        if error:
            span.fail(error)
        span.end()

    def attach_to_media_trace(self, media_id: str, *, begins: bool = False) -> None:
        span = current_span()
        if span is not None:
            span.attach_to_media_trace(media_id, begins=begins)

    def traceparent(self) -> str:
        span = current_span()
        return span.context.traceparent if span is not None else ""

    # -- metrics

    def count(self, instrument: Instrument, value: float = 1, **attributes: AttributeValue) -> None:
        self._metrics.add(instrument, value, attributes)

    def record(self, instrument: Instrument, value: float, **attributes: AttributeValue) -> None:
        self._metrics.record(instrument, value, attributes)

    def observe(
        self, instrument: Instrument, read: Callable[[], Sequence[tuple[float, dict[str, AttributeValue]]]]
    ) -> None:
        self._metrics.observe(instrument, read)

    def refresh(self) -> None:
        self._metrics.refresh()

    def render_metrics(self) -> bytes:
        return self._metrics.render()

    def _span_counts(self) -> list[tuple[float, dict[str, AttributeValue]]]:
        spans = self._spans
        assert spans is not None  # only observed then
        return [
            (spans.exported, {"outcome": "exported"}),
            (spans.failed, {"outcome": "failed"}),
            (spans.dropped, {"outcome": "dropped"}),
        ]

    # -- the end

    def flush(self) -> None:
        for exporting in (self._spans, self._metric_export):
            if exporting is not None:
                exporting.flush()

    def shutdown(self, timeout_s: float) -> None:
        """Spans and metrics share the time: both are exported at once."""
        began = time.monotonic()
        exporting = [each for each in (self._spans, self._metric_export) if each is not None]
        answers = [each.answers for each in exporting]
        timeouts_s = [_shutdown_timeout_s(each, answers, timeout_s) for each in answers]
        waited_for = [(each, seconds) for each, seconds in zip(exporting, timeouts_s, strict=True) if seconds]
        for each, _ in waited_for:
            each.close()
        for each, seconds in waited_for:
            while not each.ended and each.answers is not False and time.monotonic() < began + seconds:
                each.join(_POLL_S)


def _shutdown_timeout_s(answers: bool | None, all_answers: Sequence[bool | None], timeout_s: float) -> float:
    """Return how long to wait for a collector. 0 if it does not respond; a little if that is unknown (None)."""
    if answers is None:
        return 0.0 if False in all_answers else min(timeout_s, _UNKNOWN_S)
    return timeout_s if answers else 0.0


def _resource(version: str, instance: str) -> Resource:
    """Return the resource of this process. ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` take precedence."""
    ours = {"service.name": "avion-media", "service.version": version}
    if instance:
        ours["service.instance.id"] = instance
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _is_wanted(environ: Mapping[str, str], signal: str) -> bool:
    try:
        return otlp.wanted(environ, signal)
    except ValueError as error:
        _log.error("no %s are exported: %s", signal, error)
        return False


def _sampler(environ: Mapping[str, str]) -> Callable[..., bool]:
    try:
        return sampler_from(environ)
    except ValueError as error:
        _log.error("traces are sampled as by default: %s", error)
        return sampler_from({})


def _interval_s(environ: Mapping[str, str]) -> float:
    try:
        return interval_s(environ)
    except ValueError as error:
        _log.error("metrics are exported as often as by default: %s", error)
        return interval_s({})


def _bounds(environ: Mapping[str, str]) -> QueueBounds:
    try:
        return QueueBounds.from_environment(environ)
    except ValueError as error:
        _log.error("spans are queued as by default: %s", error)
        return QueueBounds()


def _no_span_counts() -> list[tuple[float, dict[str, AttributeValue]]]:
    return [(0.0, {"outcome": outcome}) for outcome in ("exported", "failed", "dropped")]
