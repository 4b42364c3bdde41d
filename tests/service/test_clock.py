"""The wall clock of a replica is set by an hour, forward and back, while it works."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import frozen_decoders, incarnations
from tests.service.harness import eventually, json_lines, running, service_environment
from tests.service.published import events_of, unfinished
from tests.service.shifted_clock import ShiftedClock

HOUR_S = 3600
QUEUE = "media_processing_queue"
TROUBLE = {"store.unavailable", "redis.unavailable", "supervision.failed", "sweep.failed"}


def test_work_goes_on_when_the_clock_jumps(
    redis_url: str, bucket: S3Bucket, data_directory: Path, tmp_path: Path
) -> None:
    """Also of a task in hand, of an upload that was not completed yet, and beside a sweep, which leaves it alone."""
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    clock = ShiftedClock(tmp_path)
    environment = service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket, SWEEP__INTERVAL="1s")
    environment |= clock.environment
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, running(environment) as service:
        before = incarnations(service)
        for shift_s in (HOUR_S, -HOUR_S):
            in_hand, waiting = (service.request_upload("cat.jpg", "image/jpeg", len(picture)) for _ in range(2))
            for granted in (in_hand, waiting):
                assert service.put(granted, picture).status_code == 200
            with frozen_decoders(service):
                service.complete(in_hand.media_id)
                eventually(partial(client.xpending_range, QUEUE, "media_workers", "-", "+", 1), "the task in hand")
                clock.set_ahead(shift_s)
            assert service.watch(in_hand.media_id)[-1].state == wire.MediaStatus.READY
            assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
            service.complete(waiting.media_id)
            assert service.watch(waiting.media_id)[-1].state == wire.MediaStatus.READY
            assert service.get(f"/media/{waiting.media_id}").status_code == 200
            assert [event["type"] for event in events_of(client, in_hand.media_id)] == ["media.ready"]
            eventually(lambda: not unfinished(client), "the queues to be empty")
        assert incarnations(service) == before
        assert not [line for line in json_lines(service.log()) if line["event"] in TROUBLE]
