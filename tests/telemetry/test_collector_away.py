"""A collector that hangs, or is not there: nobody notices but the log, and that once."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
import redis

from tests.conftest import S3Bucket
from tests.service.harness import json_lines, running, service_environment
from tests.telemetry.collector import hanging_collector, nobody

FLUSH_S = 2.0  # less than what a collector that answers may have


@pytest.mark.parametrize("away", [nobody, hanging_collector])
def test_calls_and_drain_go_on_as_if_it_were_there(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, away: Any
) -> None:
    with away() as url:
        environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket) | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        with running(environment, roles="grpc") as service:
            for _ in range(1200):  # more than two batches, less than the queue holds
                service.request_upload("a.png", "image/png", 10)
            assert service.stop() == 0
            log = json_lines(service.log())
        assert seconds_between(log, "STOPPING", "DONE") < FLUSH_S
        said = Counter(each["event"][:24] for each in log if "/v1/" in each["event"] or "export" in each["event"])
        assert set(said.values()) <= {1, 2}, said  # the exporters of both signals, each once


def seconds_between(log: list[dict[str, Any]], first: str, last: str) -> float:
    """Between two phases, as logged."""
    at = {each["phase"]: datetime.fromisoformat(each["timestamp"]) for each in log if each["event"] == "phase"}
    return (at[last] - at[first]).total_seconds()


def test_a_setting_that_makes_no_sense_is_said_and_nothing_more(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket
) -> None:
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_TRACES_SAMPLER": "sometimes",
    }
    with running(environment, roles="grpc") as service:
        assert service.request_upload("a.png", "image/png", 10).media_id
        said = [each["event"] for each in json_lines(service.log()) if each["level"] == "error"]
    assert said == [
        "no metrics are exported: OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf is spoken",
        "no traces are exported: OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf is spoken",
        "traces are sampled as by default: OTEL_TRACES_SAMPLER=sometimes: expected one of always_off, always_on, "
        "parentbased_always_off, parentbased_always_on, parentbased_traceidratio, traceidratio",
    ]
