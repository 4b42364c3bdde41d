"""Spans: where they belong, what they record, what they say to others."""

from __future__ import annotations

import pytest
import trio

from trio_telemetry import RecordedSpan, TraceContext, Tracer, current_span, parse_traceparent, sampler_from

THEIRS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = THEIRS[:-2] + "00"
SUBJECT = "order 018bcfe5680001123456789abcdef012"
ITS_TRACE = TraceContext(0x018BCFE5680001123456789ABCDEF012, 0x3456789ABCDEF012)


def trace_of(subject: str) -> TraceContext | None:
    """The trace of an order is its number."""
    return ITS_TRACE if subject == SUBJECT else None


class Recorder:
    """A tracer and what it recorded."""

    def __init__(self, **environ: str) -> None:
        self.spans: list[RecordedSpan] = []
        self.tracer = Tracer(sampler_from(environ), self.spans.append, trace_of)

    def start(self, name: str, *, parent: str = "", subject: str = "", link: str = "") -> RecordedSpan:
        return self.tracer.start(name, "internal", parent, subject, link, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        f"{THEIRS}-more",
        f"{THEIRS}\n",
        "x" * 10_000,
    ],
)
def test_what_is_no_traceparent_begins_a_trace(text: str) -> None:
    assert parse_traceparent(text) is None
    recorder = Recorder()
    with recorder.start("a", parent=text) as span:
        assert span.context.trace_id
    assert span.parent_id == 0


def test_a_later_version_of_traceparent_is_read() -> None:
    later = parse_traceparent(f"01{THEIRS[2:]}-more")
    assert later is not None
    assert later.traceparent == THEIRS


def test_children_follow_their_parent_and_tasks_inherit_it() -> None:
    recorder = Recorder()

    async def child() -> None:
        with recorder.start("child"):
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        with recorder.start("parent", parent=THEIRS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
        assert current_span() is None

    trio.run(main)
    child_span, parent_span = recorder.spans
    assert child_span.parent_id == parent_span.context.span_id
    assert {span.context.traceparent[:36] for span in recorder.spans} == {THEIRS[:36]}


def test_a_call_finds_its_subject_in_its_midst() -> None:
    recorder = Recorder()
    with recorder.start("request") as request:
        request.attach_to_trace_of(SUBJECT, begins=True)
    with recorder.start("complete") as complete:
        complete.attach_to_trace_of(SUBJECT)
    with recorder.start("task", subject=SUBJECT) as task:
        pass
    assert (request.context.trace_id, request.context.span_id) == (ITS_TRACE.trace_id, ITS_TRACE.span_id)
    assert request.parent_id == 0
    assert complete.parent_id == task.parent_id == ITS_TRACE.span_id
    assert complete.context.trace_id == task.context.trace_id == ITS_TRACE.trace_id
    assert complete.links == ()


def test_who_has_a_parent_is_only_linked_to_the_subject() -> None:
    recorder = Recorder()
    with recorder.start("theirs", parent=THEIRS, subject=SUBJECT) as theirs:
        pass
    with recorder.start("deletion", link=SUBJECT) as deletion:
        pass
    with recorder.start("same trace", parent=ITS_TRACE.traceparent, subject=SUBJECT) as same:
        pass
    assert theirs.links == deletion.links == (ITS_TRACE,)
    assert same.links == ()


def test_a_text_that_is_no_subject_begins_a_trace_of_its_own() -> None:
    recorder = Recorder()
    with recorder.start("task", subject="something else", link="something else") as task:
        assert task.context.trace_id
    assert (task.parent_id, task.links) == (0, ())


@pytest.mark.parametrize(
    ("sampler", "argument", "root", "with_parent", "with_unsampled_parent"),
    [
        ("", "", True, True, False),
        ("always_on", "", True, True, True),
        ("always_off", "", False, False, False),
        ("parentbased_always_off", "", False, True, False),
        ("traceidratio", "0", False, False, False),
        ("parentbased_traceidratio", "1.0", True, True, False),
    ],
)
def test_the_standard_samplers(
    sampler: str, argument: str, root: bool, with_parent: bool, with_unsampled_parent: bool
) -> None:
    recorder = Recorder(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument)
    for parent, sampled in (("", root), (THEIRS, with_parent), (UNSAMPLED, with_unsampled_parent)):
        recorder.spans.clear()
        with recorder.start("a", parent=parent) as span:
            pass
        assert bool(recorder.spans) is sampled
        assert span.context.sampled is sampled


def test_a_ratio_decides_by_the_id_and_so_alike_everywhere() -> None:
    by_half = sampler_from({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"})
    assert by_half(0x7FFF_FFFF_FFFF_FFFF, None)
    assert not by_half(0x8000_0000_0000_0000, None)


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
    ],
)
def test_settings_of_the_sampler_that_make_no_sense(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="OTEL_TRACES_SAMPLER"):
        sampler_from(environ)


def test_an_exception_marks_its_span_by_its_type_alone() -> None:
    recorder = Recorder()
    with pytest.raises(ValueError), recorder.start("a"):
        raise ValueError("the stranger's own words")
    assert recorder.spans[0].error == "ValueError"


def test_a_cancelled_span_is_no_failure() -> None:
    recorder = Recorder()

    async def main() -> None:
        with trio.CancelScope() as scope, recorder.start("a"):
            scope.cancel()
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert recorder.spans[0].error == ""


def test_without_an_exporter_traces_are_continued_but_nothing_is_kept() -> None:
    tracer = Tracer(sampler_from({}))
    with tracer.start("a", "internal", THEIRS, "", "", {"key": "value"}) as span:
        span.set(more="value")
        assert span.context.traceparent[:36] == THEIRS[:36]
    assert span.attributes == {}
    assert isinstance(span.context, TraceContext)
