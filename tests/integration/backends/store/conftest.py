"""An open store on a fresh bucket: of Ceph, or in turn of Ceph and of moto where both must behave alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from avion_media.backends.store import ObjectStore, open_store
from tests.conftest import S3Bucket, fresh_bucket
from tests.services import S3Address


@pytest.fixture(params=["ceph", "moto"])
def either_s3(request: pytest.FixtureRequest, aws_environment: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    """A fresh bucket on each kind of store in turn: moto's is what `avion-media dev` runs on."""
    yield from fresh_bucket(request.getfixturevalue(f"{request.param}_address"), aws_environment)


@pytest.fixture
async def either_store(either_s3: S3Bucket) -> AsyncIterator[ObjectStore]:
    """The store on `either_s3`."""
    async with open_store(either_s3.config()) as store:
        yield store


@pytest.fixture
async def store(s3: S3Bucket) -> AsyncIterator[ObjectStore]:
    """The store on Ceph."""
    async with open_store(s3.config()) as opened:
        yield opened


@pytest.fixture
async def store_on_moto(moto_address: S3Address, aws_environment: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    """The store of `avion-media dev`, which checks no signatures."""
    for bucket in fresh_bucket(moto_address, aws_environment):
        async with open_store(bucket.config()) as opened:
            yield opened
