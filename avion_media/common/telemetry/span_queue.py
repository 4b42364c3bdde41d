"""Passes ended spans to an exporter, in a thread of its own, so that the end of a span never waits for a collector.

Decision: a queue of our own instead of the SDK's batch processor. That one accepts only the SDK's spans, does not show
whether its exporter gets responses, and blocks a shutdown for 30 s if it does not. Spans that do not fit are dropped
and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from avion_media.common.telemetry.export_thread import ExportThread
from avion_media.common.telemetry.tracing import Span

_FIRST_S = 0.5
_LONGEST_PAUSE_S = 60.0
Export = Callable[[Sequence[Span]], bool]
"""Sends a batch, and returns whether it arrived. May block without a limit."""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """Limits like those of the SDK's batch processor, from the same variables (``OTEL_BSP_…``)."""

    max_queue: int = 2048
    max_batch: int = 512
    delay_s: float = 5.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> QueueBounds:
        """Read the variables. Raises ValueError unless they are positive numbers."""

        def number(name: str, default: float) -> float:
            value = float(environ.get(name, "").strip() or default)
            if value <= 0:
                raise ValueError(f"{name}: expected a positive number")
            return value

        default = cls()
        max_queue = int(number("OTEL_BSP_MAX_QUEUE_SIZE", default.max_queue))
        max_batch = int(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.max_batch))
        delay_s = number("OTEL_BSP_SCHEDULE_DELAY", default.delay_s * 1000) / 1000
        return cls(max_queue, min(max_batch, max_queue), delay_s)


class SpanQueue(ExportThread):
    """A queue of limited length, and its thread."""

    def __init__(self, export: Export, bounds: QueueBounds) -> None:
        super().__init__("telemetry-spans")
        self.exported = self.failed = self.dropped = 0
        self._export = export
        self._bounds = bounds
        self._queue: deque[Span] = deque()
        self._failures = 0  # in a row
        self._start()

    def put(self, span: Span) -> None:
        """Queue a span, or drop it if the queue is full. Never waits."""
        waiting = len(self._queue)
        if waiting >= self._bounds.max_queue:
            self.dropped += 1
            return
        self._queue.append(span)
        if waiting + 1 == self._bounds.max_batch and not self._failures:
            self._wake.set()

    def export_all(self) -> None:
        """Export everything until an export fails. The rest waits for the next time."""
        answered = True
        while self._queue and answered:
            batch = [self._queue.popleft() for _ in range(min(self._bounds.max_batch, len(self._queue)))]
            answered = self._try(partial(self._export, batch))
            if answered:
                self.exported += len(batch)
                self._failures = 0
            else:
                self.failed += len(batch)
                self._failures += 1

    @property
    def pause_s(self) -> float:
        """Time until the next export. An unavailable collector is tried less and less often, because encoding a batch
        in vain takes as much CPU as a hundred calls."""
        if self.answers is None:  # to find out early whether it responds
            return min(_FIRST_S, self._bounds.delay_s)
        longest_s = max(_LONGEST_PAUSE_S, self._bounds.delay_s)
        return min(longest_s, self._bounds.delay_s * 2.0 ** min(self._failures, 16))
