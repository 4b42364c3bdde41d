"""An accepted upload outlives a weekend of backlog, an unavailable object, and its own dead letter."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from avion_media.backends.queue import QueueKeys
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import key_of, keys_of
from tests.services.process import free_port

DAY_S = 86_400.0
LIFE_S = 16 * DAY_S  # TASKS__MAX_AGE and two days
KEYS = QueueKeys(PROCESSING_QUEUE)
Client = Any  # redis-py's types allow for options that no test here uses


@pytest.fixture
def environment(s3: S3Bucket, redis_url: str) -> dict[str, str]:
    return service_environment(redis_url, s3.address.endpoint_url, s3.bucket)


@pytest.fixture
def client(redis_url: str) -> Any:
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def picture(data_directory: Path) -> bytes:
    return (data_directory / "jpeg-orientation-6.jpg").read_bytes()


def on_another_port(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "AVION_MEDIA_ADMIN__BIND": f"127.0.0.1:{free_port()}"}


def accepted(service: Service, body: bytes) -> str:
    """An upload that the service has accepted, and that no worker has taken."""
    granted = service.request_upload("cat.jpg", "image/jpeg", len(body))
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    return granted.media_id


def let_days_pass(client: Client, media_id: str, days: float) -> None:
    """As if the task had been queued so long ago. The status has as little time left as it would have then."""
    ((entry_id, fields),) = client.xrange(PROCESSING_QUEUE)
    client.xdel(PROCESSING_QUEUE, entry_id)
    client.xadd(PROCESSING_QUEUE, {**fields, "first_seen": f"{time.time() - days * DAY_S:.3f}"})
    left_s = client.ttl(key_of("media_status", media_id)) - days * DAY_S
    assert left_s > 0, "the status is forgotten by now"
    client.expire(key_of("media_status", media_id), round(left_s))


def status_life_s(client: Client, media_id: str) -> float:
    return float(client.ttl(key_of("media_status", media_id)))


def deny(s3: S3Bucket, media_id: str) -> None:
    resource = f"arn:aws:s3:::{s3.bucket}/incoming/{media_id}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    s3.client.put_bucket_policy(
        Bucket=s3.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


def delayed(client: Client) -> list[str]:
    return list(client.zrange(KEYS.delayed, 0, -1))


def test_a_weekend_of_backlog_and_an_unavailable_object_lose_nothing(
    environment: dict[str, str], s3: S3Bucket, client: Client, picture: bytes
) -> None:
    with running(environment, roles="grpc") as gateway:
        assert gateway.run_cli("init").returncode == 0
        media_id = accepted(gateway, picture)
        assert status_life_s(client, media_id) == pytest.approx(LIFE_S, abs=60)
        (rule,) = [
            each
            for each in s3.client.get_bucket_lifecycle_configuration(Bucket=s3.bucket)["Rules"]
            if each.get("Filter", {}).get("Prefix") == "incoming/" and "Expiration" in each
        ]
        assert rule["Expiration"]["Days"] * DAY_S == LIFE_S

        let_days_pass(client, media_id, 3)
        deny(s3, media_id)
        with running(on_another_port(environment), roles="processing"):
            eventually(partial(delayed, client), "the task to be put off")
            assert status_life_s(client, media_id) == pytest.approx(LIFE_S, abs=60)  # while its task exists
            assert gateway.status(media_id).state == wire.MediaStatus.PROCESSING
            s3.client.delete_bucket_policy(Bucket=s3.bucket)
            for member in delayed(client):
                client.zadd(KEYS.delayed, {member: 0}, xx=True)
            assert gateway.watch(media_id)[-1].state == wire.MediaStatus.READY
    assert client.xlen(KEYS.dead_letters) == 0


def test_a_task_that_is_too_old_fails_and_can_still_be_replayed(
    environment: dict[str, str], s3: S3Bucket, client: Client, picture: bytes
) -> None:
    with running(environment, roles="grpc") as gateway:
        media_id = accepted(gateway, picture)
        let_days_pass(client, media_id, 14.1)
        with running(on_another_port(environment), roles="processing"):
            status = gateway.watch(media_id)[-1]
            assert (status.state, status.reason, status.retryable) == (wire.MediaStatus.FAILED, "expired", True)
            ((entry_id, dead_letter),) = eventually(lambda: client.xrange(KEYS.dead_letters), "the dead letter")
            assert dead_letter["error"].startswith("expired: ")
            assert keys_of(s3, media_id) == {f"incoming/{media_id}"}

            assert gateway.run_cli("dlq", "replay", entry_id).returncode == 0
            eventually(lambda: gateway.status(media_id).state == wire.MediaStatus.READY, "the replayed task to be done")
