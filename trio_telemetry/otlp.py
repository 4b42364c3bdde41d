"""Telemetry by OpenTelemetry: always a page for Prometheus, and OTLP if ``OTEL_…`` configures it.

Only ``http/protobuf``: the exporter for OTLP over gRPC needs grpcio, a second HTTP/2 stack with its own threads, and
every collector accepts both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from trio_telemetry.export import Export, ExportThread, MetricExport, SpanQueue, seconds_from
from trio_telemetry.instruments import SPAN_OUTCOME, Instrument
from trio_telemetry.metrics import Metrics, Point
from trio_telemetry.telemetry import Telemetry
from trio_telemetry.tracing import RecordedSpan, TraceContext, TraceOf, Tracer, sampler_from

T = TypeVar("T")

_PROTOCOL = "http/protobuf"
_INTERVAL_S, _DELAY_S = 60.0, 5.0  # of metrics and spans, as in the SDK
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_UNSET, _ERROR = Status(StatusCode.UNSET), StatusCode.ERROR
_log = logging.getLogger(__name__)


def open_telemetry(
    service: str,
    version: str,
    instruments: Sequence[Instrument],
    *,
    instance: str = "",
    spans_by_outcome: Instrument | None = None,
    trace_of: TraceOf = lambda _subject: None,
    environ: Mapping[str, str] | None = None,
) -> Telemetry:
    """Return the telemetry of this process; call it once.

    ``service``, ``version`` and ``instance`` are attributes of its resource. ``instruments`` are all that it measures;
    ``spans_by_outcome`` is the one that counts spans by `SPAN_OUTCOME`. ``environ`` has the settings ``OTEL_…``; by
    default the process's. An invalid one is logged, and its feature stays off; the service starts all the same.
    """
    environ = os.environ if environ is None else environ
    resource, scope = _resource(service, version, instance), service.replace("-", "_")
    metrics, spans = Metrics(resource, instruments, scope), None
    exports: list[ExportThread] = []
    if _valid(partial(_is_wanted, environ, "metrics"), False, "no metrics are exported"):
        read = partial(seconds_from, environ, "OTEL_METRIC_EXPORT_INTERVAL", _INTERVAL_S)
        interval_s = _valid(read, _INTERVAL_S, "metrics are exported as often as by default")
        exports.append(MetricExport(_metric_export(metrics.take), interval_s))
    if _valid(partial(_is_wanted, environ, "traces"), False, "no traces are exported"):
        read = partial(seconds_from, environ, "OTEL_BSP_SCHEDULE_DELAY", _DELAY_S)
        spans = SpanQueue(
            _span_export(resource, InstrumentationScope(scope, version)),
            _valid(read, _DELAY_S, "spans are exported as by default"),
        )
        exports.append(spans)
    if spans_by_outcome is not None:
        metrics.observe(spans_by_outcome, partial(_span_counts, spans))
    sampler = _valid(partial(sampler_from, environ), sampler_from({}), "traces are sampled as by default")
    return Telemetry(Tracer(sampler, spans.put if spans else None, trace_of), metrics, exports)


def _valid(read: Callable[[], T], default: T, consequence: str) -> T:
    """Return the value of a setting. Log why, and return the default, if it is invalid."""
    try:
        return read()
    except ValueError as error:
        _log.error("%s: %s", consequence, error)
        return default


def _resource(service: str, version: str, instance: str) -> Resource:
    """Return the resource of this process. ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` take precedence."""
    ours = {"service.name": service, "service.version": version}
    if instance:
        ours["service.instance.id"] = instance
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _span_counts(spans: SpanQueue | None) -> list[Point]:
    counts = (spans.exported, spans.dropped, spans.failed) if spans else (0, 0, 0)
    return [(count, {SPAN_OUTCOME.name: each}) for count, each in zip(counts, SPAN_OUTCOME.values, strict=True)]


def _is_wanted(environ: Mapping[str, str], signal: str) -> bool:
    """Return whether to export ``signal`` (traces, metrics): an endpoint is set, or OTLP is selected by name.

    Unlike an SDK without settings, a service without settings does not try a collector on localhost. Raises ValueError
    for an unknown protocol or exporter.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    if exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise ValueError(f"OTEL_{signal.upper()}_EXPORTER={exporter}: expected otlp or none")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if not exporter and not any(environ.get(name) for name in endpoints):
        return False
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol and protocol != _PROTOCOL:
            raise ValueError(f"{name}={protocol}: only {_PROTOCOL} is spoken")
        if protocol:
            break
    return True


def _span_export(resource: Resource, scope: InstrumentationScope) -> Export:
    """Return a function that sends spans to the collector."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter()

    def export(spans: Sequence[RecordedSpan]) -> bool:
        return exporter.export([_readable(span, resource, scope) for span in spans]) is SpanExportResult.SUCCESS

    return export


def _metric_export(take: Callable[[], MetricsData | None]) -> Callable[[], bool]:
    """Return a function that sends the metrics from ``take`` to the collector."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter()

    def export() -> bool:
        metrics = take()
        return metrics is None or exporter.export(metrics) is MetricExportResult.SUCCESS

    return export


def _readable(span: RecordedSpan, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    attributes: dict[str, Any] = {name.replace("__", "."): value for name, value in span.attributes.items()}
    if span.error:
        attributes["error.type"] = span.error
    context = span.context
    return ReadableSpan(
        name=span.name,
        context=_sdk_context(context, remote=False),
        parent=_sdk_context(TraceContext(context.trace_id, span.parent_id, context.flags)) if span.parent_id else None,
        resource=resource,
        attributes=attributes,
        links=[Link(_sdk_context(each)) for each in span.links],
        kind=_KINDS[span.kind],
        status=Status(_ERROR) if span.error else _UNSET,
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=scope,
    )


def _sdk_context(context: TraceContext, *, remote: bool = True) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote=remote, trace_flags=TraceFlags(context.flags))
