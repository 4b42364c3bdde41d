"""The queue before the exporter: bounded, and never waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from trio_telemetry import RecordedSpan, Tracer, sampler_from
from trio_telemetry import export as exports
from trio_telemetry.export import SpanQueue

SLOW_S = 3600.0


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MAX_QUEUE", 4)
    monkeypatch.setattr(exports, "MAX_BATCH", 2)


def a_span() -> RecordedSpan:
    return Tracer(sampler_from({})).start("a", "internal", "", "", "", {})


class Exporter:
    """Takes batches, or holds them until it is let go."""

    def __init__(self, *answers: bool, held: bool = False) -> None:
        self.batches: list[int] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self._answers = list(answers)
        if not held:
            self.go.set()

    def __call__(self, spans: Sequence[RecordedSpan]) -> bool:
        self.batches.append(len(spans))
        self.begun.set()
        assert self.go.wait(20)
        return self._answers.pop(0) if self._answers else True


def test_what_is_left_at_the_end_is_exported() -> None:
    exporter = Exporter()
    queue = SpanQueue(exporter, SLOW_S)
    queue.put(a_span())
    queue.close()
    queue.join(20)
    assert (exporter.batches, queue.exported, queue.answers) == ([1], 1, True)


def test_a_full_batch_does_not_wait_and_a_full_queue_drops() -> None:
    exporter = Exporter(held=True)
    queue = SpanQueue(exporter, SLOW_S)
    for _ in range(2):
        queue.put(a_span())
    assert exporter.begun.wait(20)
    for _ in range(6):  # two batches wait, two spans are too much
        queue.put(a_span())
    assert queue.dropped == 2
    exporter.go.set()
    queue.close()
    queue.join(20)
    assert (sum(exporter.batches), queue.exported) == (6, 6)


def test_the_rest_waits_when_an_export_fails() -> None:
    exporter = Exporter(False, held=True)
    queue = SpanQueue(exporter, SLOW_S)
    for _ in range(4):
        queue.put(a_span())
    assert exporter.begun.wait(20)
    queue.close()
    exporter.go.set()
    queue.join(20)
    # The thread had ended its round; the last one, on closing, took the rest.
    assert (exporter.batches, queue.failed, queue.exported) == ([2, 2], 2, 2)


def test_an_exporter_that_fails_is_tried_less_often_until_it_answers() -> None:
    pauses: list[float] = []
    answers = [False] * 6 + [True]

    def export(_spans: Sequence[RecordedSpan]) -> bool:
        pauses.append(queue.pause_s)
        return answers[len(pauses) - 1]

    queue = SpanQueue(export, 5.0)
    for number in range(len(answers)):
        queue.put(a_span())
        queue.flush()
        assert reached(pauses, number + 1)
    queue.close()
    queue.join(20)
    assert pauses == [0.5, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert queue.pause_s == 5.0


def reached(pauses: list[float], count: int) -> bool:
    """Wait for another thread to get there."""
    deadline = time.monotonic() + 20
    while len(pauses) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    return len(pauses) == count


def test_an_exporter_that_raises_is_one_that_failed() -> None:
    def export(_spans: Sequence[RecordedSpan]) -> bool:
        raise RuntimeError("a defect of somebody else's")

    queue = SpanQueue(export, SLOW_S)
    queue.put(a_span())
    queue.close()
    queue.join(20)
    assert (queue.failed, queue.answers) == (1, False)


def test_joining_an_exporter_that_hangs_is_bounded() -> None:
    exporter = Exporter(held=True)
    queue = SpanQueue(exporter, SLOW_S)
    queue.put(a_span())
    queue.close()
    assert exporter.begun.wait(20)
    queue.join(0.01)
    assert queue.exported == 0
    exporter.go.set()
    queue.join(20)


def test_an_exporter_that_takes_too_long_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("trio_telemetry.export.time.monotonic", lambda: now)
    exporter = Exporter(held=True)
    queue = SpanQueue(exporter, SLOW_S)
    queue.put(a_span())
    seen = [queue.answers]
    queue.flush()
    assert exporter.begun.wait(20)
    seen.append(queue.answers)
    now += 1.5
    seen.append(queue.answers)
    exporter.go.set()
    queue.close()
    queue.join(20)
    seen.append(queue.answers)
    assert seen == [None, None, False, True]
