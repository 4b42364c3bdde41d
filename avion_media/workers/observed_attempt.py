"""Reports one attempt at a task: its span, the context of its log lines, its metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from avion_media.backends.queue import Lease
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE
from avion_media.common.telemetry import instruments
from avion_media.common.telemetry.attributes import FAILED_OUTCOMES
from avion_media.common.telemetry.traces import trace_of_subject
from trio_telemetry import NONE, Steps, Telemetry, get_logger

_DEFECTS = frozenset({"internal"})
_FINAL = frozenset({"done", "rejected", "dead_letter"})


@dataclass(slots=True)
class AttemptEnd:
    """How an attempt ended."""

    outcome: str = "cancelled"
    reason: str = ""
    began_at: float = 0.0  # Unix seconds
    duration_s: float = 0.0
    steps: str = ""  # as in `Attempt`


@contextmanager
def observed_attempt(telemetry: Telemetry, path: str, queue_name: str, lease: Lease) -> Iterator[AttemptEnd]:
    """Report the attempt inside the block, which sets how it ended. Entered in the attempt's own task.

    The span continues the trace of the task's producer. If the producer sent no trace (another service, a notice, the
    sweep), an upload continues the trace of its media item. Other tasks (such as its deletion, days later) then have
    their own traces, linked to that of the media item.
    """
    task, end, began_at = lease.task, AttemptEnd(began_at=time.time()), time.monotonic()
    media_id = task.fields.get("media_id", "")
    processing = queue_name == PROCESSING_QUEUE
    # A trace context that is derived from the media item has no real parent span, and no sampling decision.
    derived = task.traceparent == trace_of_subject(task.subject).traceparent
    with telemetry.span(
        f"process {queue_name}",
        kind="consumer",
        parent="" if derived else task.traceparent,
        subject=media_id if processing else "",
        link="" if processing else media_id,
        messaging__system="redis",
        messaging__operation__name="process",
        messaging__operation__type="process",
        messaging__consumer__group__name=CONSUMER_GROUP,
        messaging__destination__name=queue_name,
        messaging__message__id=task.task_id,
        avion__task__attempt=lease.attempt,
        avion__task__deaths=lease.deaths,
    ) as span:
        context = {"path": path, "task_id": task.task_id} | ({"media_id": media_id} if media_id else {})
        structlog.contextvars.bind_contextvars(**context)
        steps = Steps()
        try:
            with steps:
                yield end
        finally:
            end.duration_s, end.steps = time.monotonic() - began_at, steps.describe()
            span.set(avion__task__outcome=end.outcome, avion__task__reason=end.reason)
            if end.reason in _DEFECTS:
                span.fail(end.reason)
            where = {"messaging__destination__name": queue_name, "outcome": end.outcome}
            error_type = end.outcome if end.outcome in FAILED_OUTCOMES else NONE
            telemetry.record(instruments.TASK_DURATION, end.duration_s, error__type=error_type, **where)
            telemetry.count(instruments.TASK_OUTCOMES, 1, reason=end.reason, **where)
            if end.outcome in _FINAL:
                telemetry.record(instruments.TASK_COMPLETION, max(0.0, time.time() - lease.first_seen), **where)
            about = {"attempt": lease.attempt, "outcome": end.outcome, "reason": end.reason}
            get_logger().info("task.ended", **about, seconds=round(end.duration_s, 3))
