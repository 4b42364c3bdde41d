"""The interface, and the implementation that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from avion_media.telemetry.instruments import Instrument

AttributeValue = str | int | float | bool


class Span(Protocol):
    """One timed operation of a trace."""

    def set(self, **attributes: AttributeValue) -> None:
        """Add attributes (underscores in names become dots)."""


class Telemetry(Protocol):
    """What the service tells about itself. No method ever waits or raises."""

    def span(
        self, name: str, *, kind: str = "internal", parent: str = "", **attributes: AttributeValue
    ) -> AbstractContextManager[Span]:
        """Time a block. ``kind`` is internal, server, client, producer or consumer; ``parent`` a W3C traceparent.

        Without ``parent`` the span continues the one around it. An exception is recorded and passes through.
        """

    def traceparent(self) -> str:
        """The current span as a W3C ``traceparent`` (https://www.w3.org/TR/trace-context/), or an empty text."""

    def count(self, instrument: Instrument, value: int = 1, **attributes: AttributeValue) -> None:
        """Add to a counter, or move an up-down counter."""

    def record(self, instrument: Instrument, value: float, **attributes: AttributeValue) -> None:
        """Add one measurement to a histogram, in the instrument's unit."""

    def observe(
        self, instrument: Instrument, read: Callable[[], list[tuple[float, dict[str, AttributeValue]]]]
    ) -> None:
        """Let a gauge be read whenever metrics are collected. ``read`` must not wait."""

    def render_metrics(self) -> bytes:
        """All metrics in Prometheus' text format."""

    def shutdown(self, timeout_s: float) -> None:
        """Flush and close; blocks for ``timeout_s`` at most, so call it in a thread."""


class _NoSpan:
    def set(self, **attributes: AttributeValue) -> None:
        """Nothing is recorded."""


class NoTelemetry:
    """Does nothing, at next to no cost."""

    @contextmanager
    def span(
        self, name: str, *, kind: str = "internal", parent: str = "", **attributes: AttributeValue
    ) -> Iterator[Span]:
        """See `Telemetry.span`."""
        yield _NoSpan()

    def traceparent(self) -> str:
        """See `Telemetry.traceparent`."""
        return ""

    def count(self, instrument: Instrument, value: int = 1, **attributes: AttributeValue) -> None:
        """See `Telemetry.count`."""

    def record(self, instrument: Instrument, value: float, **attributes: AttributeValue) -> None:
        """See `Telemetry.record`."""

    def observe(
        self, instrument: Instrument, read: Callable[[], list[tuple[float, dict[str, AttributeValue]]]]
    ) -> None:
        """See `Telemetry.observe`."""

    def render_metrics(self) -> bytes:
        """See `Telemetry.render_metrics`."""
        return b""

    def shutdown(self, timeout_s: float) -> None:
        """See `Telemetry.shutdown`."""


NO_TELEMETRY: Telemetry = NoTelemetry()
