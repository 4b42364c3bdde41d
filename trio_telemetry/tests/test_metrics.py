"""Metrics: what a point has, and however hostile what is measured, the number of time series is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from trio_telemetry import MAX_OPEN_VALUES, NONE, OTHER, Attribute, AttributeValue, Instrument, Metrics, TraceContext

CODE = Attribute("rpc.response.status_code", ("OK", "INTERNAL"))
METHOD = Attribute("rpc.method", meaning="of the methods served")
ERROR = Attribute("error.type", (NONE, "INTERNAL"))
SYSTEM = Attribute("rpc.system.name", ("grpc",))
CALLS = Instrument("shop.calls", "counter", "{call}", "calls", (CODE, ERROR))
RPC_DURATION = Instrument(
    "rpc.server.call.duration",
    "histogram",
    "s",
    "calls",
    (SYSTEM, METHOD, CODE, ERROR),
    (0.01, 0.05, 0.1, 0.5),
    exemplars=True,
)
TASKS = Instrument("shop.tasks", "gauge", "{task}", "tasks that run")
READY = Instrument("shop.ready", "gauge", "1", "1 while calls are served")


def opened() -> Metrics:
    return Metrics(Resource({}), [CALLS, RPC_DURATION, TASKS, READY], "shop")


def label_sets(metrics: Metrics, instrument: Instrument) -> set[tuple[tuple[str, str], ...]]:
    """The sets of labels that an instrument's series have."""
    page = metrics.render().decode()
    return {
        tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith(instrument.prometheus_name)
    }


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return opened()


@settings(max_examples=100, derandomize=True)
@given(st.sampled_from([CALLS, RPC_DURATION]), st.text(max_size=30))
def test_strange_values_become_other(metrics: Metrics, instrument: Instrument, value: str) -> None:
    attributes = {each.name.replace(".", "__"): value for each in instrument.attributes}
    measure = metrics.add if instrument.kind == "counter" else metrics.record
    measure(instrument, 1, dict(attributes))
    for labels in label_sets(metrics, instrument):
        for name, seen in labels:
            (attribute,) = [each for each in instrument.attributes if each.name.replace(".", "_") == name]
            assert not attribute.values or seen in (*attribute.values, OTHER)


def test_an_open_attribute_has_only_so_many_values() -> None:
    metrics = opened()
    for number in range(10 * MAX_OPEN_VALUES):
        metrics.record(RPC_DURATION, 0.1, {"rpc__method": f"a/{number}", "rpc__response__status_code": "OK"})
    seen = label_sets(metrics, RPC_DURATION)
    assert len(seen) == MAX_OPEN_VALUES + 1
    assert any(("rpc_method", OTHER) in labels for labels in seen)


def test_a_point_has_all_attributes_of_its_instrument() -> None:
    metrics = opened()
    metrics.record(RPC_DURATION, 0.1, {})
    (labels,) = label_sets(metrics, RPC_DURATION)
    assert dict(labels) == {
        "rpc_system_name": "grpc",
        "rpc_method": OTHER,
        "rpc_response_status_code": OTHER,
        "error_type": OTHER,
    }


def test_a_gauge_that_cannot_be_read_keeps_its_value_and_harms_no_other() -> None:
    metrics = opened()
    values = [1.0]
    metrics.observe(TASKS, lambda: [(values.pop(), {})])
    metrics.observe(READY, lambda: [(2.0, {})])
    metrics.refresh()
    metrics.refresh()  # nothing to pop any more
    page = metrics.render().decode().splitlines()
    assert {"shop_tasks 1.0", "shop_ready 2.0"} <= set(page)


def test_an_exemplar_is_the_last_trace_of_its_bucket_and_of_no_other() -> None:
    metrics = opened()
    call: dict[str, AttributeValue] = {"rpc__method": "a/B", "rpc__response__status_code": "OK", "error__type": ""}
    metrics.record(RPC_DURATION, 0.05, call | {"error__type": "INTERNAL"})  # another series, with one label more
    for value, trace in ((0.03, TraceContext(1, 2)), (0.05, TraceContext(3, 4)), (60.0, TraceContext(5, 6))):
        metrics.record(RPC_DURATION, value, call, trace)
    metrics.record(RPC_DURATION, 0.3, call)
    found = {
        sample.labels["le"]: (int(sample.exemplar.labels["trace_id"], 16), sample.exemplar.value)
        for family in parse_openmetrics(metrics.render(openmetrics=True).decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {"0.05": (3, 0.05), "+Inf": (5, 60.0)}


def test_a_counter_has_all_its_points_from_the_start_and_counts_each() -> None:
    metrics = opened()
    assert len(label_sets(metrics, CALLS)) == len(CALLS.zeros()) == 4
    metrics.add(CALLS, 2, {"rpc__response__status_code": "OK", "error__type": NONE})
    assert 'shop_calls_total{error_type="",rpc_response_status_code="OK"} 2.0' in metrics.render().decode().splitlines()
