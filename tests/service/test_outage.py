"""Redis or the store unavailable, and processes killed in the middle: said to callers, survived, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import (
    DurableRedis,
    StoreGateway,
    fork_server_pids,
    frozen_decoders,
    incarnations,
)
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.service.published import entries, events_of, key_of, keys_of, retry_delay_s, unfinished

QUEUE = "media_processing_queue"


@pytest.fixture
def picture(data_directory: Path) -> bytes:
    """A JPEG."""
    return (data_directory / "jpeg-orientation-6.jpg").read_bytes()


def environment(redis_url: str, bucket: S3Bucket, **settings: str) -> dict[str, str]:
    return service_environment(
        redis_url,
        settings.pop("S3__ENDPOINT_URL", bucket.address.endpoint_url),
        bucket.bucket,
        **{
            "S3__PUBLIC_ENDPOINT_URL": bucket.address.endpoint_url,
            "S3__TIMEOUT": "2s",
            "REDIS__TIMEOUT": "1s",
            "TASKS__CLAIM_AFTER": "1s",
            **settings,
        },
    )


def uploaded(service: Service, body: bytes) -> str:
    """An upload that was not completed yet; its id."""
    granted = service.request_upload("cat.jpg", "image/jpeg", len(body))
    assert service.put(granted, body).status_code == 200
    return granted.media_id


def check_unavailable(call: Callable[[], Any]) -> None:
    """The call says UNAVAILABLE, and when to try again."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert 0 < retry_delay_s(caught.value) < 60


def dependencies(service: Service) -> dict[str, str]:
    """What /readyz says of them."""
    report = service.readiness()
    assert report is not None
    found: dict[str, str] = report["dependencies"]
    return found


def is_ready(service: Service, media_id: str) -> bool:
    """Whether it is; not, while nobody can tell."""
    try:
        return service.status(media_id).state == wire.MediaStatus.READY
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def is_whole(bucket: S3Bucket, media_id: str) -> bool:
    """Whether the original and its thumbnails are there, and the upload is gone."""
    return len(keys_of(bucket, media_id)) == 5 and f"incoming/{media_id}" not in keys_of(bucket, media_id)


