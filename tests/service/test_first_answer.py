"""A replica is ready once Redis and the bucket have answered for the first time: a wrong password stops a rollout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from avion_media.common.keys import REMOTE_SECRET
from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.remote_ids import put_remote_key
from tests.service.faults import DurableRedis, StoreGateway, incarnations
from tests.service.harness import Service, eventually, json_lines, running, service_environment

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def environment(redis_url: str, bucket: S3Bucket, **settings: str) -> dict[str, str]:
    endpoint, name = settings.pop("S3__ENDPOINT_URL", bucket.address.endpoint_url), settings.pop("S3__BUCKET", "")
    public = {"S3__PUBLIC_ENDPOINT_URL": bucket.address.endpoint_url}
    return service_environment(
        redis_url, endpoint, name or bucket.bucket, **public, S3__TIMEOUT="2s", REDIS__TIMEOUT="1s", **settings
    )


def with_password(url: str, password: str) -> str:
    return url.replace("redis://", f"redis://:{password}@")


def waits_for(dependency: str, service: Service) -> dict[str, Any] | None:
    """The report of a service that runs as a whole but for the first answer of this dependency."""
    report = service.readiness()
    if report is None or report["down"] or report["dependencies"].get(dependency) != "never_answered":
        return None
    others_answer = all(state == "up" for name, state in report["dependencies"].items() if name != dependency)
    return report if others_answer and dependency in report["reasons"] else None


def health(service: Service) -> list[Any]:
    """Of the server, and of its service."""
    with grpc.insecure_channel(service.grpc_address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        names = ("", "avion.MediaService")
        return [check(health_pb2.HealthCheckRequest(service=name), timeout=10).status for name in names]


def check_unready(service: Service, dependency: str, reason: str) -> None:
    """503, NOT_SERVING, and the same reason in ``/readyz`` and the log, where it is a warning."""
    report = eventually(partial(waits_for, dependency, service), f"{dependency} to be waited for")
    assert (report["ready"], service.ready(), report["phase"]) == (False, None, "STARTING")
    assert reason in report["reasons"][dependency]
    assert health(service) == [NOT_SERVING, NOT_SERVING]
    lines = [line for line in json_lines(service.log()) if line["event"] == f"{dependency}.unavailable"]
    assert reason in lines[0]["detail"]
    assert {(line["level"], line["never_answered"]) for line in lines} == {("warning", True)}


def test_a_wrong_redis_password(durable: DurableRedis, bucket: S3Bucket) -> None:
    with redis.Redis.from_url(durable.url) as client:
        client.config_set("requirepass", "right")
    settings = environment(with_password(durable.url, "wrong"), bucket)
    with running(settings, until=partial(waits_for, "redis")) as service:
        check_unready(service, "redis", "it refuses the user or the password in its URL")
        before = incarnations(service)
        with redis.Redis.from_url(with_password(durable.url, "right")) as client:
            client.execute_command("ACL", "SETUSER", "default", ">wrong")
        eventually(service.ready, "the service to be ready")
        assert health(service) == [SERVING, SERVING]
        assert incarnations(service) == before
        assert "redis.recovered" in {line["event"] for line in json_lines(service.log())}


def test_a_redis_password_that_is_not_given(durable: DurableRedis, bucket: S3Bucket) -> None:
    with redis.Redis.from_url(durable.url) as client:
        client.config_set("requirepass", "right")
    with running(environment(durable.url, bucket), until=partial(waits_for, "redis")) as service:
        check_unready(service, "redis", "it requires a password, and its URL has none")


def test_a_wrong_key_of_the_store(redis_url: str, bucket: S3Bucket) -> None:
    settings = environment(redis_url, bucket) | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with running(settings, until=partial(waits_for, "store")) as service:
        check_unready(service, "store", "it refuses the credentials")


def test_a_missing_bucket_also_while_calls_find_no_object_in_it(redis_url: str, bucket: S3Bucket) -> None:
    """To a HEAD the store answers 404 in either case; that is no answer of the bucket."""
    missing = f"{bucket.bucket}-later"
    settings = environment(redis_url, bucket, S3__BUCKET=missing)
    with running(settings, until=partial(waits_for, "store")) as service:
        media_id = service.request_upload("cat.jpg", "image/jpeg", 100).media_id
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                service.complete(media_id)
        check_unready(service, "store", "run avion-media init")
        bucket.client.create_bucket(Bucket=missing)
        put_remote_key(bucket.client, missing)
        try:
            eventually(service.ready, "the service to be ready")
            assert health(service) == [SERVING, SERVING]
        finally:
            bucket.client.delete_object(Bucket=missing, Key=REMOTE_SECRET)
            bucket.client.delete_bucket(Bucket=missing)


def test_a_service_that_has_never_reached_either_recovers_by_itself(
    durable: DurableRedis, gateway: StoreGateway, bucket: S3Bucket, data_directory: Path
) -> None:
    durable.kill()
    gateway.cut()
    settings = environment(durable.url, bucket, S3__ENDPOINT_URL=gateway.url)

    def waits(service: Service) -> bool:
        report = service.readiness()
        return report is not None and not report["down"] and len(report["reasons"]) == 2

    with running(settings, until=waits) as service:
        before = incarnations(service)
        report = service.readiness()
        assert report is not None
        assert report["dependencies"] == {"redis": "never_answered", "store": "never_answered"}
        durable.start()
        gateway.restore()
        report = eventually(service.ready, "the service to be ready")
        assert (report["dependencies"], report["reasons"]) == ({"redis": "up", "store": "up"}, {})
        picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
        assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
        assert incarnations(service) == before


def test_after_the_first_answer_an_outage_is_a_state_also_when_the_node_is_restarted(
    durable: DurableRedis, gateway: StoreGateway, bucket: S3Bucket
) -> None:
    settings = environment(durable.url, bucket, S3__ENDPOINT_URL=gateway.url, CHAOS__ENABLED="true")
    with running(settings) as service:
        durable.kill()
        gateway.cut()
        state = {"redis": "unavailable", "store": "unavailable"}
        eventually(lambda: (service.ready() or {}).get("dependencies") == state, "ready, and both unavailable")
        assert health(service) == [SERVING, SERVING]
        before = incarnations(service)
        killed = httpx.post(
            f"{service.admin_url}/chaos/kill?path=foundation/store", trust_env=False, verify=False, timeout=30
        )
        assert killed.json()["killed"]
        eventually(lambda: incarnations(service) != before and service.ready(), "it to be ready again")
        report = service.ready()
        assert report is not None
        assert report["dependencies"] == state


def test_a_role_that_needs_no_store_does_not_wait_for_one(redis_url: str, bucket: S3Bucket) -> None:
    with running(environment(redis_url, bucket, S3__ENDPOINT_URL="http://127.0.0.1:1"), roles="events") as service:
        report = service.ready()
        assert report is not None
        assert report["dependencies"] == {"redis": "up", "store": "unavailable"}


def test_the_log_names_an_outage_once_and_its_end(durable: DurableRedis, bucket: S3Bucket) -> None:
    with running(environment(durable.url, bucket), roles="events") as service:
        durable.kill()
        eventually(lambda: "redis.unavailable" in service.log(), "the outage to be logged")
        durable.start()
        eventually(lambda: "redis.recovered" in service.log(), "its end to be logged")
        lines = [line for line in json_lines(service.log()) if line["event"].startswith("redis.")]
        names = [line["event"] for line in lines if line["event"] != "redis.not_durable"]
        assert (names[0], names[-1], len(names)) == ("redis.unavailable", "redis.recovered", 2)
