"""What a service reports about itself. `open_telemetry` makes it; `NO_TELEMETRY` reports nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from trio_telemetry.export import ExportThread, shut_down
from trio_telemetry.instruments import Instrument
from trio_telemetry.tracing import AttributeValue, Kind, TraceContext, Tracer, current_span

if TYPE_CHECKING:
    from trio_telemetry.metrics import Metrics


class Span(Protocol):
    """One timed operation of a trace."""

    def set(self, **attributes: AttributeValue) -> None:
        """Add attributes (two underscores in a name become a dot)."""

    def fail(self, error_type: str) -> None:
        """Mark it as failed, with the kind of failure: a word, never a text. The first one stands."""


class _NoSpan:
    """A span that records nothing."""

    def set(self, **attributes: AttributeValue) -> None:
        """Nothing is recorded."""

    def fail(self, error_type: str) -> None:
        """Nothing is recorded."""

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing ends."""


NO_SPAN = _NoSpan()


class Telemetry:
    """What the service reports: nothing of what it has no part for. No method waits or raises, `shutdown` aside."""

    def __init__(
        self, tracer: Tracer | None = None, metrics: Metrics | None = None, exports: Sequence[ExportThread] = ()
    ) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._exports = exports

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str = "",
        subject: str = "",
        link: str = "",
        **attributes: AttributeValue,
    ) -> AbstractContextManager[Span]:
        """Time a block. An exception that passes through marks it as failed.

        ``parent`` is a W3C ``traceparent``; without one the span continues the one around it. ``subject`` is one whose
        trace it joins if it has no parent at all, and is linked to otherwise. ``link`` is a subject that it is only
        linked to.
        """
        return NO_SPAN if self._tracer is None else self._tracer.start(name, kind, parent, subject, link, attributes)

    def child_span(
        self, name: str, *, kind: Kind = "internal", **attributes: AttributeValue
    ) -> AbstractContextManager[Span]:
        """The same, but nothing where there is no span around: for what also happens in the background."""
        if self._tracer is None or current_span() is None:
            return NO_SPAN
        return self._tracer.start(name, kind, "", "", "", attributes)

    def record_child_span(self, name: str, seconds: float, *, error: str = "", **attributes: AttributeValue) -> None:
        """Record a child span that ends now and began ``seconds`` ago; it failed if there is an ``error``, a word."""
        if current_span() is None or self._tracer is None:
            return
        span = self._tracer.start(name, "internal", "", "", "", attributes)
        span.start_ns = time.time_ns() - round(seconds * 1e9)
        if error:
            span.fail(error)
        span.end()

    def attach_to_trace_of(self, subject: str, *, begins: bool = False) -> None:
        """Attach the current span to the subject's trace; if the span has a parent already, link it.

        ``begins``: it is that trace's first span. Call it before anything below the span.
        """
        span = current_span()
        if span is not None:
            span.attach_to_trace_of(subject, begins=begins)

    def traceparent(self) -> str:
        """The current span as a W3C ``traceparent`` (https://www.w3.org/TR/trace-context/), or an empty text."""
        span = current_span()
        return span.context.traceparent if span is not None else ""

    def count(self, instrument: Instrument, value: float = 1, **attributes: AttributeValue) -> None:
        """Add to a counter."""
        if self._metrics is not None:
            self._metrics.add(instrument, value, attributes)

    def record(self, instrument: Instrument, value: float, **attributes: AttributeValue) -> None:
        """Add one measurement to a histogram, in the instrument's unit."""
        if self._metrics is not None:
            self._metrics.record(instrument, value, attributes, self._exemplar() if instrument.exemplars else None)

    def _exemplar(self) -> TraceContext | None:
        """Return the current span if it will be exported."""
        span = current_span()
        if span is None or self._tracer is None or not self._tracer.records:
            return None
        context = span.context
        return context if context.sampled else None

    def observe(
        self, instrument: Instrument, read: Callable[[], Sequence[tuple[float, dict[str, AttributeValue]]]]
    ) -> None:
        """Let `refresh` read a gauge. ``read`` must not wait. Several reads of one instrument add up."""
        if self._metrics is not None:
            self._metrics.observe(instrument, read)

    def refresh(self) -> None:
        """Read all gauges, in the event loop. One that cannot be read keeps its last value."""
        if self._metrics is not None:
            self._metrics.refresh()

    def render_metrics(self, *, openmetrics: bool = False) -> bytes:
        """All metrics in Prometheus' text format, or as OpenMetrics, which has exemplars.

        Takes some milliseconds: call it in a thread, after `refresh`.
        """
        return b"" if self._metrics is None else self._metrics.render(openmetrics=openmetrics)

    def flush(self) -> None:
        """Begin to export what there is. Does not wait for it."""
        for each in self._exports:
            each.flush()

    def shutdown(self, timeout_s: float) -> None:
        """Export the rest and close; blocks for ``timeout_s`` at most, so call it in a thread. It does not wait for a
        collector that has not answered."""
        shut_down(self._exports, timeout_s)


NO_TELEMETRY = Telemetry()