def test_the_redis_for_statuses_is_named(durable: DurableRedis, redis_url: str, bucket: S3Bucket) -> None:
    with redis.Redis.from_url(durable.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with running(environment(redis_url, bucket, STATUS__REDIS_URL=durable.url)) as service:
        evicts = "for statuses: Redis may evict keys: maxmemory-policy is allkeys-lru, should be noeviction"
        eventually(lambda: evicts in (service.ready() or {}).get("warnings", ()), "/readyz to warn")
        durable.kill()
        eventually(lambda: dependencies(service)["redis"] == "unavailable", "/readyz to tell")
        assert (service.readiness() or {})["reasons"]["redis"].startswith("for statuses: ")
        durable.start()
        eventually(lambda: dependencies(service)["redis"] == "up", "/readyz to tell that it is back")
        lines = json_lines(service.log())
    assert evicts in [line["warning"] for line in lines if line["event"] == "redis.not_durable"]
    assert "for statuses" in {
        line["detail"].partition(": ")[0] for line in lines if line["event"] == "redis.unavailable"
    }
    assert "redis.recovered" in {line["event"] for line in lines}


def test_redis_killed_and_restarted(durable: DurableRedis, bucket: S3Bucket, picture: bytes) -> None:
    with running(environment(durable.url, bucket)) as service:
        public = service.upload("cat.jpg", "image/jpeg", picture)
        waiting = uploaded(service, picture)
        under_way = [uploaded(service, picture) for _ in range(4)]
        before = incarnations(service)
        with frozen_decoders(service):
            for media_id in under_way:
                service.complete(media_id)
            with redis.Redis.from_url(durable.url) as client:
                eventually(lambda: client.xpending(QUEUE, "media_workers")["pending"] == 2, "two tasks in hand")
            durable.kill()
        for call in (
            lambda: service.complete(waiting),
            lambda: service.status(public.media_id),
            lambda: service.watch(waiting),
            lambda: service.cache("https://example.org/cat.jpg"),
        ):
            check_unavailable(call)
        assert service.request_upload("cat.jpg", "image/jpeg", 100).media_id  # needs no Redis
        assert service.get(f"/media/{public.media_id}").status_code == 200  # nor does this
        eventually(lambda: dependencies(service)["redis"] == "unavailable", "/readyz to tell")
        durable.start()
        eventually(lambda: dependencies(service)["redis"] == "up", "/readyz to tell the end")
        for media_id in under_way:
            eventually(partial(is_ready, service, media_id), "every task to be done")
        service.complete(waiting)
        assert service.watch(waiting)[-1].state == wire.MediaStatus.READY
        assert incarnations(service) == before
        with redis.Redis.from_url(durable.url, decode_responses=True) as client:
            eventually(lambda: not unfinished(client), "the queues to be empty")


def test_the_store_cut_off_and_restored(
    redis_url: str, gateway: StoreGateway, bucket: S3Bucket, picture: bytes
) -> None:
    settings = environment(redis_url, bucket, S3__ENDPOINT_URL=gateway.url)
    with running(settings) as service, redis.Redis.from_url(redis_url, decode_responses=True) as client:
        public = service.upload("cat.jpg", "image/jpeg", picture)
        waiting = uploaded(service, picture)
        under_way = [uploaded(service, picture) for _ in range(4)]
        before = incarnations(service)
        with frozen_decoders(service):
            for media_id in under_way:
                service.complete(media_id)
            eventually(lambda: client.xpending(QUEUE, "media_workers")["pending"] == 2, "two tasks in hand")
            gateway.cut()
        check_unavailable(lambda: service.complete(waiting))
        client.delete(key_of("media_status", public.media_id))
        check_unavailable(lambda: service.status(public.media_id))
        for owner in ("", "alice"):
            assert service.request_upload("cat.jpg", "image/jpeg", 100, owner=owner).media_id  # needs no store
        for path in (f"/media/{public.media_id}", *public.thumbnails.values()):
            response = service.get(path)
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert service.get(f"/media/{public.media_id}", Range="bytes=0-1").status_code == 503
        eventually(lambda: dependencies(service)["store"] == "unavailable", "/readyz to tell")
        gateway.restore()
        eventually(lambda: dependencies(service)["store"] == "up", "/readyz to tell the end")
        for media_id in under_way:
            eventually(partial(is_ready, service, media_id), "every task to be done")
        service.complete(waiting)
        assert service.watch(waiting)[-1].state == wire.MediaStatus.READY
        assert service.get(f"/media/{public.media_id}").status_code == 200
        assert incarnations(service) == before
        eventually(lambda: not unfinished(client), "the queues to be empty")
        for media_id in (*under_way, waiting):
            eventually(partial(is_whole, bucket, media_id), "incoming/ to be empty")


def test_a_redis_that_lost_everything_is_used_again(redis_url: str, bucket: S3Bucket, picture: bytes) -> None:
    with running(environment(redis_url, bucket)) as service, redis.Redis.from_url(redis_url) as client:
        public = service.upload("cat.jpg", "image/jpeg", picture)
        deleted = service.upload("cat.jpg", "image/jpeg", picture).media_id
        assert service.run_cli("delete", deleted).returncode == 0
        eventually(lambda: journaled(bucket, deleted), "the deletion in the journal")
        before = incarnations(service)
        client.flushall()
        assert service.get(f"/media/{deleted}").status_code in (410, 503)  # at once, and never 200
        eventually(lambda: service.get(f"/media/{deleted}").status_code != 503, "the journal to be replayed")
        assert service.get(f"/media/{deleted}").status_code == 410
        assert service.status(deleted).state == wire.MediaStatus.DELETED
        assert service.status(public.media_id) == public
        assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
        assert incarnations(service) == before
        for key in journal_of(bucket):  # else the next service on this bucket restores it
            bucket.client.delete_object(Bucket=bucket.bucket, Key=key)


def journal_of(bucket: S3Bucket) -> list[str]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="journal/deletions/")
    return [each["Key"] for each in listed.get("Contents", [])]


