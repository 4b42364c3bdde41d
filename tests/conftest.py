"""Real services as fixtures. A service that cannot be started fails the tests that need it, with its log: no skips."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import hypothesis
import pytest
import redis
from botocore.config import Config as BotoConfig

from avion_media.backends.settings import S3Config
from tests.remote_ids import put_remote_key
from tests.services import S3Address, ceph, moto, redis_server, s3_address_from
from tests.services.boto import share_models

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef


def pytest_configure() -> None:
    """Ctrl-C is a thing to test: a shell that started us in the background hands down that SIGINT is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    share_models()
    hypothesis.settings.register_profile("untimed", deadline=None)  # machines are shared: an example may take its time
    hypothesis.settings.load_profile("untimed")


# Each keeps one test process busy for most of a minute or longer: begun last, they would run while the others wait.
_LONG = (
    "chaos/test_random",
    "crash/test_crash_points",
    "printed",
    "chaos/test_rolling",
    "hostile/media",
    "hostile/replay",
    "chaos",
    "../supervisors/tests/test_everywhere",
    "../mediascrub/tests/test_mp4",
    "unit/poster/test_posters",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, the longest of them first of all; otherwise as they were."""

    def rank(item: pytest.Item) -> int:
        path = os.path.relpath(item.path, Path(__file__).parent)
        return next((place for place, prefix in enumerate(_LONG) if path.startswith(prefix)), len(_LONG))

    items.sort(key=rank)


@dataclass(frozen=True)
class S3Bucket:
    """A bucket of this test alone. ``client`` is an independent client, to play others and to look at the state."""

    address: S3Address
    bucket: str
    client: S3Client

    def config(self, **settings: object) -> S3Config:
        """The service's own settings for this bucket; the credentials are in the environment."""
        values: dict[str, object] = {"endpoint_url": self.address.endpoint_url, "bucket": self.bucket, **settings}
        return S3Config.model_validate(values)


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """Sample files; their origin is written down beside them."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def redis_of_process() -> Iterator[str]:
    """One Redis per test process: the service's keys are fixed by contract, so processes must not share it."""
    with redis_server() as url:
        yield url


@pytest.fixture(scope="module")
def redis_of_module(redis_of_process: str) -> str:
    """The same, empty when the module begins."""
    with redis.Redis.from_url(redis_of_process) as client:
        client.flushall()
    return redis_of_process


@pytest.fixture
def redis_url(redis_of_process: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_of_process) as client:
        client.flushall()
    return redis_of_process


@pytest.fixture(scope="session")
def ceph_address() -> Iterator[S3Address]:
    """The Ceph that `python -m tests.services run` started, or one of our own."""
    shared = s3_address_from()
    if shared is not None:
        yield shared
        return
    with ceph() as address:
        yield address


@pytest.fixture(scope="session")
def moto_address() -> Iterator[S3Address]:
    """moto's S3, which checks no signatures: never the proof of an upload rule."""
    with moto() as address:
        yield address


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """boto3's credential chain cut off from this machine: no files, no metadata service, no keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    return monkeypatch


@pytest.fixture
def s3(ceph_address: S3Address, aws_environment: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    """A fresh bucket on a real S3 (Ceph)."""
    yield from fresh_bucket(ceph_address, aws_environment)


def fresh_bucket(address: S3Address, environment: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    """A bucket with the address' keys in the environment; afterwards it is removed with all that is in it."""
    environment.setenv("AWS_ACCESS_KEY_ID", address.access_key)
    environment.setenv("AWS_SECRET_ACCESS_KEY", address.secret_key)
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=address.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
        config=BotoConfig(connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"}),
    )
    bucket = f"test-{uuid.uuid4().hex[:16]}"
    client.create_bucket(Bucket=bucket)
    try:
        yield S3Bucket(address, bucket, client)
    finally:
        _remove_bucket(client, bucket)
        client.close()


def prepared_bucket(address: S3Address, environment: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    """The same, with what a service needs to start."""
    for bucket in fresh_bucket(address, environment):
        put_remote_key(bucket.client, bucket.bucket)
        yield bucket


def _remove_bucket(client: S3Client, bucket: str) -> None:
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", ()):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for listed in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if listed.get("Contents"):
            to_delete: list[ObjectIdentifierTypeDef] = [{"Key": each["Key"]} for each in listed["Contents"]]
            client.delete_objects(Bucket=bucket, Delete={"Objects": to_delete, "Quiet": True})
    client.delete_bucket(Bucket=bucket)
