"""The live tree, and what its helpers' deaths do to it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.dying_decoder import FAILING, mark
from tests.service.faults import fork_server_pids, frozen_decoders, incarnations, nodes
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import unfinished

CONSUMER = ("renewer", "attempts", "reader", "janitor")
TREE = {
    "telemetry",
    "admin",
    "foundation",
    *(f"foundation/{name}" for name in ("redis", "store", "deletions", "sandbox")),
    "service",
    *(f"service/{queue}" for queue in ("processing", "cache", "delete")),
    *(f"service/{queue}/{name}" for queue in ("processing", "cache", "delete") for name in CONSUMER),
    "service/events",
    "service/sweeper",
    "service/moderation",
    "service/origin",
    "service/grpc",
    "readiness",
}


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    """A service with deadly pictures, whose tasks are tried again soon."""
    settings = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, TASKS__BACKOFF="50ms")
    with running(settings, program=(sys.executable, "-m", "tests.service.dying_decoder")) as service:
        yield service


def test_the_tree_has_every_node_of_the_design(service: Service) -> None:
    found = nodes(service)
    assert TREE - set(found) == set()
    (root,) = (node for node in found.values() if node["name"] == "avion-media")
    assert [child["name"] for child in root["children"]] == [
        "telemetry",
        "admin",
        "foundation",
        "service",
        "readiness",
    ]
    for path in TREE:
        node = found[path]
        assert node["state"] == "running", node
        assert (node["incarnation"], node["restarts"], node["last_failure"]) == (1, 0, None)
        assert node["uptime_s"] >= 0


def test_roles_leave_children_out_and_add_none(redis_url: str, bucket: S3Bucket) -> None:
    settings = service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket)
    with running(settings, roles="http,delete") as service:
        found = nodes(service)
        below = {path for path in found if path.startswith("service/")}
        own = {"service/moderation", "service/origin", "service/delete"}
        assert below == own | {f"service/delete/{name}" for name in CONSUMER}
        left_out = {path for path in TREE if path.startswith("service/") and path not in below}
        assert TREE - below - set(found) == left_out | {"foundation/sandbox"}  # nothing is decoded here


def restarted(service: Service, before: dict[str, int]) -> set[str]:
    """The nodes that were started again since."""
    return {path for path, incarnation in incarnations(service).items() if incarnation != before[path]}


def test_a_dead_fork_server_takes_only_the_sandbox_with_it(
    service: Service, redis_client: redis.Redis, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    before = incarnations(service)
    (fork_server,) = fork_server_pids(service)
    granted = service.request_upload("cat.jpg", "image/jpeg", len(picture))
    service.put(granted, picture)
    with frozen_decoders(service):
        service.complete(granted.media_id)
        eventually(lambda: redis_client.xpending("media_processing_queue", "media_workers")["pending"], "the task")
        os.kill(fork_server, signal.SIGKILL)
    # The task in hand is tried again by itself, and the next upload works.
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
    assert restarted(service, before) == {"foundation/sandbox"}
    assert nodes(service)["foundation/sandbox"]["last_failure"]
    assert fork_server_pids(service) != [fork_server]
    eventually(lambda: service.ready(), "the service to be ready")
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")


@pytest.mark.parametrize(
    ("number", "ending"),
    [
        (signal.SIGKILL, (wire.MediaStatus.READY, "")),  # as the kernel kills when memory is short: tried again
        (signal.SIGSEGV, (wire.MediaStatus.FAILED, "decoder_crashed")),
    ],
)
def test_a_decoder_that_dies_ends_its_own_attempt_and_nothing_else(
    service: Service, data_directory: Path, number: signal.Signals, ending: tuple[int, str]
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    before = incarnations(service)
    status = service.upload("cat.jpg", "image/jpeg", picture + mark(number))
    assert (status.state, status.reason) == ending
    outcome = "killed" if number is signal.SIGKILL else "crashed"
    died = f'avion_sandbox_duration_seconds_count{{avion_sandbox_job="picture_job",outcome="{outcome}"'
    assert died in service.metrics()
    assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
    assert restarted(service, before) == set()


def test_a_file_that_fails_decoders_gets_two_of_them_and_ends(service: Service, data_directory: Path) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    status = service.upload("cat.jpg", "image/jpeg", picture + FAILING)
    assert (status.state, status.reason) == (wire.MediaStatus.FAILED, "decoder_failed")

    def counted() -> dict[str, str]:
        ends = [line for line in service.metrics().splitlines() if line.startswith("avion_task_outcomes")]
        ends = [line for line in ends if 'reason="decoder_failed"' in line]
        return {outcome: line.split()[-1] for line in ends for outcome in ("retried", "rejected") if outcome in line}

    eventually(lambda: counted() == {"retried": "1.0", "rejected": "1.0"}, "two attempts")
