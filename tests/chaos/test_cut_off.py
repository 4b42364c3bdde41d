"""One replica alone is cut off from Redis, in one direction: its commands arrive there, and no reply comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.chaos.random_proxy import Mode, Proxy, open_proxies
from tests.conftest import S3Bucket
from tests.service.faults import frozen_decoders, incarnations
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.service.published import events_of, unfinished

DRAINED_WITHIN_S = 3.0  # not one timeout of Redis for each node
QUEUE = "media_processing_queue"


@pytest.fixture
def proxy(redis_of_process: str) -> Iterator[Proxy]:
    """The only way of one replica to Redis."""
    with open_proxies(urlsplit(redis_of_process).port or 0) as (proxy,):
        yield proxy


def environment(redis_url: str, bucket: S3Bucket) -> dict[str, str]:
    return service_environment(
        redis_url,
        bucket.address.endpoint_url,
        bucket.bucket,
        TASKS__CLAIM_AFTER="1s",
        REDIS__TIMEOUT="2s",
    )


def in_hand(client: redis.Redis, service: Service) -> int:
    """How many attempts this process has begun."""
    rows: Any = client.xpending_range(QUEUE, "media_workers", "-", "+", 10)
    return sum(f"-{service.process.pid}-" in row["consumer"] for row in rows)


def test_a_replica_without_replies_of_redis_loses_its_tasks_to_others_and_recovers(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, picture: bytes, proxy: Proxy
) -> None:
    with ExitStack() as others, running(environment(f"redis://127.0.0.1:{proxy.port}/0", bucket)) as cut_off:
        before = incarnations(cut_off)
        media_ids = []
        with frozen_decoders(cut_off):
            for _ in range(2):
                granted = cut_off.request_upload("cat.jpg", "image/jpeg", len(picture))
                cut_off.put(granted, picture)
                cut_off.complete(granted.media_id)
                media_ids.append(granted.media_id)
            eventually(lambda: in_hand(redis_client, cut_off) == 2, "both tasks in hand")
            other = others.enter_context(running(environment(redis_of_process, bucket)))
            proxy.set_mode(Mode.LOSE_REPLIES)
            for media_id in media_ids:
                assert other.watch(media_id)[-1].state == wire.MediaStatus.READY
            with pytest.raises(grpc.RpcError) as caught:
                cut_off.status(media_ids[0])
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert other.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
        # Its own attempts end now, too, and must have no effect.
        proxy.set_mode(Mode.PASS)
        eventually(partial(is_back, cut_off, media_ids[0]), "Redis to be back")
        eventually(lambda: ended(cut_off) >= set(media_ids), "its attempts to end")
        assert cut_off.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
        for media_id in media_ids:
            assert [event["type"] for event in events_of(redis_client, media_id)] == ["media.ready"]
        eventually(lambda: not unfinished(redis_client), "the queues to be empty")
        assert incarnations(cut_off) == before
        # An idle replica has nothing to wait for.
        proxy.set_mode(Mode.LOSE_REPLIES)
        cut_off.process.send_signal(signal.SIGTERM)
        asked_at = time.monotonic()
        assert cut_off.process.wait(30) == 0
        assert time.monotonic() - asked_at < DRAINED_WITHIN_S


def ended(service: Service) -> set[str]:
    """The media whose attempts in this process have ended."""
    return {line["media_id"] for line in json_lines(service.log()) if line["event"] == "task.ended"}


def is_back(service: Service, media_id: str) -> bool:
    try:
        return service.status(media_id).state == wire.MediaStatus.READY
    except grpc.RpcError:
        return False
