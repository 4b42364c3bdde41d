"""From spans that ended to an exporter, in a thread of its own: the end of a span never waits for a collector.

Decision: a queue of our own rather than the SDK's batch processor, which takes only the SDK's spans, cannot tell
whether its exporter answers, and blocks a shutdown for 30 s when it does not. What does not fit is dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from avion_media.telemetry.export_thread import ExportThread
from avion_media.telemetry.tracing import Span

_FIRST_S = 0.5
_LONGEST_PAUSE_S = 60.0
Export = Callable[[Sequence[Span]], bool]
"""Sends a batch, and says whether it arrived. May block for as long as it likes."""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """As the SDK's batch processor has them, from the same variables (``OTEL_BSP_…``)."""

    max_queue: int = 2048
    max_batch: int = 512
    delay_s: float = 5.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> QueueBounds:
        """ValueError when a variable is no positive number."""

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
    """A bounded queue and its thread."""

    def __init__(self, export: Export, bounds: QueueBounds) -> None:
        super().__init__("telemetry-spans")
        self.exported = self.failed = self.dropped = 0
        self._export = export
        self._bounds = bounds
        self._queue: deque[Span] = deque()
        self._failures = 0  # in a row
        self._start()

    def put(self, span: Span) -> None:
        """Queue a span; drops it when the queue is full. Never waits."""
        waiting = len(self._queue)
        if waiting >= self._bounds.max_queue:
            self.dropped += 1
            return
        self._queue.append(span)
        if waiting + 1 == self._bounds.max_batch and not self._failures:
            self._wake.set()

    def export_all(self) -> None:
        """All there is, until an export fails: then the rest waits for the next time."""
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
        """Until the next export. A collector that is away is tried less and less often: encoding a batch for it in vain
        costs as much CPU as a hundred calls."""
        if self.answers is None:  # so that it is known early whether it answers
            return min(_FIRST_S, self._bounds.delay_s)
        longest_s = max(_LONGEST_PAUSE_S, self._bounds.delay_s)
        return min(longest_s, self._bounds.delay_s * 2.0 ** min(self._failures, 16))
