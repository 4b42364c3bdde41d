"""The key of the ids of remote media: `init` makes it once, and without it a service does not start."""

from __future__ import annotations

import re

import pytest

from avion_media.common.keys import REMOTE_SECRET
from tests.conftest import S3Bucket
from tests.remote_ids import put_remote_key
from tests.service.commands import run_command
from tests.service.harness import running, service_environment


def stored(bucket: S3Bucket) -> bytes:
    return bucket.client.get_object(Bucket=bucket.bucket, Key=REMOTE_SECRET)["Body"].read()


def test_init_makes_the_key_once(bucket: S3Bucket, redis_of_process: str) -> None:
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    bucket.client.delete_object(Bucket=bucket.bucket, Key=REMOTE_SECRET)
    try:
        first = run_command("init", environment=environment)
        key = stored(bucket)
        again = run_command("init", environment=environment)
    finally:
        put_remote_key(bucket.client, bucket.bucket)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "secret/remote-ids" in first.stdout
    assert "secret/remote-ids" not in again.stdout
    assert len(key) == 32


@pytest.mark.parametrize("damaged", [b"", b"too short"], ids=["missing", "damaged"])
def test_a_service_without_the_key_does_not_start(bucket: S3Bucket, redis_of_process: str, damaged: bytes) -> None:
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    if damaged:
        bucket.client.put_object(Bucket=bucket.bucket, Key=REMOTE_SECRET, Body=damaged)
    else:
        bucket.client.delete_object(Bucket=bucket.bucket, Key=REMOTE_SECRET)
    try:
        ended = run_command("serve", environment=environment)
        inspected = run_command("inspect", "https://remote.example/a.jpg", environment=environment)
    finally:
        put_remote_key(bucket.client, bucket.bucket)
    for each in (ended, inspected):
        assert each.returncode == 1
        assert re.search(r"`secret/remote-ids`", each.stderr)
        assert "restore it from the back-up" in each.stderr or "`avion-media init`" in each.stderr
        assert "Traceback" not in each.stderr
    with running(environment) as service:
        assert service.get("/media/" + "0" * 64).status_code == 404
