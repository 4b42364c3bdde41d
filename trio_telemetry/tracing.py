"""Spans: what is in progress in the present task, and its place in a trace.

Decision: spans of our own instead of the SDK's, which take 14 µs each, recorded or not. These take 2 µs. The SDK's
samplers need its objects, too; the six of the specification are one line each. In the exporter's thread recorded spans
become the SDK's spans (see `otlp`).

A subject is a text that several processes know, such as the id of an order, and `TraceOf` derives a trace from it. So
calls, tasks and retries about one subject are one trace, without a context that they pass on. Ids of a span are chosen
on first use, so that a call can join the trace of a subject that it learns after its start.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import trio

SAMPLED = 1
# Version 00, and anything that a later version appends (https://www.w3.org/TR/trace-context/#versioning-of-traceparent).
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)

DEFAULT = "parentbased_always_on"
_RATIO_BITS = 64
_MOST_STEPS = 30
AttributeValue = str | int | float | bool
Kind = Literal["internal", "server", "client", "producer", "consumer"]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of one trace, as other spans refer to it."""

    trace_id: int
    span_id: int
    flags: int = 0

    @property
    def sampled(self) -> bool:
        """Whether the span is recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The context in W3C's format."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def parse_traceparent(text: str) -> TraceContext | None:
    """Read a ``traceparent``. Return None if it is invalid; a new trace begins then, as the standard requires."""
    match = _TRACEPARENT.fullmatch(text) if len(text) < 256 else None
    if match is None or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return TraceContext(trace_id, span_id, int(match[4], 16)) if trace_id and span_id else None


TraceOf = Callable[[str], TraceContext | None]
"""The trace of a subject, at its first span; None if the text is no subject. Its flags have no meaning: each sampler
decides by the id, whose last 64 bits must be random for one that samples by a ratio."""
Sampler = Callable[[int, TraceContext | None], bool]
"""Whether to record, by the trace's id and the remote parent, if there is one."""


