"""Draws the pictures of the dashboards for the documentation, from a run of the present code.

    python -m tests.telemetry.pictures

Two replicas work for eight minutes under a small load, with a real Redis and Ceph, scraped by a real Prometheus with
the project's rules. Meanwhile faults are caused one after the other.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import grpc
import httpx
import pytest
import redis
import yaml

from avion_media.common.tasks import EVENTS_STREAM, PROCESSING_QUEUE
from tests.conftest import S3Bucket, fresh_bucket
from tests.console.pictures import hold
from tests.service.harness import Service, running, service_environment
from tests.service.remote_server import RemoteServer, remote_server
from tests.services import ServiceFailed
from tests.services.ceph import CephNode, ceph_node
from tests.services.process import Program, accepts_connections, free_port, require, working_directory
from trio_redis.tests.servers import RedisServer

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGES: Final = ROOT / "docs" / "images"
_RUN_S: Final = 480.0
_PASSING: Final = (grpc.RpcError, httpx.HTTPError, redis.RedisError, AssertionError)  # during the faults
_SAMPLES: Final = (
    ("jpeg-dog-12mp-6.jpg", "image/jpeg"),
    ("png-alpha-large.png", "image/png"),
    ("mp4-h264-faststart.mp4", "video/mp4"),
    ("webp-animated.webp", "image/webp"),
)


def main() -> int:
    """Run, and draw."""
    with ExitStack() as stack:
        node = stack.enter_context(ceph_node())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        bucket = stack.enter_context(contextmanager(fresh_bucket)(node.create_user(), patch))
        server = RedisServer(stack.enter_context(working_directory("redis")), "--appendonly", "yes")
        server.start()
        stack.callback(server.stop)
        remote = stack.enter_context(remote_server({}))
        replicas = [stack.enter_context(running(_environment(server, bucket))) for _ in range(2)]
        prometheus = stack.enter_context(_prometheus(replicas))
        ended = threading.Event()
        use = threading.Thread(target=_use, args=(replicas, remote, server, ended))
        use.start()
        stack.callback(use.join)
        stack.callback(ended.set)
        _cause_faults(replicas[0], remote, server, node, bucket)
        minutes = f"{_RUN_S / 60:g}"
        subprocess.run([ROOT / "ops/render-dashboards", prometheus, IMAGES, "--minutes", minutes], check=True)
    return 0


def _environment(server: RedisServer, bucket: S3Bucket) -> dict[str, str]:
    settings = {
        "REMOTE__ALLOW_NETWORKS": "127.0.0.1/32",
        "SWEEP__INTERVAL": "60s",
        "EVENTS__MAX_ENTRIES": "1000",
        "TASKS__CLAIM_AFTER": "20s",
    }
    return service_environment(server.url, bucket.address.endpoint_url, bucket.bucket, **settings)


@contextmanager
def _prometheus(replicas: list[Service]) -> Iterator[str]:
    """A Prometheus with the project's configuration, for these replicas; its URL."""
    configuration = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yaml").read_text())
    configuration["rule_files"] = [str(ROOT / "ops/prometheus/alerts.yaml")]
    (job,) = configuration["scrape_configs"]
    targets = [each.admin_url.removeprefix("http://") for each in replicas]
    job["static_configs"] = [
        {"targets": [target], "labels": {"instance": f"media-{number}"}} for number, target in enumerate(targets)
    ]
    port = free_port()
    with working_directory("prometheus") as directory:
        path = directory / "prometheus.yaml"
        path.write_text(yaml.dump(configuration))
        command: list[str | Path] = [
            require("prometheus", "prometheus"),
            f"--config.file={path}",
            f"--storage.tsdb.path={directory}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        program = Program(command, directory / "log")
        try:
            program.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield f"http://127.0.0.1:{port}"
        finally:
            program.stop()


def _use(replicas: list[Service], remote: RemoteServer, server: RedisServer, ended: threading.Event) -> None:
    """What users, visitors and other services do, until ``ended``."""
    picture = (ROOT / "ops/demo/jpeg-dog-12mp-6.jpg").read_bytes()
    uploaded: list[str] = []

    def upload(service: Service, number: int) -> None:
        name, content_type = _SAMPLES[number % len(_SAMPLES)]
        body = (ROOT / "ops/demo" / name).read_bytes() if number % 9 else b"not a picture"
        granted = service.request_upload(name, content_type, len(body))
        service.put(granted, body)
        service.complete(granted.media_id)
        uploaded.append(granted.media_id)

    def visit(service: Service, number: int) -> None:
        for media_id in uploaded[-12:]:
            service.get(f"/thumbnail/small/{media_id}")
            service.get(f"/media/{media_id}")
        service.get(f"/media/{number}")

    def fetch(service: Service, number: int) -> None:
        remote.files[f"/{number}.jpg"] = picture
        service.cache(f"{remote.url}/{number if number % 4 else 'gone'}.jpg")

    def delete(_service: Service, number: int) -> None:
        if number % 5 == 0 and len(uploaded) > 20:
            wrong = ["not an id"] if number % 40 == 0 else []
            ids = '", "'.join([uploaded.pop(0), *wrong])
            with server.client() as client:
                client.xadd("drop_deleted", {"event": f'{{"media_ids": ["{ids}"]}}'})

    number = 0
    while not ended.is_set():
        number += 1
        for act in (upload, visit, fetch, delete):
            with suppress(*_PASSING):
                act(replicas[number % len(replicas)], number)
        ended.wait(1.0)


def _cause_faults(
    service: Service, remote: RemoteServer, server: RedisServer, node: CephNode, bucket: S3Bucket
) -> None:
    """One fault after the other, with the time at which each begins."""

    def steer(action: str) -> None:
        httpx.post(f"{service.admin_url}/queues/{PROCESSING_QUEUE}/{action}", trust_env=False, verify=False, timeout=30)

    def damage() -> None:
        bucket.client.put_object(Bucket=bucket.bucket, Key="moderation/held/01M88E92FB4077CC9MJ8J5V56J", Body=b"{")
        server.ask("XGROUP", "CREATE", EVENTS_STREAM, "slow-service", "$")  # reads nothing

    began_at = time.monotonic()
    steps: tuple[tuple[float, Callable[[], object]], ...] = (
        (60, damage),
        (90, lambda: hold(service.environment)),
        (130, remote.hold.clear),
        (175, remote.hold.set),
        (200, lambda: steer("pause")),
        (240, lambda: steer("resume")),
        (290, node.kill_gateway),
        (320, node.start_gateway),
        (360, server.kill),
        (380, server.start),
        (_RUN_S, lambda: None),
    )
    for at_s, cause in steps:
        time.sleep(max(0.0, began_at + at_s - time.monotonic()))
        cause()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServiceFailed as error:
        sys.exit(f"a test service could not be started: {error}")