def journaled(bucket: S3Bucket, media_id: str) -> bool:
    bodies = [bucket.client.get_object(Bucket=bucket.bucket, Key=key)["Body"].read() for key in journal_of(bucket)]
    return any(media_id.encode() in body for body in bodies)


def _in_hand(service: Service, client: redis.Redis, of: int) -> bool:
    """Whether a process has begun so many tasks."""
    rows: Any = client.xpending_range(QUEUE, "media_workers", "-", "+", 10)
    mine = [row for row in rows if f"-{service.process.pid}-" in row["consumer"]]
    return sum(int(row["times_delivered"]) for row in mine) >= of  # 0: it waits until it runs alone


def test_what_a_killed_process_had_in_hand_is_done_by_another(redis_url: str, bucket: S3Bucket, picture: bytes) -> None:
    first = environment(redis_url, bucket)
    second = environment(redis_url, bucket)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, ExitStack() as others:
        with running(first) as victim:
            (fork_server,) = fork_server_pids(victim)
            media_ids = [uploaded(victim, picture) for _ in range(2)]
            with frozen_decoders(victim):
                for media_id in media_ids:
                    victim.complete(media_id)
                eventually(lambda: _in_hand(victim, client, 2), "both tasks in hand")
                heir = others.enter_context(running(second))
                assert _in_hand(victim, client, 2)  # its leases are renewed: nobody takes them from the living
                victim.process.kill()
                victim.process.wait(30)
        eventually(lambda: not Path(f"/proc/{fork_server}").exists(), "its decoders to end with it")
        for media_id in media_ids:
            assert heir.watch(media_id)[-1].state == wire.MediaStatus.READY
            assert [event["type"] for event in events_of(client, media_id)] == ["media.ready"]
            eventually(partial(is_whole, bucket, media_id), "incoming/ to be empty")
        eventually(lambda: not unfinished(client), "the queues to be empty")


def test_a_task_that_kills_three_processes_is_poison(redis_url: str, bucket: S3Bucket, picture: bytes) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        media_id = ""
        for _ in range(3):
            with (
                running(environment(redis_url, bucket), roles="grpc,processing") as service,
                frozen_decoders(service),
            ):
                if not media_id:
                    media_id = uploaded(service, picture)
                    service.complete(media_id)
                eventually(partial(_in_hand, service, client, 1), "the task in hand")
                service.process.kill()
                service.process.wait(30)
        with running(environment(redis_url, bucket)) as service:
            status = service.watch(media_id)[-1]
            assert (status.state, status.reason, status.retryable) == (wire.MediaStatus.FAILED, "poison", True)
            (event,) = events_of(client, media_id)
            assert (event["type"], event["reason"]) == ("media.failed", "poison")
            eventually(lambda: client.xlen(f"{{{QUEUE}}}:dlq"), "the dead letter")
            (dead_letter,) = entries(client, f"{{{QUEUE}}}:dlq")
            assert dead_letter["media_id"] == media_id
            assert dead_letter["error"].startswith("poison")
            eventually(lambda: not client.xlen(QUEUE), "the queue to be empty")
            assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
            assert keys_of(bucket, media_id) == {f"incoming/{media_id}"}  # what a replay needs
            assert service.run_cli("dlq", "replay", "--all").returncode == 0
            eventually(partial(is_ready, service, media_id), "the replayed task to be done")
            eventually(partial(is_whole, bucket, media_id), "incoming/ to be empty")