def sampler_from(environ: Mapping[str, str]) -> Sampler:
    """Return the sampler of ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG``. Raises ValueError for invalid
    values."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or DEFAULT
    root_name = name.removeprefix("parentbased_")
    roots: dict[str, Callable[[], Sampler]] = {
        "always_on": lambda: lambda _trace_id, _parent: True,
        "always_off": lambda: lambda _trace_id, _parent: False,
        "traceidratio": lambda: _by_ratio(_ratio(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))),
    }
    if root_name not in roots:
        known = sorted([*roots, *(f"parentbased_{each}" for each in roots)])
        raise ValueError(f"OTEL_TRACES_SAMPLER={name}: expected one of {', '.join(known)}")
    root = roots[root_name]()
    return root if name == root_name else _by_parent(root)


def _by_parent(root: Sampler) -> Sampler:
    return lambda trace_id, parent: root(trace_id, None) if parent is None else parent.sampled


def _by_ratio(ratio: float) -> Sampler:
    """Decide like the SDKs, by the last 64 bits, so that all processes decide alike."""
    bound = round(ratio * (1 << _RATIO_BITS))
    return lambda trace_id, _parent: trace_id & ((1 << _RATIO_BITS) - 1) < bound


def _ratio(text: str) -> float:
    try:
        ratio = float(text or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG={text}: expected a number from 0 to 1")
    return ratio


_current: ContextVar[RecordedSpan | None] = ContextVar("trio_telemetry.span", default=None)
_steps: ContextVar[Steps | None] = ContextVar("trio_telemetry.steps", default=None)


class Steps:
    """A context manager: the spans that end within its block, in this task and in those that the block starts.

    They are collected whether spans are recorded or not. Only the first `_MOST_STEPS` are kept.
    """

    def __init__(self) -> None:
        self._began_ns = 0
        self._found: list[tuple[str, int, int]] = []
        self._token: Token[Steps | None] | None = None

    def __enter__(self) -> Steps:
        self._token = _steps.set(self)
        self._began_ns = time.time_ns()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None  # set on entry
        _steps.reset(self._token)

    def add(self, name: str, start_ns: int, end_ns: int) -> None:
        """Add a span."""
        if len(self._found) < _MOST_STEPS:
            self._found.append((name, start_ns - self._began_ns, end_ns - start_ns))

    def describe(self) -> str:
        """Return name, start and duration in ms of each, separated by tabs, one per line."""
        return "\n".join(f"{name}\t{max(0, at) // 1_000_000}\t{took // 1_000_000}" for name, at, took in self._found)


class RecordedSpan:
    """One timed operation; a context manager around it. See `Telemetry.span` for how its trace is chosen.

    Its methods may be called until it has ended, by the code inside it. An exception that leaves the block makes it a
    failure, except `trio.Cancelled`. Only the type of the exception is recorded, because texts may contain untrusted
    input.
    """

    __slots__ = (
        "_flags",
        "_parent",
        "_span_id",
        "_token",
        "_trace_id",
        "_tracer",
        "attributes",
        "end_ns",
        "error",
        "kind",
        "links",
        "name",
        "parent_id",
        "start_ns",
    )

    def __init__(self, tracer: Tracer, name: str, kind: Kind, attributes: Mapping[str, AttributeValue]) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        self.attributes = dict(attributes) if tracer.records else {}
        self.links: tuple[TraceContext, ...] = ()
        self.error = ""
        self.parent_id = 0
        self.start_ns = self.end_ns = 0
        self._parent: TraceContext | None = None
        self._trace_id = self._span_id = self._flags = 0
        self._token: Token[RecordedSpan | None] | None = None

    def __enter__(self) -> RecordedSpan:
        self._token = _current.set(self)
        self.start_ns = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None  # set on entry
        _current.reset(self._token)
        if kind is not None and not issubclass(kind, trio.Cancelled):
            self.fail(kind.__name__)
        self.end()

    def end(self) -> None:
        """Record it, if it is sampled. Called once, at the end of the block."""
        steps = _steps.get()
        if steps is not None:
            steps.add(self.name, self.start_ns, time.time_ns())
        if self._tracer.records:
            if not self._span_id:
                self._settle()
            if self._flags & SAMPLED:
                self.end_ns = time.time_ns()
                self._tracer.record(self)

    def set(self, **attributes: AttributeValue) -> None:
        """See `api.Span.set`."""
        if self._tracer.records:
            self.attributes.update(attributes)

    def fail(self, error_type: str) -> None:
        """See `api.Span.fail`."""
        self.error = self.error or error_type

    @property
    def context(self) -> TraceContext:
        """Its place in a trace, chosen now if it was not chosen before."""
        if not self._span_id:
            self._settle()
        return TraceContext(self._trace_id, self._span_id, self._flags)

    def continue_from(self, parent: TraceContext) -> None:
        """Become a child of that span."""
        self._parent = parent

    def attach_to_trace_of(self, subject: str, *, begins: bool = False) -> None:
        """See `Telemetry.attach_to_trace_of`."""
        trace = self._tracer.trace_of(subject)
        if trace is None:
            return
        if self._parent is not None or self._span_id:
            self.link(trace)
            return
        self._trace_id = trace.trace_id
        self._span_id = trace.span_id if begins else _new_id(64)
        self.parent_id = 0 if begins else trace.span_id
        self._flags = self._tracer.flags(self._trace_id, None)

    def link(self, other: TraceContext) -> None:
        """Refer to a span of another trace."""
        if other.trace_id != (self._parent.trace_id if self._parent else self._trace_id):
            self.links = (*self.links, other)

    def _settle(self) -> None:
        parent = self._parent
        self._trace_id = parent.trace_id if parent else _new_id(128)
        self.parent_id = parent.span_id if parent else 0
        self._span_id = _new_id(64)
        self._flags = self._tracer.flags(self._trace_id, parent)


class Tracer:
    """Makes spans. ``record`` is called with each sampled span that ended; without it nothing is recorded, but traces
    are continued and found in logs all the same."""

    def __init__(
        self,
        sampler: Sampler,
        record: Callable[[RecordedSpan], None] | None = None,
        trace_of: TraceOf = lambda _subject: None,
    ) -> None:
        self._sampler = sampler
        self.trace_of = trace_of
        self.records = record is not None
        self.record = record or _forget

    def flags(self, trace_id: int, parent: TraceContext | None) -> int:
        """W3C's flags for a span of that trace."""
        return SAMPLED if self._sampler(trace_id, parent) else 0

    def start(
        self, name: str, kind: Kind, parent: str, subject: str, link: str, attributes: Mapping[str, AttributeValue]
    ) -> RecordedSpan:
        """See `Telemetry.span`."""
        span = RecordedSpan(self, name, kind, attributes)
        remote = parse_traceparent(parent) if parent else None
        around = _current.get()
        if remote is not None:
            span.continue_from(remote)
        elif around is not None:
            span.continue_from(around.context)
        if subject:
            span.attach_to_trace_of(subject)
        if link and self.records and (trace := self.trace_of(link)) is not None:
            span.link(trace)
        return span


def current_span() -> RecordedSpan | None:
    """The span that the present task is in."""
    return _current.get()


def _forget(_span: RecordedSpan) -> None:
    """Nobody records."""


def _new_id(bits: int) -> int:
    return random.getrandbits(bits) or 1
