"""Redis reaches its `maxmemory` between uploads: accepted ones become READY nevertheless, and new ones are refused.

``AVION_FULL_UPLOADS`` is the number of uploads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import redis
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import DurableRedis
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.service.published import retry_delay_s, unfinished

UPLOADS = int(os.environ.get("AVION_FULL_UPLOADS", "16"))


def complete(service: Service, media_id: str) -> grpc.RpcError | None:
    """Complete an upload, or return why not."""
    try:
        service.complete(media_id)
    except grpc.RpcError as error:
        return error
    return None


def reason_of(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert any(each.Unpack(info) for each in status.details)
    return str(info.reason)


def warns_of_memory(service: Service) -> bool:
    warnings = (service.readiness() or {}).get("warnings", [])
    return "redis.full" in service.log() and any("at 100% it refuses new work" in each for each in warnings)


def test_a_full_redis_ends_what_it_has_accepted(durable: DurableRedis, bucket: S3Bucket, data_directory: Path) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    environment = service_environment(
        durable.url, bucket.address.endpoint_url, bucket.bucket, TASKS__CLAIM_AFTER="1s", SWEEP__INTERVAL="1h"
    )
    with redis.Redis.from_url(durable.url, decode_responses=True) as client:
        with running(environment) as service:

            def upload(number: int) -> str:
                granted = service.request_upload("cat.jpg", "image/jpeg", len(picture), owner=f"o{number % 7}")
                assert service.put(granted, picture).status_code == 200
                return granted.media_id

            with ThreadPoolExecutor(4) as threads:
                media_ids = list(threads.map(upload, range(UPLOADS)))
            accepted, late = media_ids[: UPLOADS // 2], media_ids[UPLOADS // 2 :]
            for media_id in accepted:
                service.complete(media_id)
            client.config_set("maxmemory", 1)
            refused = [error for each in late if (error := complete(service, each)) is not None]
            assert len(refused) == len(late)
            assert {(each.code(), reason_of(each)) for each in refused} == {(grpc.StatusCode.UNAVAILABLE, "REDIS_FULL")}
            assert all(0 < retry_delay_s(each) < 60 for each in refused)
            assert unfinished(client)
            eventually(lambda: warns_of_memory(service), "the full Redis to be noticed")
            service.process.kill()
        with running(environment) as service:  # starts on a full Redis, and takes the tasks over
            for media_id in accepted:
                assert service.watch(media_id)[-1].state == wire.MediaStatus.READY
            eventually(lambda: not unfinished(client), "a full Redis to have empty queues")
            assert "failed   redis  has memory left" in service.run_cli("doctor", "redis").stdout
            client.config_set("maxmemory", 0)
            for media_id in late:
                service.complete(media_id)
            for media_id in late:
                assert service.watch(media_id)[-1].state == wire.MediaStatus.READY
            eventually(lambda: not unfinished(client), "the queues to be empty")
            assert "redis.unavailable" not in {line["event"] for line in json_lines(service.log())}
