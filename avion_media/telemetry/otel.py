"""Telemetry by the OpenTelemetry SDK: Prometheus on the admin port always, OTLP when ``OTEL_*`` asks for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, generate_latest

from avion_media.telemetry.api import AttributeValue, Span
from avion_media.telemetry.instruments import INSTRUMENTS, Instrument

_KINDS = {kind.name.lower(): kind for kind in trace.SpanKind}
_PROPAGATOR = TraceContextTextMapPropagator()


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: AttributeValue) -> None:
        """See `Span.set`."""
        self._span.set_attributes(_dotted(attributes))


def _dotted(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {name.replace("__", ".") if "__" in name else name: value for name, value in attributes.items()}


class OpenTelemetry:
    """See `Telemetry`; one per process. Attribute names write a dot as two underscores (``rpc__method``)."""

    def __init__(self, service_version: str) -> None:
        resource = Resource.create({"service.name": "avion-media", "service.version": service_version})
        self._registry = CollectorRegistry()
        readers: list[MetricReader] = [
            PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self._registry)
        ]
        self._tracers = TracerProvider(resource=resource)
        if _otlp_wanted():
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
            self._tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._meters = MeterProvider(resource=resource, metric_readers=readers)
        self._tracer = self._tracers.get_tracer("avion_media")
        self._meter = self._meters.get_meter("avion_media")
        self._instruments = {
            each.name: self._create(each) for each in INSTRUMENTS if each.kind in ("counter", "histogram")
        }

    def _create(self, instrument: Instrument) -> Any:
        if instrument.kind == "histogram":
            return self._meter.create_histogram(
                instrument.name,
                unit=instrument.unit,
                description=instrument.description,
                explicit_bucket_boundaries_advisory=list(instrument.boundaries) or None,
            )
        create = self._meter.create_counter if instrument.kind == "counter" else self._meter.create_up_down_counter
        return create(instrument.name, unit=instrument.unit, description=instrument.description)

    @contextmanager
    def span(
        self, name: str, *, kind: str = "internal", parent: str = "", **attributes: AttributeValue
    ) -> Iterator[Span]:
        """See `Telemetry.span`."""
        context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
        with self._tracer.start_as_current_span(
            name, context=context, kind=_KINDS[kind], attributes=_dotted(attributes)
        ) as span:
            yield _OtelSpan(span)

    def traceparent(self) -> str:
        """See `Telemetry.traceparent`."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def count(self, instrument: Instrument, value: int = 1, **attributes: AttributeValue) -> None:
        """See `Telemetry.count`."""
        self._instruments[instrument.name].add(value, _dotted(attributes))

    def record(self, instrument: Instrument, value: float, **attributes: AttributeValue) -> None:
        """See `Telemetry.record`."""
        self._instruments[instrument.name].record(value, _dotted(attributes))

    def observe(
        self, instrument: Instrument, read: Callable[[], list[tuple[float, dict[str, AttributeValue]]]]
    ) -> None:
        """See `Telemetry.observe`."""

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, _dotted(attributes)) for value, attributes in read()]

        self._meter.create_observable_gauge(
            instrument.name, [callback], unit=instrument.unit, description=instrument.description
        )

    def render_metrics(self) -> bytes:
        """See `Telemetry.render_metrics`."""
        return generate_latest(self._registry)

    def shutdown(self, timeout_s: float) -> None:
        """See `Telemetry.shutdown`. The SDK's own shutdown can block for 30 s on a hanging exporter: it gets a
        daemon thread, which the process does not wait for."""
        worker = threading.Thread(target=self._shutdown_providers, name="telemetry-shutdown", daemon=True)
        worker.start()
        worker.join(timeout_s)

    def _shutdown_providers(self) -> None:
        self._tracers.shutdown()
        self._meters.shutdown()


def _otlp_wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(
        os.environ.get(name)
        for name in (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        )
    )
