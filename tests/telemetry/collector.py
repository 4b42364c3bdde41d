"""A collector for OTLP over HTTP: decodes what it is sent by the standard's own messages, and keeps it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.service.harness import eventually
from tests.services.http import serving
from tests.services.process import free_port


@dataclass(frozen=True)
class SeenSpan:
    """One span as it arrived; ids in hex."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool
    start_ns: int
    end_ns: int


@dataclass
class Collector:
    """What has arrived so far."""

    url: str
    spans: list[SeenSpan] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def trace(self, trace_id: str) -> list[SeenSpan]:
        """All spans of a trace, in the order of their begin."""
        found = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.start_ns)

    def complete_trace(self, trace_id: str, names: Iterable[str]) -> list[SeenSpan]:
        """The trace, as soon as there are spans of all these names."""
        wanted = set(names)

        def look() -> list[SeenSpan] | None:
            trace = self.trace(trace_id)
            return trace if wanted <= {span.name for span in trace} else None

        return eventually(look, f"a trace {trace_id} with {sorted(wanted)}")


def one(spans: Sequence[SeenSpan], name: str) -> SeenSpan:
    """The only span of that name."""
    (found,) = [span for span in spans if span.name == name]
    return found


def below(spans: Sequence[SeenSpan], parent: SeenSpan) -> list[str]:
    """The names of a span's children, sorted."""
    return sorted(span.name for span in spans if span.parent_id == parent.span_id)


@contextmanager
def collector(answer: Callable[[BaseHTTPRequestHandler], None] | None = None) -> Iterator[Collector]:
    """One on a free port; ``answer`` may do something else with a request than take it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.requests.append(self.path)
            if answer is not None:
                answer(self)
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            _take(found, self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as port:
        found = Collector(f"http://127.0.0.1:{port}")
        yield found


@contextmanager
def hanging_collector() -> Iterator[str]:
    """The address of one that takes requests, and never answers."""
    over = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> None:
        over.wait()
        request.close_connection = True

    with collector(hang) as found:
        try:
            yield found.url
        finally:
            over.set()


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    yield f"http://127.0.0.1:{free_port()}"


def _take(found: Collector, path: str, body: bytes) -> None:
    if path == "/v1/traces":
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            known = _attributes(resource.resource.attributes)
            found.spans += [_seen(span, known) for scope in resource.scope_spans for span in scope.spans]
    elif path == "/v1/metrics":
        for process in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            found.metrics |= {metric.name for scope in process.scope_metrics for metric in scope.metrics}


def _seen(span: trace_pb2.Span, resource: dict[str, Any]) -> SeenSpan:
    return SeenSpan(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span.attributes),
        resource=resource,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
    )


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
