"""How 30 objects that the store refuses to serve delay other tasks: ``python -m tests.scale.unreadable``.

A bucket policy denies GetObject for 30 uploads (403). Their tasks are queued beside a steady stream of healthy uploads.
It uses a real service with two processing slots, a real Redis and a real Ceph. The time of one upload is the difference
of two entry ids of one Redis server: of its task, and of its event.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import redis as redis_py
from PIL import Image

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import EVENTS_STREAM, PROCESSING_QUEUE
from tests.bench.setting import Setting, open_setting
from tests.service.harness import running_program
from tests.services import ServiceFailed

Client: TypeAlias = Any  # redis-py's types cover options that no measurement here uses

UNREADABLE = 30
RATE = 20.0  # healthy uploads a second
TARGET_P95_S = 0.5
_WARM_UP = 40  # healthy uploads before the unreadable ones, not counted
_LAST_S = 15.0  # for the last ones to end
_USAGE_ERROR = 2


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds from a task to its event, of the healthy uploads; ``inf`` for uploads that were not READY in the end."""

    seconds: Sequence[float]
    pending: int  # unreadable ones whose task still exists

    @property
    def p95_s(self) -> float:
        """The 95th percentile in seconds."""
        return sorted(self.seconds)[math.ceil(0.95 * len(self.seconds)) - 1]

    @property
    def not_ready(self) -> int:
        """The number of healthy uploads that were not READY in the end."""
        return sum(math.isinf(each) for each in self.seconds)


def measure(setting: Setting, uploads: int, unreadable_uploads: int = UNREADABLE) -> Measured:
    """Measure ``uploads`` healthy uploads at `RATE`, beside the unreadable ones from the start."""
    unreadable, warm_up, healthy = (_put(setting, count) for count in (unreadable_uploads, _WARM_UP, uploads))
    if unreadable:
        _deny(setting, unreadable)
    environment = setting.service_environment(TASKS__SLOTS="2", TASKS__BACKOFF="2s")
    with (
        redis_py.Redis.from_url(setting.redis_url, decode_responses=True) as client,
        running_program(environment, roles="processing"),
    ):
        client.delete(EVENTS_STREAM)
        _queue_steadily(client, warm_up)
        for media_id in unreadable:
            _queue(client, media_id)
        queued = _queue_steadily(client, healthy)
        ready = _wait_until_ready(client, healthy)
        pending = client.xlen(PROCESSING_QUEUE) + client.zcard(f"{{{PROCESSING_QUEUE}}}:delayed")
    return Measured([ready.get(each, math.inf) - queued[each] for each in healthy], pending)


def _put(setting: Setting, count: int) -> list[str]:
    body = io.BytesIO()
    Image.new("RGB", (64, 48), (10, 120, 200)).save(body, "JPEG")
    named = [str(new_media_id(JPEG, time.time_ns() // 1_000_000)) for _ in range(count)]
    for media_id in named:
        setting.store.client.put_object(Bucket=setting.store.bucket, Key=f"incoming/{media_id}", Body=body.getvalue())
    return named


def _deny(setting: Setting, media_ids: Sequence[str]) -> None:
    bucket = setting.store.bucket
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": [f"arn:aws:s3:::{bucket}/incoming/{each}" for each in media_ids],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    setting.store.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def _queue(client: Client, media_id: str) -> float:
    return _seconds(client.xadd(PROCESSING_QUEUE, {"task_id": media_id, "media_id": media_id, "type": "thumbnail"}))


def _queue_steadily(client: Client, media_ids: Sequence[str]) -> dict[str, float]:
    started, queued = time.monotonic(), {}
    for number, media_id in enumerate(media_ids):
        time.sleep(max(0.0, started + number / RATE - time.monotonic()))
        queued[media_id] = _queue(client, media_id)
    return queued


def _wait_until_ready(client: Client, media_ids: Sequence[str]) -> dict[str, float]:
    """Return when each upload was announced as READY, if it was within `_LAST_S`."""
    ready: dict[str, float] = {}
    deadline, last = time.monotonic() + _LAST_S, "0"
    while not ready.keys() >= set(media_ids) and time.monotonic() < deadline:
        for _, entries in client.xread({EVENTS_STREAM: last}, block=500) or []:
            for last, fields in entries:
                ready.setdefault(json.loads(fields["event"])["media_id"], _seconds(last))
    return ready


def _seconds(entry_id: str) -> float:
    return int(entry_id.partition("-")[0]) / 1000


def report(measured: Measured, unreadable: int) -> str:
    """Return the figures in one line."""
    return (
        f"{unreadable} unreadable objects beside {RATE:g} uploads/s on 2 slots: healthy"
        f" median {statistics.median(measured.seconds):.2f} s, p95 {measured.p95_s:.2f} s,"
        f" longest {max(measured.seconds):.2f} s; {measured.not_ready} of {len(measured.seconds)} not ready;"
        f" {measured.pending} tasks left"
    )


def main() -> int:
    """Return 0 if the p95 is at most `TARGET_P95_S`."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.unreadable", description=__doc__.split("\n")[0])
    parser.add_argument("--uploads", type=int, default=400)
    parser.add_argument("--unreadable", type=int, default=UNREADABLE)
    arguments = parser.parse_args()
    try:
        with open_setting(quick=False) as setting:
            alone = measure(setting, arguments.uploads, 0)
            print(report(alone, 0))
            measured = measure(setting, arguments.uploads, arguments.unreadable)
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    print(report(measured, arguments.unreadable))
    return 0 if measured.p95_s <= TARGET_P95_S else 1


if __name__ == "__main__":
    sys.exit(main())
