"""Threads that export spans and metrics repeatedly, so that no other code waits for a collector."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from trio_telemetry.tracing import RecordedSpan

_SLOW_S = 1.0  # the end does not wait for a collector that takes longer for one batch
_POLL_S = 0.02  # how often the shutdown checks whether the collector still responds
_UNKNOWN_S = 1.0  # how long the shutdown waits for a collector that was never contacted

_FIRST_S = 0.5
_LONGEST_PAUSE_S = 60.0
Export = Callable[[Sequence[RecordedSpan]], bool]
"""Sends a batch, and returns whether it arrived. May block without a limit."""
MAX_QUEUE, MAX_BATCH = 2048, 512  # spans, as in the SDK's batch processor


class ExportThread(ABC):
    """Calls `export_all` after each pause, when it is woken, and once more at the end.

    The thread does not keep the process alive. A subclass calls `_start` when it is ready.
    """

    def __init__(self, name: str) -> None:
        self._wake = threading.Event()
        self._closed = False
        self._answered: bool | None = None
        self._trying_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def export_all(self) -> None:
        """Export everything, each piece by `_try`. May block without a limit."""

    @property
    @abstractmethod
    def pause_s(self) -> float:
        """The time until the next export."""

    @property
    def answers(self) -> bool | None:
        """Whether the collector responds; None while that is unknown."""
        since = self._trying_since
        if since is not None and time.monotonic() - since > _SLOW_S:
            return False
        return self._answered

    def flush(self) -> None:
        """Export soon. Does not wait."""
        self._wake.set()

    def close(self) -> None:
        """Export once more, then end the thread. Does not wait: see `join`."""
        self._closed = True
        self._wake.set()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, for at most ``timeout_s``."""
        self._thread.join(timeout_s)

    def _start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(self.pause_s)
            self._wake.clear()
            if self._closed:
                break
            self.export_all()
        self.export_all()

    def _try(self, export: Callable[[], bool]) -> bool:
        """Return whether ``export`` succeeded. Any exception counts as a failure, which its exporter has logged."""
        self._trying_since = time.monotonic()
        try:
            self._answered = export()
        except Exception:  # noqa: BLE001 - after any error the next export may succeed
            self._answered = False
        self._trying_since = None
        return self._answered


def seconds_from(environ: Mapping[str, str], name: str, default_s: float) -> float:
    """Return a variable that holds milliseconds, in seconds. Raises ValueError unless it is a positive number."""
    milliseconds = float(environ.get(name, "").strip() or default_s * 1000)
    if milliseconds <= 0:
        raise ValueError(f"{name}: expected a positive number")
    return milliseconds / 1000


class SpanQueue(ExportThread):
    """A queue of ended spans of limited length, and its thread. Spans that do not fit are dropped and counted.

    Decision: a queue of our own instead of the SDK's batch processor. That one accepts only the SDK's spans, does not
    show whether its exporter gets responses, and blocks a shutdown for 30 s if it does not.
    """

    def __init__(self, export: Export, delay_s: float) -> None:
        """``delay_s``: the usual time between two exports."""
        super().__init__("telemetry-spans")
        self.exported = self.failed = self.dropped = 0
        self._export = export
        self._delay_s = delay_s
        self._queue: deque[RecordedSpan] = deque()
        self._failures = 0  # in a row
        self._start()

    def put(self, span: RecordedSpan) -> None:
        """Queue a span, or drop it if the queue is full. Never waits."""
        waiting = len(self._queue)
        if waiting >= MAX_QUEUE:
            self.dropped += 1
            return
        self._queue.append(span)
        if waiting + 1 == MAX_BATCH and not self._failures:
            self._wake.set()

    def export_all(self) -> None:
        """Export everything until an export fails. The rest waits for the next time."""
        answered = True
        while self._queue and answered:
            batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
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
            return min(_FIRST_S, self._delay_s)
        longest_s = max(_LONGEST_PAUSE_S, self._delay_s)
        return min(longest_s, self._delay_s * 2.0 ** min(self._failures, 16))


def shut_down(exports: Sequence[ExportThread], timeout_s: float) -> None:
    """Export the rest, and end the threads, which share the time. Do not wait for a collector that does not respond."""
    began = time.monotonic()
    answers = [each.answers for each in exports]
    unknown_s = 0.0 if False in answers else min(timeout_s, _UNKNOWN_S)
    timeouts_s = [unknown_s if each is None else timeout_s * each for each in answers]
    waited_for = [(each, seconds) for each, seconds in zip(exports, timeouts_s, strict=True) if seconds]
    for each, _ in waited_for:
        each.close()
    for each, seconds in waited_for:
        while not each.ended and each.answers is not False and time.monotonic() < began + seconds:
            each.join(_POLL_S)


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
