"""Every kind of span, for the documentation, and for the test that compares it with exported spans."""

from __future__ import annotations

import re
from dataclasses import dataclass

from avion_media.common.telemetry.tracing import Kind


@dataclass(frozen=True, slots=True)
class SpanName:
    """``pattern`` is the name, with variable parts in braces; ``of`` is what the span times, ``parent`` its parent.

    Failed spans of any kind also have ``error.type``.
    """

    pattern: str
    kind: Kind
    of: str
    parent: str
    attributes: tuple[str, ...]

    def matches(self, name: str) -> bool:
        """Return whether this is the kind of a span with that name."""
        words = re.split(r"(\{[a-z]+\})", self.pattern)
        return bool(re.fullmatch("".join(r"\S+" if each[:1] == "{" else re.escape(each) for each in words), name))


_TASK = (
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
    "messaging.message.id",
)

SPANS: tuple[SpanName, ...] = (
    SpanName(
        "avion.MediaService/{method}",
        "server",
        "one gRPC call; health checks and reflection have none",
        "the client's `traceparent`, else the first span of the media item's trace, else nothing",
        ("rpc.system.name", "rpc.method", "rpc.response.status_code"),
    ),
    SpanName("send {queue}", "producer", "queueing a task", "whatever queues it", _TASK),
    SpanName(
        "process {queue}",
        "consumer",
        "one attempt at a task, to its acknowledgement",
        "the `traceparent` of the task; where it has none, or only the media item's: for uploads the first span of the "
        "media item's trace, else nothing",
        (
            *_TASK,
            "avion.task.attempt",
            "avion.task.deaths",
            "avion.task.outcome",
            "avion.task.reason",
        ),
    ),
    SpanName(
        "S3.{operation}",
        "client",
        "one call of the store, the wait for a thread included",
        "the call, task or request that makes it; none in the background",
        ("rpc.system.name", "rpc.method", "aws.s3.bucket", "aws.s3.key"),
    ),
    SpanName(
        "sandbox {job}",
        "internal",
        "one sandboxed process, from fork to exit: `picture_job`, `plan_job`, `poster_job`",
        "the task",
        ("avion.sandbox.job", "avion.sandbox.outcome", "avion.sandbox.cpu_time", "avion.sandbox.memory_peak"),
    ),
    SpanName(
        "GET",
        "client",
        "one fetch of a remote media item, redirects included; no trace context is sent",
        "the task",
        ("http.request.method", "url.scheme", "server.address", "server.port", "avion.remote.outcome"),
    ),
    SpanName(
        "{method} {route}",
        "server",
        "one request of the origin, to the end of its body",
        "nothing; linked to the media item's trace",
        ("http.request.method", "http.route", "url.scheme", "http.response.status_code"),
    ),
)
