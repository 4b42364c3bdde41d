"""The frequent requests say what botocore's own would, and leave to it what they do not understand."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest

from avion_media.backends.store import FileSource, ObjectPart, RangeNotSatisfiable, TooLarge, ca_bundle, open_store
from avion_media.backends.store.http import Http
from avion_media.backends.store.objects import BytesSource, PartRequest, PutRequest, object_info
from avion_media.backends.store.presign import Presigner, SigningCredentials
from avion_media.backends.store.requests import ForBotocore, Requests
from avion_media.common.errors import ObjectMissing, PreconditionFailed, Unavailable
from tests.conftest import S3Bucket
from tests.services.faulty_gateway import faulty_gateway

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


def putting(key: str = KEY, *, metadata: dict[str, str] | None = None, only_if_absent: bool = False) -> PutRequest:
    return PutRequest(key, "image/jpeg", metadata or {}, "no-store", only_if_absent)


@pytest.mark.parametrize("byte_range", [None, (10, 99), (0, 0), (None, 7), (len(BODY) - 1, None)])
async def test_get_and_head_answer_as_botocore_does(filled: S3Bucket, byte_range: Any) -> None:
    theirs = filled.client.head_object(Bucket=filled.bucket, Key=KEY)
    async with requests(filled) as quick:
        part = await quick.get(PartRequest(KEY, byte_range, None, len(BODY)))
        head = await quick.head(KEY)
    assert isinstance(part, ObjectPart)
    assert part.info == head == object_info(KEY, theirs)
    assert head.metadata == METADATA
    first, last = byte_range or (0, None)
    assert part.data == (BODY[-(last or 0) :] if first is None else BODY[first : None if last is None else last + 1])
    assert (part.content_range is None) == (byte_range is None)


async def test_what_is_not_there_or_another_is_told(filled: S3Bucket) -> None:
    async with requests(filled) as quick:
        with pytest.raises(ObjectMissing):
            await quick.get(PartRequest("nothing", None, None, 10))
        with pytest.raises(ObjectMissing):
            await quick.head("nothing")
        with pytest.raises(PreconditionFailed):
            await quick.get(PartRequest(KEY, None, "other", len(BODY)))
        with pytest.raises(RangeNotSatisfiable):
            await quick.get(PartRequest(KEY, (999_999, None), None, len(BODY)))
        with pytest.raises(TooLarge):
            await quick.get(PartRequest(KEY, None, None, len(BODY) - 1))
        with pytest.raises(PreconditionFailed):
            await quick.put(putting(only_if_absent=True), BytesSource(b"second"))
        assert isinstance(await quick.put(putting("first", only_if_absent=True), BytesSource(b"first")), str)


async def test_a_store_that_takes_no_presigned_requests_is_asked_by_botocore_from_then_on(s3: S3Bucket) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key=KEY, Body=BODY)
    async with requests(s3, secret_key="wrong") as quick, open_store(s3.config()) as store:
        assert await quick.get(PartRequest(KEY, None, None, 1)) == ForBotocore(403)
        await store.wait_available()
        store._connection.clients._requests = quick
        for _ in range(2):
            assert (await store.read_part(KEY, max_bytes=len(BODY))).data == BODY
            assert quick.refused == {"GetObject"}
        assert not store.can_relay
        with tempfile.TemporaryFile() as file:
            await store.download(KEY, file.fileno(), max_bytes=len(BODY))
            assert file.read() == BODY
        assert (await store.head(KEY)).size_bytes == len(BODY)
        with pytest.raises(PreconditionFailed):
            await store.put(KEY, b"second", content_type="image/jpeg", only_if_absent=True)
        await store.put(KEY, b"third", content_type="image/jpeg")
        assert [keys async for keys in store.list_keys("original/")] == [[KEY]]
        await store.delete([KEY])
        assert not await store.exists(KEY)
        assert quick.refused == {"GetObject", "HeadObject", "PutObject", "ListObjectsV2", "DeleteObject"}


METADATA = {"width": "48", "blurhash": "LEHV6nWB2y#$%*+,-.:;=?@[]^_{|}~"}


@pytest.mark.parametrize("from_file", [True, False])
async def test_a_put_writes_what_botocores_does(either_s3: S3Bucket, from_file: bool) -> None:
    body = BODY * 40  # three pieces
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + body)
        file.flush()
        source = FileSource(file.fileno(), len(body), offset=6) if from_file else BytesSource(body)
        async with requests(either_s3) as quick:
            etag = await quick.put(putting(metadata=METADATA), source)

    there = either_s3.client.get_object(Bucket=either_s3.bucket, Key=KEY)
    assert there["Body"].read() == body
    assert (there["ETag"], there["ContentType"]) == (f'"{etag}"', "image/jpeg")
    assert (there["Metadata"], there["CacheControl"]) == (METADATA, "no-store")


@pytest.mark.parametrize("is_right", [True, False])
async def test_the_store_checks_a_file_by_the_sha256_that_is_known(s3: S3Bucket, is_right: bool) -> None:
    """Ceph refuses other bytes, for example damaged ones. Then botocore makes its own hash."""
    with tempfile.TemporaryFile() as file:
        file.write(BODY)
        file.flush()
        known = hashlib.sha256(BODY if is_right else b"other bytes").hexdigest()
        source = FileSource(file.fileno(), len(BODY), sha256=known)
        async with requests(s3) as quick:
            assert isinstance(await quick.put(putting(), source), str if is_right else ForBotocore)
        async with open_store(s3.config()) as store:
            await store.put(KEY, source, content_type="image/jpeg")
    assert s3.client.get_object(Bucket=s3.bucket, Key=KEY)["Body"].read() == BODY


async def test_a_file_that_is_shorter_than_it_was_said_to_be_is_not_the_stores_fault(s3: S3Bucket) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(BODY)
        file.flush()
        async with open_store(s3.config()) as store:
            await store.wait_available()
            for more in (1, 2 << 20):
                with pytest.raises(OSError, match="shorter"):
                    await store.put(KEY, FileSource(file.fileno(), len(BODY) + more, sha256="0" * 64), content_type="")
            assert not await store.exists(KEY)
            assert store.available


@pytest.mark.parametrize("value", ["two  spaces", " at the start"])
async def test_metadata_that_a_signature_would_change_is_botocores_to_send(s3: S3Bucket, value: str) -> None:
    async with requests(s3) as quick:
        assert await quick.put(putting(metadata={"note": value}), BytesSource(BODY)) == ForBotocore(0)


async def test_a_delete_removes_and_needs_nothing_to_remove(filled: S3Bucket) -> None:
    async with requests(filled) as quick:
        for _ in range(2):
            with suppress(ObjectMissing):  # Ceph calls it so, AWS does not
                assert await quick.delete(KEY) is None
    assert not filled.client.list_objects_v2(Bucket=filled.bucket).get("Contents")


async def test_a_kept_connection_that_the_store_has_closed_costs_no_error(s3: S3Bucket) -> None:
    async with requests(s3) as quick:
        for request in (quick.put(putting(), BytesSource(BODY)), quick.head(KEY), quick.delete(KEY)):
            for _, wire in quick._http._kept:
                wire._tcp._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
                wire.is_quiet = lambda: True  # type: ignore[method-assign] # as if the end came only now
            assert not isinstance(await request, ForBotocore)
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
        await store.wait_available()
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
