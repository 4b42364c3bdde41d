"""Reports one attempt at a task: its span, the context of its log lines, its metrics."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType

import structlog

from avion_media.backends.queue import Lease
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.common.telemetry import Span, Telemetry, get_logger, instruments
from avion_media.common.telemetry.tracing import trace_of_subject

_DEFECTS = frozenset({"internal"})
_FINAL = frozenset({"done", "rejected", "dead_letter"})


class ObservedAttempt(AbstractContextManager["ObservedAttempt"]):
    """Entered in the attempt's own task. ``outcome`` and ``reason`` are set before its end.

    The span continues the trace of the task's producer. If the producer sent no trace (another service, a notice, the
    sweep), an upload continues the trace of its media item. Other tasks (such as its deletion, days later) then have
    their own traces, linked to that of the media item.
    """

    def __init__(self, telemetry: Telemetry, path: str, queue_name: str, lease: Lease) -> None:
        self.outcome = "cancelled"
        self.reason = ""
        self._telemetry = telemetry
        self._path = path
        self._queue_name = queue_name
        self._lease = lease
        self._started = time.monotonic()
        self._block = self._begin()
        self._span: Span

    def _begin(self) -> AbstractContextManager[Span]:
        task = self._lease.task
        media_id = task.fields.get("media_id", "")
        processing = self._queue_name == PROCESSING_QUEUE
        # A trace context that is derived from the media item has no real parent span, and no sampling decision.
        derived = task.traceparent == trace_of_subject(task.subject).traceparent
        return self._telemetry.span(
            f"process {self._queue_name}",
            kind="consumer",
            parent="" if derived else task.traceparent,
            medium=media_id if processing else "",
            link="" if processing else media_id,
            messaging__system="redis",
            messaging__operation__name="process",
            messaging__operation__type="process",
            messaging__destination__name=self._queue_name,
            messaging__message__id=task.task_id,
            avion__task__attempt=self._lease.attempt,
            avion__task__deaths=self._lease.deaths,
        )

    def __enter__(self) -> ObservedAttempt:
        self._span = self._block.__enter__()
        task = self._lease.task
        context = {"path": self._path, "task_id": task.task_id}
        if media_id := task.fields.get("media_id", ""):
            context["media_id"] = media_id
        structlog.contextvars.bind_contextvars(**context)
        self._telemetry.count(instruments.TASKS_CONSUMED, messaging__destination__name=self._queue_name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._span.set(avion__task__outcome=self.outcome, avion__task__reason=self.reason)
        if self.reason in _DEFECTS:
            self._span.fail(self.reason)
        seconds = time.monotonic() - self._started
        self._measure(seconds)
        get_logger().info(
            "task.ended",
            attempt=self._lease.attempt,
            outcome=self.outcome,
            reason=self.reason,
            seconds=round(seconds, 3),
        )
        self._block.__exit__(kind, error, traceback)

    def _measure(self, seconds: float) -> None:
        where = {"messaging__destination__name": self._queue_name, "outcome": self.outcome}
        self._telemetry.record(instruments.TASK_DURATION, seconds, **where)
        self._telemetry.count(instruments.TASK_OUTCOMES, 1, reason=self.reason, **where)
        if self.outcome in _FINAL:
            age_s = max(0.0, time.time() - self._lease.first_seen)
            self._telemetry.record(instruments.TASK_COMPLETION, age_s, **where)
