"""Webhooks: events reach each endpoint that wants them, signed, whatever the other endpoints do."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis as redis_py
from standardwebhooks.webhooks import Webhook

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import WEBHOOK_QUEUE
from tests.conftest import S3Bucket
from tests.service.commands import run_command
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.webhook_receiver import SECRET, endpoint, receiver
from tests.services.process import free_port

OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
MEDIA_ID = "01M88C0SJ305C5J3D3BYCKGCA5"
PRIVATE_ID = str(new_media_id(JPEG, 1_764_540_000_000, private=True))
EVENTS = 40


def publish(client: redis_py.Redis, count: int, **more: Any) -> list[str]:
    """Publish events as the service does. Return their ids."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    pipeline = client.pipeline()
    for number, event_id in enumerate(ids):
        event = {"seq": number + 1, "event_id": event_id, "type": "media.failed", "media_id": MEDIA_ID} | more
        pipeline.xadd("media_events", {"event": json.dumps(event)})
    pipeline.execute()
    return ids


def count_of(service: Service, name: str, outcome: str) -> float:
    labels = f'avion_webhook_events_total{{outcome="{outcome}",webhook="{name}"}}'
    lines = service.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(labels))


def is_valid(service: Service) -> bool:
    return "avion_webhook_endpoints_valid 1.0" in service.metrics()


@contextmanager
def delivering(
    s3: S3Bucket, redis_url: str, path: Path, endpoints: list[dict[str, Any]], **settings: str
) -> Iterator[Service]:
    path.write_text(json.dumps(endpoints))
    environment = service_environment(
        redis_url,
        s3.address.endpoint_url,
        s3.bucket,
        WEBHOOKS__ENDPOINTS_FILE=str(path),
        REMOTE__BREAKER_PAUSE="1s",
        **settings,
    )
    with running(environment, roles="webhooks") as service, redis_py.Redis.from_url(redis_url) as client:
        eventually(lambda: client.exists("media_events") and client.xinfo_groups("media_events"), "the group")
        yield service


def test_the_healthy_endpoint_gets_all_whatever_the_others_do(s3: S3Bucket, redis_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        healthy, failing, redirecting, gone, hanging = (
            stack.enter_context(each)
            for each in (receiver(), receiver(500), receiver(302), receiver(410), receiver(hangs=True))
        )
        client = stack.enter_context(redis_py.Redis.from_url(redis_url, decode_responses=True))
        endpoints = [
            endpoint("healthy", healthy.url, secrets=[SECRET, OTHER_SECRET]),
            endpoint("failing", failing.url),
            endpoint("redirecting", redirecting.url),
            endpoint("gone", gone.url),
            endpoint("hanging", hanging.url),
            endpoint("nobody", f"http://127.0.0.1:{free_port()}/"),
            endpoint("public", healthy.url.replace("127.0.0.1", "localhost"), internal=False),
            endpoint("others", healthy.url, events=["media.deleted"]),
        ]
        service = stack.enter_context(delivering(s3, redis_url, tmp_path / "endpoints.json", endpoints))
        ids = publish(client, EVENTS)
        eventually(lambda: set(healthy.ids) >= set(ids), "all events at the healthy endpoint")
        for secret in (SECRET, OTHER_SECRET):
            for headers, body in healthy.requests:
                sent = Webhook(secret).verify(body, headers)
                assert sent.keys() == {"type", "timestamp", "data"}
                assert (sent["type"], sent["data"]["event_id"]) == ("media.failed", headers["webhook-id"])
        assert sorted(healthy.ids) == sorted(ids)  # each once: not those of `public`, whose address is refused
        eventually(lambda: failing.requests and redirecting.requests and hanging.requests, "the others' requests")
        assert len(hanging.requests) <= 4  # one that hangs has few of the slots
        eventually(lambda: count_of(service, "gone", "dropped_stopped") + len(gone.requests) >= EVENTS, "the drops")
        assert len(gone.requests) <= 8
        assert not count_of(service, "public", "delivered")
        eventually(lambda: count_of(service, "public", "failed"), "the refused address")
        # Its entry changes: it is asked again.
        before = len(gone.requests)
        gone.status = 200
        endpoints[3] = endpoint("gone", gone.url, secrets=[OTHER_SECRET])
        (tmp_path / "endpoints.json").write_text(json.dumps(endpoints))
        eventually(lambda: publish(client, 1) and len(gone.requests) > before, "an event")
        failed = failing.requests[0][0]
        failing.status = 200
        eventually(lambda: failing.ids.count(failed["webhook-id"]) > 1, "another attempt, with the same id")
        log = service.log()
    assert "webhook.stopped" in log
    assert not [each for each in ("hunter2", SECRET, OTHER_SECRET, ids[0]) if each in log]


def test_private_events_a_bad_file_and_too_many_events(s3: S3Bucket, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    with receiver() as one, receiver() as other, redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        endpoints = [endpoint("one", one.url), endpoint("other", other.url, private=True)]
        with delivering(s3, redis_url, path, endpoints, WEBHOOKS__MAX_WAITING="100") as service:
            (private,) = publish(client, 1, media_id=PRIVATE_ID)
            (public,) = publish(client, 1)
            eventually(lambda: set(other.ids) == {private, public}, "both events")
            eventually(lambda: one.ids == [public], "the public one")
            path.write_text('[{"name": "one", "secrets": ["hunter2"]}]')
            eventually(lambda: not is_valid(service), "the error in the file")
            (third,) = publish(client, 1)
            eventually(lambda: third in one.ids and third in other.ids, "an event while the old file is in force")
            path.write_text(json.dumps(endpoints[:1]))
            eventually(lambda: is_valid(service), "the new file")
            run_command("queues", "pause", WEBHOOK_QUEUE, environment=service.environment)
            ids = publish(client, 130)
            eventually(lambda: count_of(service, "one", "dropped_overflow") == 30, "the oldest to be dropped")
            run_command("queues", "resume", WEBHOOK_QUEUE, environment=service.environment)
            eventually(lambda: len(one.requests) >= 102, "the rest")
            assert set(one.ids) == {public, third, *ids[30:]}
            assert "hunter2" not in service.log()


def test_the_command_sends_a_signed_event_to_each_endpoint(s3: S3Bucket, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    with receiver() as good, receiver(500) as bad:
        path.write_text(json.dumps([endpoint("good", good.url), endpoint("bad", bad.url)]))
        environment = service_environment(
            redis_url, s3.address.endpoint_url, s3.bucket, WEBHOOKS__ENDPOINTS_FILE=str(path)
        )
        assert "HTTP 204" in run_command("webhooks", "test", "good", environment=environment).stdout
        ended = run_command("webhooks", "test", environment=environment)
        assert (ended.returncode, "not delivered: bad" in ended.stderr) == (1, True)
        ((headers, body), _) = good.requests
        assert Webhook(SECRET).verify(body, headers)["type"] == "webhook.test"
