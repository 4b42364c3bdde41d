"""OpenTelemetry for services on Trio: spans, metrics and logs that cost little and never wait for a collector.

Code says *what happened* (`Telemetry.count`, `Telemetry.record`, `Telemetry.span`). `open_telemetry` decides once where
that goes: to a page for Prometheus, and by OTLP to a collector if ``OTEL_…`` names one. `NO_TELEMETRY` goes nowhere.
"""

from trio_telemetry.export import ExportThread, MetricExport, SpanQueue
from trio_telemetry.instruments import MAX_OPEN_VALUES, NONE, OTHER, SPAN_OUTCOME, Attribute, Instrument
from trio_telemetry.logs import OutageLog, bind_path, configure_logging, get_logger, silence_logging
from trio_telemetry.metrics import Metrics, Point
from trio_telemetry.otlp import open_telemetry
from trio_telemetry.process import cpu_seconds, loop_lags, open_files, resident_bytes
from trio_telemetry.telemetry import NO_SPAN, NO_TELEMETRY, Span, Telemetry
from trio_telemetry.tracing import (
    AttributeValue,
    RecordedSpan,
    Steps,
    TraceContext,
    TraceOf,
    Tracer,
    current_span,
    parse_traceparent,
    sampler_from,
)

__all__ = [
    "MAX_OPEN_VALUES",
    "NONE",
    "NO_SPAN",
    "NO_TELEMETRY",
    "OTHER",
    "SPAN_OUTCOME",
    "Attribute",
    "AttributeValue",
    "ExportThread",
    "Instrument",
    "MetricExport",
    "Metrics",
    "OutageLog",
    "Point",
    "RecordedSpan",
    "Span",
    "SpanQueue",
    "Steps",
    "Telemetry",
    "TraceContext",
    "TraceOf",
    "Tracer",
    "bind_path",
    "configure_logging",
    "cpu_seconds",
    "current_span",
    "get_logger",
    "loop_lags",
    "open_files",
    "open_telemetry",
    "parse_traceparent",
    "resident_bytes",
    "sampler_from",
    "silence_logging",
]
