"""A task whose first worker was killed: what is left of its trace, and what another replica adds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import frozen_decoders
from tests.service.harness import eventually, running
from tests.telemetry.collector import Collector, below, one
from tests.telemetry.traced import COMPLETE, PROCESS, REQUEST, SEND, environment, trace_of


def test_a_task_retried_by_another_replica_stays_in_its_trace(
    redis_of_process: str, bucket: S3Bucket, otlp: Collector, redis_client: redis.Redis, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    one_worker = {"TASKS__CLAIM_AFTER": "1s", "TASKS__SLOTS": "1"}
    with running(environment(redis_of_process, bucket, otlp, **one_worker), roles="grpc,processing") as first:
        granted = first.request_upload("cat.jpg", "image/jpeg", len(picture))
        first.put(granted, picture)
        with frozen_decoders(first):
            first.complete(granted.media_id)
            eventually(lambda: redis_client.xpending("media_processing_queue", "media_workers")["pending"], "the task")
            otlp.complete_trace(trace_of(granted.media_id), [REQUEST, COMPLETE, SEND])
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait(30)
    with running(environment(redis_of_process, bucket, otlp, **one_worker), roles="grpc,processing") as second:
        assert second.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
        trace = otlp.complete_trace(trace_of(granted.media_id), [PROCESS])
    process, send = one(trace, PROCESS), one(trace, SEND)
    assert process.parent_id == send.span_id
    assert (process.attributes["avion.task.attempt"], process.attributes["avion.task.deaths"]) == (2, 1)
    assert process.resource["service.instance.id"] != send.resource["service.instance.id"]
    assert "sandbox picture_job" in below(trace, process)
