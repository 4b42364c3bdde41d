"""A running service on a real Redis and a real Ceph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import S3Bucket, prepared_bucket
from tests.service.faults import DurableRedis, StoreGateway, durable_redis, store_gateway
from tests.service.harness import Service, running, service_environment
from tests.services import S3Address


@pytest.fixture(scope="module")
def bucket(ceph_address: S3Address, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Bucket]:
    """A fresh bucket for the tests of one module."""
    with pytest.MonkeyPatch.context() as environment:
        nowhere = tmp_path_factory.mktemp("aws")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_CONFIG_FILE", str(Path(nowhere) / "config"))
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(Path(nowhere) / "credentials"))
        yield from prepared_bucket(ceph_address, environment)


@pytest.fixture(scope="module")
def redis_client(redis_of_process: str) -> Iterator[redis.Redis]:
    """An independent client of an empty Redis, the one that the module's service uses."""
    with redis.Redis.from_url(redis_of_process, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def durable() -> Iterator[DurableRedis]:
    """A Redis of this test alone. Its data survive a restart."""
    with durable_redis() as server:
        yield server


@pytest.fixture
def gateway(bucket: S3Bucket) -> Iterator[StoreGateway]:
    """Between the service and the store, and can be cut."""
    with store_gateway(bucket.address.endpoint_url) as between:
        yield between


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Settings of the module's service; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def service(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, settings: dict[str, str]
) -> Iterator[Service]:
    """One service for all tests of a module."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
    with running(environment) as service:
        yield service
