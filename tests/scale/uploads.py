"""Uploads behind uploads, through the real service: ``python -m tests.scale.uploads``.

It measures uploads of another owner behind 1,500 images of one owner; then images of an owner behind enough of that
owner's videos to keep the service busy. The service has two slots.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis as redis_py

from avion_media.backends.queue import QueueKeys
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.common.wire.avion import media_pb2 as wire
from tests.bench.setting import open_setting
from tests.service.harness import Service, running_program
from tests.services import ServiceFailed

IMAGES, VIDEOS, PROBES, SLOTS = 1500, 60, 5, 2
TARGET_S = 2.0
DATA = Path(__file__).parents[1] / "data"
_CLIENTS = 4
_USAGE_ERROR = 2


def accept(service: Service, name: str, content_type: str, body: bytes, owner: str) -> str:
    """Upload and complete one file. Return its id."""
    granted = service.request_upload(name, content_type, len(body), owner=owner)
    response = service.put(granted, body)
    assert response.status_code == 200, response.text
    service.complete(granted.media_id)
    return granted.media_id


def queue_many(service: Service, count: int, file: tuple[str, str, bytes], owner: str) -> None:
    """Accept ``count`` uploads of an owner while the queue is paused, then resume the queue."""
    assert service.run_cli("queues", "pause", "processing").returncode == 0
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(lambda _: accept(service, *file, owner), range(count)))
    assert service.run_cli("queues", "resume", "processing").returncode == 0


def seconds_to_ready(service: Service, file: tuple[str, str, bytes], owner: str) -> list[float]:
    """Return the seconds from CompleteMediaUpload to READY of several uploads."""
    found = []
    for _ in range(PROBES):
        began = time.monotonic()
        last = service.watch(accept(service, *file, owner), timeout_s=120)[-1]
        assert last.state == wire.MediaStatus.READY, last
        found.append(time.monotonic() - began)
    return found


def waiting(client: redis_py.Redis) -> int:
    """Return how many tasks are in the backlog, without the member that has no meaning."""
    depth: int = client.zcard(QueueKeys(PROCESSING_QUEUE).waiting) - 1
    return depth


def show(what: str, seconds: Sequence[float], left: int) -> bool:
    """Print a figure. Return whether it reaches the goal, and was measured beside a backlog."""
    print(f"{what:<44}{max(seconds):>8.2f} s{TARGET_S:>10.1f} s{left:>20}", flush=True)
    return max(seconds) <= TARGET_S and left > 0


def main() -> int:
    """Return 0 if no upload waited longer than the goal."""
    image = ("photo.jpg", "image/jpeg", (DATA / "jpeg-orientation-1.jpg").read_bytes())
    video = ("film.mp4", "video/mp4", (DATA / "mp4-h264-4k60-portrait.mp4").read_bytes())
    reached = []
    try:
        with open_setting(quick=False) as setting:
            environment = setting.service_environment(TASKS__SLOTS=str(SLOTS))
            with running_program(environment) as service, redis_py.Redis.from_url(setting.redis_url) as client:
                print(f"{f'slowest of {PROBES}, ready after':<44}{'':>10}{'to reach':>12}{'still waiting then':>20}")
                queue_many(service, IMAGES, image, "many")
                seconds = seconds_to_ready(service, image, "another")
                reached.append(show(f"another owner behind {IMAGES} images", seconds, waiting(client)))
            with running_program(environment) as service, redis_py.Redis.from_url(setting.redis_url) as client:
                client.flushall()
                queue_many(service, VIDEOS, video, "many")
                seconds = seconds_to_ready(service, image, "many")
                reached.append(show(f"images behind {VIDEOS} videos of one owner", seconds, waiting(client)))
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
