"""SIGTERM while calls and tasks run: refuse new ones, then finish or release these, exit 0."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import StoreGateway, frozen_decoders, nodes
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.service.published import events_of, keys_of, unfinished

QUEUE = "media_processing_queue"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Of the service's Redis."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def uploaded(service: Service, body: bytes) -> str:
    """An upload that was not completed yet; its id."""
    granted = service.request_upload("cat.jpg", "image/jpeg", len(body))
    assert service.put(granted, body).status_code == 200
    return granted.media_id


def in_hand(client: redis.Redis, service: Service) -> list[str]:
    """Ids of the entries that this process holds."""
    rows: Any = client.xpending_range(QUEUE, "media_workers", "-", "+", 10)
    return [row["message_id"] for row in rows if f"-{service.process.pid}-" in row["consumer"]]


def phase(service: Service) -> tuple[int, str]:
    """The status of /readyz and the phase it tells."""
    response = httpx.get(f"{service.admin_url}/readyz", trust_env=False, verify=False, timeout=5)
    return response.status_code, response.json()["phase"]


def in_phase(service: Service, expected: str) -> bool:
    return phase(service) == (503, expected)


@pytest.fixture(autouse=True)
def no_lost_uploads(bucket: S3Bucket) -> None:
    """A test leaves an upload whose task hung; the sweep of the next one, on an empty Redis, would queue it again."""
    for each in bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="incoming/").get("Contents", []):
        bucket.client.delete_object(Bucket=bucket.bucket, Key=each["Key"])


@contextmanager
def writes_held(client: redis.Redis) -> Iterator[None]:
    """Redis answers no write until the end of the block."""
    client.client_pause(60_000, all=False)
    try:
        yield
    finally:
        client.client_unpause()


def test_away_first_then_everything_under_way_ends(
    redis_url: str, client: redis.Redis, bucket: S3Bucket, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    settings = service_environment(
        redis_url,
        bucket.address.endpoint_url,
        bucket.bucket,
        DRAIN__SETTLE="5s",
        DRAIN__GRACE="15s",
        REDIS__TIMEOUT="20s",
    )
    with running(settings) as service, ThreadPoolExecutor(1) as threads:
        public = service.upload("cat.jpg", "image/jpeg", picture)
        working, completing = uploaded(service, picture), uploaded(service, picture)
        with grpc.insecure_channel(service.grpc_address) as channel, frozen_decoders(service):
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(health).status == SERVING
            service.complete(working)
            eventually(lambda: in_hand(client, service), "the task in hand")
            service.process.send_signal(signal.SIGTERM)
            # Not ready, and serving all the same.
            assert next(health).status == NOT_SERVING
            assert phase(service) == (503, "LAME_DUCK")
            assert service.request_upload("cat.jpg", "image/jpeg", 100).media_id
            assert service.get(f"/media/{public.media_id}").status_code == 200
            assert service.status(completing).state == wire.MediaStatus.PENDING_UPLOAD
            with writes_held(client):
                call = threads.submit(service.complete, completing)
                eventually(partial(in_phase, service, "DRAINING"), "the drain")
                assert not call.done()
                check_refused(service)
            call.result(timeout=20)  # what was under way got its answer
            assert service.process.poll() is None  # the task is waited for
        assert service.process.wait(30) == 0
    assert len(keys_of(bucket, working)) == 5  # and was done
    # What was completed during the drain is left to others.
    assert unfinished(client) == {QUEUE: 1}
    with running(settings | service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket)) as heir:
        assert heir.watch(completing)[-1].state == wire.MediaStatus.READY


def check_refused(service: Service) -> None:
    """Nobody new gets in, as soon as the ports know of the drain."""
    eventually(lambda: _is_refused(service), "the ports to close")


def _is_refused(service: Service) -> bool:
    with grpc.insecure_channel(service.grpc_address) as newcomer:
        try:
            health_pb2_grpc.HealthStub(newcomer).Check(health_pb2.HealthCheckRequest(), timeout=30)
        except grpc.RpcError as error:
            is_refused = error.code() is grpc.StatusCode.UNAVAILABLE
        else:
            is_refused = False
    with suppress(httpx.ConnectError):
        service.get("/")
        return False
    return is_refused


def stalled_service(redis_url: str, bucket: S3Bucket, gateway: StoreGateway, **settings: str) -> dict[str, str]:
    """Settings of a service whose downloads can be made to hang."""
    return service_environment(
        redis_url,
        gateway.url,
        bucket.bucket,
        S3__PUBLIC_ENDPOINT_URL=bucket.address.endpoint_url,
        S3__TIMEOUT="60s",
        **settings,
    )


def start_hanging_task(service: Service, gateway: StoreGateway, client: redis.Redis, body: bytes) -> str:
    """A task whose download hangs; its medium."""
    gateway.stall_after(100_000)
    media_id = uploaded(service, body)
    service.complete(media_id)
    gateway.wait_held()
    assert len(in_hand(client, service)) == 1
    return media_id


def test_a_task_that_does_not_fit_is_released_and_costs_no_attempt(
    redis_url: str, client: redis.Redis, bucket: S3Bucket, gateway: StoreGateway, data_directory: Path
) -> None:
    large = (data_directory / "jpeg-dog-12mp-6.jpg").read_bytes()
    settings = stalled_service(redis_url, bucket, gateway, DRAIN__GRACE="300ms", TASKS__MAX_ATTEMPTS="1")
    with running(settings) as service:
        media_id = start_hanging_task(service, gateway, client, large)
        assert service.stop() == 0
    assert client.xpending(QUEUE, "media_workers")["pending"] == 0
    assert client.xlen(QUEUE) == 1
    gateway.restore()
    with running(settings | service_environment(redis_url, gateway.url, bucket.bucket)) as heir:
        # At once: long before TASKS__CLAIM_AFTER, which is a minute here.
        assert heir.watch(media_id, timeout_s=40)[-1].state == wire.MediaStatus.READY
        eventually(lambda: _ended(heir, media_id), "its end in the log")
        (ended,) = _ended(heir, media_id)
        assert (ended["attempt"], ended["outcome"]) == (1, "done")
        assert [event["type"] for event in events_of(client, media_id)] == ["media.ready"]
    assert unfinished(client) == {}


def _ended(service: Service, media_id: str) -> list[dict[str, Any]]:
    return [
        line for line in json_lines(service.log()) if line["event"] == "task.ended" and line["media_id"] == media_id
    ]


def test_each_further_signal_skips_a_phase(
    redis_url: str, client: redis.Redis, bucket: S3Bucket, gateway: StoreGateway, data_directory: Path
) -> None:
    large = (data_directory / "jpeg-dog-12mp-6.jpg").read_bytes()
    settings = stalled_service(
        redis_url,
        bucket,
        gateway,
        DRAIN__SETTLE="100s",
        DRAIN__GRACE="100s",
        DRAIN__TERMINATION_GRACE_PERIOD="300s",
    )
    with running(settings) as service:
        start_hanging_task(service, gateway, client, large)
        service.process.send_signal(signal.SIGTERM)
        eventually(partial(in_phase, service, "LAME_DUCK"), "the first phase")
        service.process.send_signal(signal.SIGTERM)
        eventually(partial(in_phase, service, "DRAINING"), "the second phase")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
        phases = [line["phase"] for line in json_lines(service.log()) if line["event"] == "phase"]
        assert phases == ["READY", "LAME_DUCK", "DRAINING", "STOPPING", "DONE"]
    assert client.hlen("media_replicas") == 0  # nobody takes it for a replica that hangs
    assert client.xpending(QUEUE, "media_workers")["pending"] == 0
    assert client.xlen(QUEUE) == 1


@pytest.mark.parametrize("node", ["grpc", "origin"])
def test_a_port_that_crashes_during_the_drain_stays_closed(
    redis_url: str, client: redis.Redis, bucket: S3Bucket, gateway: StoreGateway, data_directory: Path, node: str
) -> None:
    """It comes back for the rest of the tree, but nobody would tell its clients to go."""
    large = (data_directory / "jpeg-dog-12mp-6.jpg").read_bytes()
    settings = stalled_service(redis_url, bucket, gateway, DRAIN__GRACE="20s", CHAOS__ENABLED="true")
    with running(settings) as service:
        start_hanging_task(service, gateway, client, large)  # the drain waits for it
        service.process.send_signal(signal.SIGTERM)
        eventually(partial(in_phase, service, "DRAINING"), "the drain")
        check_refused(service)
        kill = f"{service.admin_url}/chaos/kill?path=service/{node}"
        assert httpx.post(kill, trust_env=False, verify=False, timeout=30).is_success
        eventually(lambda: _runs_again(service, f"service/{node}"), "the node to be back")
        assert in_phase(service, "DRAINING")
        check_refused(service)
        gateway.restore()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0


def _runs_again(service: Service, path: str) -> bool:
    node = nodes(service)[path]
    return (node["state"], node["restarts"]) == ("running", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it(redis_url: str, bucket: S3Bucket, number: signal.Signals) -> None:
    settings = service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket, DRAIN__SETTLE="100s")
    settings["AVION_MEDIA_DRAIN__TERMINATION_GRACE_PERIOD"] = "300s"

    def is_up(service: Service) -> bool:
        try:
            return httpx.get(f"{service.admin_url}/livez", trust_env=False, verify=False, timeout=5).is_success
        except httpx.TransportError:
            return False

    with running(settings, until=is_up) as service:
        ready = service.ready()
        service.process.send_signal(number)
        if ready:  # this machine was faster than us: then it settles
            service.process.send_signal(number)
        assert service.process.wait(30) == 0
        assert "Traceback" not in service.log()
