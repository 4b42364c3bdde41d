"""How often a job asks the store: each request costs CPU and a round trip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment

METHODS = ("HeadObject", "GetObject", "PutObject", "DeleteObject")


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    """Without the sweep, which reads the bucket when it likes."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    with running(environment, roles="grpc,processing") as service:
        yield service


def test_an_upload_takes_two_looks_two_reads_and_what_it_writes(service: Service, data_directory: Path) -> None:
    body = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    before = service.store_calls()

    assert service.upload("cat.jpg", "image/jpeg", body).state == wire.MediaStatus.READY

    def ended() -> Counter[str] | None:
        counts = service.store_calls()
        return counts if counts["DeleteObject"] > before["DeleteObject"] else None

    after = eventually(ended, "the upload to be removed, which is the job's last request")
    # Completed: is the upload there? Worked on: is it published? The record of its block is read, and the
    # upload. The rest is what it writes.
    assert {each: after[each] - before[each] for each in METHODS} == {
        "HeadObject": 2,
        "GetObject": 2,
        "PutObject": 5,  # original, thumbnails, and the index of copies
        "DeleteObject": 1,
    }
