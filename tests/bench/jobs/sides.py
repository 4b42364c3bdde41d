"""The two workers: how each is started, given jobs, and known to be done with them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis

from avion_media.common.ids import MediaId
from avion_media.common.tasks import EVENTS_STREAM, PROCESSING_QUEUE
from avion_media.media.settings import ThumbnailsConfig
from tests.bench.setting import NODE, Setting

_BATCH_S = 180.0
_POLL_S = 0.02


class Side(Protocol):
    """One running worker; ``pid`` is the root of its process tree."""

    pid: int

    def enqueue(self, media_ids: Sequence[MediaId]) -> None:
        """Queue a job for each upload."""

    def wait_done(self, count: int) -> None:
        """Return when that many jobs have succeeded since the last call; SystemExit when one failed."""

    def last_took_ms(self) -> int:
        """Milliseconds of the last job, from the queue to its end, by the stamps that it left on Redis."""


class Ours:
    """`avion-media serve --roles processing`."""

    def __init__(self, pid: int, client: redis.Redis) -> None:
        self.pid = pid
        self._redis = client
        self._queued_ms = 0

    def enqueue(self, media_ids: Sequence[MediaId]) -> None:
        """As any foreign producer may: with the contract's fields only."""
        self._redis.delete(EVENTS_STREAM)
        with self._redis.pipeline(transaction=False) as pipeline:
            for each in media_ids:
                pipeline.xadd(
                    PROCESSING_QUEUE, {"task_id": f"bench-{each}", "media_id": str(each), "type": "thumbnail"}
                )
            self._queued_ms = _stamp_ms(pipeline.execute()[-1])

    def wait_done(self, count: int) -> None:
        """Done: told to everybody, acknowledged, gone from the queue."""
        _wait(lambda: self._redis.xlen(PROCESSING_QUEUE) == 0)
        events = str(self._redis.xrange(EVENTS_STREAM))
        if events.count('"media.ready"') != count:
            raise SystemExit(f"our jobs did not all end well: {events}")

    def last_took_ms(self) -> int:
        """To the event that tells everybody."""
        latest: Any = self._redis.xrevrange(EVENTS_STREAM, count=1)
        event_id, _fields = latest[0]
        return _stamp_ms(event_id) - self._queued_ms


class BullMq:
    """`job_worker.mjs`."""

    def __init__(self, pid: int, port: int, client: redis.Redis) -> None:
        self.pid = pid
        self._port = port
        self._redis = client
        self._done = 0

    def enqueue(self, media_ids: Sequence[MediaId]) -> None:
        """By a process of its own, which is not counted."""
        content_type = media_ids[0].format.content_type
        command = ["node", str(NODE / "enqueue.mjs"), str(self._port), content_type, *map(str, media_ids)]
        subprocess.run(command, check=True, timeout=60)

    def wait_done(self, count: int) -> None:
        """Done: in BullMQ's own set."""
        self._done += count
        _wait(lambda: self._redis.zcard("bull:bench:completed") + self._redis.zcard("bull:bench:failed") >= self._done)
        if self._redis.zcard("bull:bench:failed"):
            raise SystemExit("BullMQ's jobs did not all end well: see its messages above")

    def last_took_ms(self) -> int:
        """By its own record of the job."""
        job_id: Any = self._redis.zrevrange("bull:bench:completed", 0, 0)[0]
        job: Any = self._redis.hgetall(f"bull:bench:{job_id}")
        return int(job["finishedOn"]) - int(job["timestamp"])


@contextmanager
def our_side(setting: Setting, client: redis.Redis) -> Iterator[Side]:
    """The service with the role that works, and nothing else changed."""
    with setting.running(setting.service_environment(), roles="processing") as service:
        yield Ours(service.process.pid, client)


@contextmanager
def their_side(setting: Setting, client: redis.Redis) -> Iterator[Side]:
    """Two jobs at once, as ours."""
    port = urlsplit(setting.redis_url).port or 6379
    thumbnails = ThumbnailsConfig()
    arguments = [str(port), setting.store.address.endpoint_url, setting.store.bucket, str(thumbnails.quality)]
    edges = [str(size.longest_edge) for size in thumbnails.sizes]
    command = ["node", str(NODE / "job_worker.mjs"), *arguments, *edges]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise SystemExit("BullMQ's worker did not start")
            yield BullMq(process.pid, port, client)
        finally:
            process.stdin.close()


def _stamp_ms(entry_id: str) -> int:
    """When Redis made an entry of a stream."""
    return int(entry_id.partition("-")[0])


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _BATCH_S
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"a batch of jobs took longer than {_BATCH_S:g} s")
        time.sleep(_POLL_S)
