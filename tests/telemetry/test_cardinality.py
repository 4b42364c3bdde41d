"""However hostile what is measured, the number of time series is bounded."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from avion_media.common.telemetry.instruments import INSTRUMENTS
from trio_telemetry import OTHER, Instrument, Metrics

COUNTERS = [each for each in INSTRUMENTS if each.kind in ("counter", "histogram")]


@pytest.mark.parametrize("instrument", COUNTERS, ids=lambda each: each.name)
def test_a_strange_value_becomes_other_in_each_instrument(instrument: Instrument) -> None:
    metrics = Metrics(Resource({}), INSTRUMENTS, "avion_media")
    given = dict.fromkeys((each.name for each in instrument.attributes), "a stranger's word")
    measure = metrics.add if instrument.kind == "counter" else metrics.record
    measure(instrument, 1, dict(given))
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [each for one in families for each in one.samples if each.name.startswith(instrument.prometheus_name)]
    assert samples
    for attribute in instrument.attributes:
        if attribute.values:
            values = {each.labels.get(attribute.name.replace(".", "_"), "") for each in samples}
            assert values <= {*attribute.values, "", OTHER}


def test_there_are_not_too_many_series_to_begin_with() -> None:
    assert sum(len(each.zeros()) for each in COUNTERS if each.kind == "counter") < 300
