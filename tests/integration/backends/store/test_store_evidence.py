"""One object that cannot be read or written is no outage of the store; three at once, and no other, are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from avion_media.backends.store import ObjectStore, open_store
from avion_media.common.errors import Dependency, Unavailable
from tests.conftest import S3Bucket


@pytest.fixture
async def opened(s3: S3Bucket) -> AsyncIterator[ObjectStore]:
    async with open_store(s3.config()) as store:
        await store.state.wait_available()
        yield store


def deny(s3: S3Bucket, action: str, *keys: str) -> None:
    """Have the store answer 403 for these keys (patterns too)."""
    resources = [f"arn:aws:s3:::{s3.bucket}/{key}" for key in keys]
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": resources}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    s3.client.put_bucket_policy(Bucket=s3.bucket, Policy=policy)


async def failure(call: Awaitable[object]) -> Dependency:
    with pytest.raises(Unavailable) as caught:
        await call
    return caught.value.dependency


async def read(store: ObjectStore, key: str) -> None:
    await store.read(key, max_bytes=10)


async def head(store: ObjectStore, key: str) -> None:
    await store.head(key)


async def put(store: ObjectStore, key: str) -> None:
    await store.put(key, b"x", content_type="text/plain")


Call = Callable[[ObjectStore, str], Awaitable[None]]


@pytest.mark.parametrize("call", [read, head])
async def test_objects_that_cannot_be_read_are_no_outage_however_many(
    s3: S3Bucket, opened: ObjectStore, call: Call
) -> None:
    for key in ("original/b", *(f"a/{number}" for number in range(10))):
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"x")
    deny(s3, "s3:GetObject", "a/*")

    for number in range(10):
        assert await failure(call(opened, f"a/{number}")) is Dependency.OBJECT
        assert opened.state.is_available


@pytest.mark.parametrize("call", [read, head])
async def test_a_store_that_answers_pings_and_hands_out_nothing_is_unavailable(
    s3: S3Bucket, opened: ObjectStore, call: Call
) -> None:
    for key in ("original/b", "a", "b", "c", "d"):
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"x")
    deny(s3, "s3:GetObject", "*")

    found = [await failure(call(opened, key)) for key in ("a", "a", "b", "c", "d")]

    assert found == [Dependency.OBJECT] * 3 + [Dependency.STORE] * 2
    assert not opened.state.is_available
    s3.client.delete_bucket_policy(Bucket=s3.bucket)
    with trio.fail_after(20):
        await opened.state.wait_available()  # by itself: nobody reads


async def test_a_store_that_takes_nothing_is_unavailable_while_it_still_hands_out(
    s3: S3Bucket, opened: ObjectStore
) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="a", Body=b"x")
    deny(s3, "s3:PutObject", "*")

    found = []
    for key in ("b", "c", "d"):
        found.append(await failure(put(opened, key)))
        await read(opened, "a")

    assert found == [Dependency.OBJECT, Dependency.OBJECT, Dependency.STORE]
    assert not opened.state.is_available
    s3.client.delete_bucket_policy(Bucket=s3.bucket)
    await put(opened, "b")
    assert opened.state.is_available


async def test_one_that_succeeds_in_between_is_a_sign_of_life(s3: S3Bucket, opened: ObjectStore) -> None:
    deny(s3, "s3:PutObject", "a/*")
    for number in range(6):
        assert await failure(put(opened, f"a/{number}")) is Dependency.OBJECT
        if number % 2:
            await put(opened, "b")
    assert opened.state.is_available
