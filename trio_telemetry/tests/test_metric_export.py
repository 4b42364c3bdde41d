"""Metrics on their way to a collector."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource

from trio_telemetry import Instrument
from trio_telemetry.export import MetricExport, seconds_from
from trio_telemetry.metrics import Metrics

NEVER_S = 3600.0
DROPS = Instrument("shop.drops", "counter", "{drop}", "what was dropped")


class Collector:
    """Takes what it is given, or fails as told."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.asked = 0
        self.was_asked = threading.Event()
        self._answers = list(answers)

    def __call__(self) -> bool:
        self.asked += 1
        self.was_asked.set()
        answer = self._answers.pop(0) if self._answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_metrics_are_exported_at_once_and_once_more_at_the_end() -> None:
    collector = Collector()
    export = MetricExport(collector, NEVER_S)
    assert collector.was_asked.wait(20)
    export.close()
    export.join(20)
    assert (collector.asked, export.answers) == (2, True)


def test_a_flush_does_not_wait_for_the_interval() -> None:
    collector = Collector()
    export = MetricExport(collector, NEVER_S)
    assert collector.was_asked.wait(20)
    collector.was_asked.clear()
    export.flush()
    assert collector.was_asked.wait(20)
    export.close()
    export.join(20)
    assert collector.asked == 3


@pytest.mark.parametrize("failure", [False, RuntimeError("a defect of somebody else's")])
def test_an_export_that_fails_is_known_and_not_the_last(failure: bool | Exception) -> None:
    collector = Collector(failure, failure)
    export = MetricExport(collector, 0.001)
    assert collector.was_asked.wait(20)
    export.close()
    export.join(20)
    assert collector.asked >= 2


def test_the_interval_is_that_of_the_environment() -> None:
    name = "OTEL_METRIC_EXPORT_INTERVAL"
    assert seconds_from({}, name, 60.0) == 60.0
    assert seconds_from({name: "250"}, name, 60.0) == 0.25
    with pytest.raises(ValueError, match=name):
        seconds_from({name: "0"}, name, 60.0)


def test_the_page_and_the_collector_get_the_same_and_all_of_it() -> None:
    metrics = Metrics(Resource({}), [DROPS], "shop")
    for total in (1, 2, 3):
        metrics.add(DROPS, 1, {})
        assert value_in(metrics.take()) == total
        assert f"{DROPS.prometheus_name} {total}.0" in metrics.render().decode().splitlines()


def value_in(data: MetricsData | None) -> float:
    """Of the counter of drops."""
    assert data is not None
    (found,) = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == DROPS.name
    ]
    return found.data.data_points[0].value  # type: ignore[union-attr]
