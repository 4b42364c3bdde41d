"""The frequent requests say what botocore's own would."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from typing import Any

import pytest

from avion_media.backends.store import (
    FileSource,
    ObjectPart,
    ca_bundle,
    open_store,
)
from avion_media.common.errors import Unavailable
from tests.conftest import S3Bucket
from tests.services.faulty_gateway import faulty_gateway
from trio_s3 import BytesSource, Http, PartRequest, Presigner, Refusal, Refused, Requests, SigningCredentials, TooLarge

KEY = "original/2026/11/25/a b+c~ü.jpg"
BODY = bytes(range(256)) * 300


@pytest.fixture
def filled(either_s3: S3Bucket) -> S3Bucket:
    either_s3.client.put_object(
        Bucket=either_s3.bucket, Key=KEY, Body=BODY, ContentType="image/jpeg", Metadata=METADATA
    )
    return either_s3


@asynccontextmanager
async def requests(bucket: S3Bucket, secret_key: str | None = None) -> AsyncIterator[Requests]:
    address = bucket.address
    credentials = SigningCredentials(address.access_key, secret_key or address.secret_key, "")
    http = Http(address.endpoint_url, connect_timeout_s=3.0, timeout_s=10.0, tls=None)
    with closing(http):
        yield Requests(http, Presigner(address.endpoint_url, bucket.bucket, "us-east-1", credentials))


@contextmanager
def refused(refusal: Refusal, match: str | None = None) -> Iterator[None]:
    """The block ends with a refusal of this kind, whose text matches."""
    with pytest.raises(Refused, match=match) as caught:
        yield
    assert caught.value.refusal is refusal


IMAGE = {"content-type": "image/jpeg"}
IF_ABSENT = {"if-none-match": "*"}


@pytest.mark.parametrize("byte_range", [None, (10, 99), (0, 0), (None, 7), (len(BODY) - 1, None)])
async def test_get_and_head_answer_as_botocore_does(filled: S3Bucket, byte_range: Any) -> None:
    theirs = filled.client.head_object(Bucket=filled.bucket, Key=KEY)
    async with requests(filled) as quick:
        part = await quick.get(PartRequest(KEY, byte_range, None, len(BODY)))
        head = await quick.head(KEY)
    assert isinstance(part, ObjectPart)
    assert part.info == head
    assert (head.key, head.size_bytes, f'"{head.etag}"') == (KEY, theirs["ContentLength"], theirs["ETag"])
    assert (head.last_modified, head.content_type) == (theirs["LastModified"], theirs["ContentType"])
    assert head.metadata == METADATA
    first, last = byte_range or (0, None)
    assert part.data == (BODY[-(last or 0) :] if first is None else BODY[first : None if last is None else last + 1])
    assert (part.content_range is None) == (byte_range is None)


async def test_what_is_not_there_or_another_is_told(filled: S3Bucket) -> None:
    async with requests(filled) as quick:
        with refused(Refusal.MISSING):
            await quick.get(PartRequest("nothing", None, None, 10))
        with refused(Refusal.MISSING):
            await quick.head("nothing")
        with refused(Refusal.PRECONDITION):
            await quick.get(PartRequest(KEY, None, "other", len(BODY)))
        with refused(Refusal.RANGE):
            await quick.get(PartRequest(KEY, (999_999, None), None, len(BODY)))
        with pytest.raises(TooLarge):
            await quick.get(PartRequest(KEY, None, None, len(BODY) - 1))
        with refused(Refusal.PRECONDITION):
            await quick.put(KEY, BytesSource(b"second"), IMAGE, IF_ABSENT)
        assert await quick.put("first", BytesSource(b"first"), IMAGE, IF_ABSENT)


async def test_wrong_keys_are_refused_credentials(s3: S3Bucket) -> None:
    async with requests(s3, secret_key="wrong") as quick:
        for request in (
            quick.get(PartRequest(KEY, None, None, 1)),
            quick.head(KEY),
            quick.head_bucket(),
            quick.put(KEY, BytesSource(b""), IMAGE),
            quick.delete(KEY),
            quick.list_keys("original/", "", "", 10),
        ):
            with refused(Refusal.FORBIDDEN):
                await request


async def test_a_listing_says_what_botocores_does(either_s3: S3Bucket) -> None:
    for number in range(5):
        either_s3.client.put_object(Bucket=either_s3.bucket, Key=f"a/<&{number}+ü", Body=b"x" * number)
    theirs = either_s3.client.list_objects_v2(Bucket=either_s3.bucket, Prefix="a/")["Contents"]
    async with open_store(either_s3.config()) as store:
        listed = [each async for page in store.list("a/", page_size=2) for each in page]
        keys = [page async for page in store.list_keys("a/", theirs[0]["Key"], page_size=2)]
    assert [(each.key, each.size_bytes, f'"{each.etag}"', each.last_modified) for each in listed] == [
        (each["Key"], each["Size"], each["ETag"], each["LastModified"]) for each in theirs
    ]
    assert keys == [[each.key for each in listed[1:3]], [each.key for each in listed[3:]]]


METADATA = {"width": "48", "blurhash": "LEHV6nWB2y#$%*+,-.:;=?@[]^_{|}~"}


@pytest.mark.parametrize("from_file", [True, False])
async def test_a_put_writes_what_botocores_does(either_s3: S3Bucket, from_file: bool) -> None:
    body = BODY * 40  # three pieces
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + body)
        file.flush()
        source = FileSource(file.fileno(), len(body), offset=6) if from_file else BytesSource(body)
        async with requests(either_s3) as quick:
            metadata = {f"x-amz-meta-{name}": value for name, value in METADATA.items()}
            etag = await quick.put(KEY, source, IMAGE | metadata, {"cache-control": "no-store"})

    there = either_s3.client.get_object(Bucket=either_s3.bucket, Key=KEY)
    assert there["Body"].read() == body
    assert (there["ETag"], there["ContentType"]) == (f'"{etag}"', "image/jpeg")
    assert (there["Metadata"], there["CacheControl"]) == (METADATA, "no-store")


@pytest.mark.parametrize("is_right", [True, False])
async def test_the_store_checks_a_file_by_the_sha256_that_is_known(s3: S3Bucket, is_right: bool) -> None:
    """Ceph refuses other bytes, for example damaged ones."""
    with tempfile.TemporaryFile() as file:
        file.write(BODY)
        file.flush()
        known = hashlib.sha256(BODY if is_right else b"other bytes").hexdigest()
        source = FileSource(file.fileno(), len(BODY), sha256=known)
        async with requests(s3) as quick:
            with nullcontext() if is_right else refused(Refusal.INVALID, "XAmzContentSHA256Mismatch"):
                await quick.put(KEY, source, IMAGE)
            assert len((await quick.list_keys(KEY, "", "", 1)).entries) == is_right


async def test_a_file_that_is_shorter_than_it_was_said_to_be_is_not_the_stores_fault(s3: S3Bucket) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(BODY)
        file.flush()
        async with open_store(s3.config()) as store:
            await store.state.wait_available()
            for more in (1, 2 << 20):
                with pytest.raises(OSError, match="shorter"):
                    await store.put(KEY, FileSource(file.fileno(), len(BODY) + more, sha256="0" * 64), content_type="")
            assert not await store.exists(KEY)
            assert store.state.is_available


@pytest.mark.parametrize("value", ["two  spaces", " at the start"])
async def test_metadata_that_a_signature_normalises_is_accepted(s3: S3Bucket, value: str) -> None:
    async with requests(s3) as quick:
        await quick.put(KEY, BytesSource(BODY), IMAGE | {"x-amz-meta-note": value})
        assert (await quick.head(KEY)).metadata["note"].split() == value.split()


async def test_a_delete_removes_and_needs_nothing_to_remove(filled: S3Bucket) -> None:
    async with requests(filled) as quick:
        await quick.delete(KEY)
        refusals = []
        try:
            await quick.delete(KEY)
        except Refused as error:
            refusals.append(error.refusal)
        assert refusals in ([], [Refusal.MISSING])  # Ceph calls it so, AWS does not
    assert not filled.client.list_objects_v2(Bucket=filled.bucket).get("Contents")


async def test_a_kept_connection_that_the_store_has_closed_costs_no_error(s3: S3Bucket) -> None:
    async with requests(s3) as quick:
        for request in (quick.put(KEY, BytesSource(BODY), IMAGE), quick.head(KEY), quick.delete(KEY)):
            for _, wire in quick._http._kept:
                wire._tcp._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
                wire.is_quiet = lambda: True  # type: ignore[method-assign] # as if the end came only now
            await request
    assert not s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents")


def test_certificates_are_looked_for_where_botocore_does(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.delenv("AWS_CA_BUNDLE", raising=False)
    aws_environment.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert ca_bundle() == ""
    aws_environment.setenv("REQUESTS_CA_BUNDLE", "requests.pem")
    assert ca_bundle() == "requests.pem"
    aws_environment.setenv("AWS_CA_BUNDLE", "aws.pem")
    assert ca_bundle() == "aws.pem"


@pytest.mark.parametrize("operation", ["head", "put", "delete", "read"])
async def test_a_store_that_says_nothing_is_told_without_the_signature(s3: S3Bucket, operation: str) -> None:
    async with (
        faulty_gateway(s3.address.endpoint_url) as gateway,
        open_store(s3.config(endpoint_url=gateway.url, timeout=0.5)) as store,
    ):
        await store.state.wait_available()
        gateway.stall_after = 0
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "head": lambda: store.head("a"),
            "put": lambda: store.put("a", b"a", content_type="text/plain"),
            "delete": lambda: store.delete(["a"]),
            "read": lambda: store.read("a", max_bytes=1),
        }
        with pytest.raises(Unavailable) as caught:
            await calls[operation]()

    assert f"/{s3.bucket}/a" in caught.value.detail
    assert "X-Amz-" not in caught.value.detail


async def test_a_profile_that_does_not_exist_is_a_store_that_is_away(
    s3: S3Bucket, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_PROFILE", "nobody")
    async with open_store(s3.config()) as store:
        with pytest.raises(Unavailable):
            await store.head("a")
