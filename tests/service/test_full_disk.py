"""The disk that has the spools and the log is full."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.faults import incarnations
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import events_of, unfinished

DISK = "4m"
# In a mount namespace of its own: the service sees a small disk, and logs to it. The test sees it in /proc/PID/root.
AS_ROOT = () if os.geteuid() == 0 else ("--map-root-user",)
SCRIPT = 'mount -t tmpfs -o size=$DISK tmpfs "$TMPDIR"; exec "$@" 2>"$TMPDIR/log"'


class Disk:
    """The disk of a service."""

    def __init__(self, service: Service, directory: Path) -> None:
        self._directory = Path(f"/proc/{service.process.pid}/root{directory}")

    def fill(self) -> None:
        """Leave no byte."""
        with (self._directory / "filler").open("ab", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        """Remove what `fill` wrote."""
        (self._directory / "filler").unlink()

    def log(self) -> str:
        """What the service could log."""
        return (self._directory / "log").read_text(errors="replace")


def test_a_full_disk_is_an_outage_and_crashes_nothing(
    redis_url: str, bucket: S3Bucket, data_directory: Path, tmp_path: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    environment = service_environment(
        redis_url, bucket.address.endpoint_url, bucket.bucket, LOG__LEVEL="debug", SANDBOX__REQUIRE="false"
    )
    environment |= {"TMPDIR": str(tmp_path), "DISK": DISK}
    prefix = ("unshare", *AS_ROOT, "--mount", "sh", "-ec", SCRIPT, "sh")
    with redis.Redis.from_url(redis_url, decode_responses=True) as client, running(environment, prefix=prefix) as it:
        disk, before = Disk(it, tmp_path), incarnations(it)
        assert it.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
        eventually(lambda: not unfinished(client), "its files to be closed")
        disk.fill()
        logged = disk.log()
        granted = it.request_upload("cat.jpg", "image/jpeg", len(picture))
        assert it.put(granted, picture).status_code == 200
        it.complete(granted.media_id)
        eventually(partial(delayed, client, "disk"), "the task to be tried again")
        assert it.ready()
        assert it.get(f"/media/{granted.media_id}").status_code == 404
        disk.free()
        assert it.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
        assert [event["type"] for event in events_of(client, granted.media_id)] == ["media.ready"]
        assert incarnations(it) == before
        assert disk.log().startswith(logged)
        print(disk.log()[len(logged) :][-2000:])
        disk.fill()
        assert it.stop() == 0
    assert unfinished(client) == {}


def delayed(client: redis.Redis, why: str) -> bool:
    tasks = client.zrange("{media_processing_queue}:delayed", 0, -1)
    return any(why in task for task in tasks)
