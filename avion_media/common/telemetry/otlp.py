"""Export by OTLP over HTTP, configured by the standard variables (``OTEL_EXPORTER_OTLP_…``).

Only ``http/protobuf``: the exporter for OTLP over gRPC needs grpcio, a second HTTP/2 stack with its own threads, and
every collector accepts both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from avion_media.common.telemetry.export import Export
from avion_media.common.telemetry.tracing import RecordedSpan, TraceContext

SCOPE = "avion_media"
_PROTOCOL = "http/protobuf"
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_UNSET, _ERROR = Status(StatusCode.UNSET), StatusCode.ERROR


def wanted(environ: Mapping[str, str], signal: str) -> bool:
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


def span_export(resource: Resource, scope_version: str) -> Export:
    """Return a function that sends spans to the collector."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter()
    scope = InstrumentationScope(SCOPE, scope_version)

    def export(spans: Sequence[RecordedSpan]) -> bool:
        return exporter.export([_readable(span, resource, scope) for span in spans]) is SpanExportResult.SUCCESS

    return export


def metric_export(take: Callable[[], MetricsData | None]) -> Callable[[], bool]:
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
