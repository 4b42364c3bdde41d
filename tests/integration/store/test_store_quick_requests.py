"""Requests by presigned URLs say what botocore's own would, and leave to it what they do not understand."""

from __future__ import annotations

import hashlib
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from botocore.exceptions import ClientError

from avion_media.domain.errors import Unavailable
from avion_media.store import FileSource, open_store
from avion_media.store.presign import Presigner, SigningCredentials
from avion_media.store.quick_requests import QuickRequests, open_session
from tests.conftest import S3Bucket
from tests.services.faulty_gateway import faulty_gateway

KEY = "original/2026/11/25/a b+c~ü.jpg"
BODY = bytes(range(256)) * 300


class Counted:
    """A client of botocore's, and how often it was asked."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(**request: Any) -> Any:
            self.calls += 1
            return getattr(self._client, name)(**request)

        return call


@pytest.fixture
def client(either_s3: S3Bucket) -> Counted:
    metadata = {"width": "48", "blurhash": "LEHV6nWB2yk8"}
    either_s3.client.put_object(
        Bucket=either_s3.bucket, Key=KEY, Body=BODY, ContentType="image/jpeg", Metadata=metadata
    )
    return Counted(either_s3.client)


def quick_requests(bucket: S3Bucket, secret_key: str | None = None) -> Any:
    address = bucket.address
    credentials = SigningCredentials(address.access_key, secret_key or address.secret_key, "")
    presigner = Presigner(address.endpoint_url, bucket.bucket, "us-east-1", credentials)
    return QuickRequests(open_session((3, 10), 4), presigner)


@pytest.mark.parametrize("more", [{}, {"Range": "bytes=10-99"}, {"Range": "bytes=-7"}])
def test_it_answers_as_botocore_does(either_s3: S3Bucket, client: Counted, more: dict[str, str]) -> None:
    request = {"Bucket": either_s3.bucket, "Key": KEY, **more}
    theirs = either_s3.client.get_object(**request)  # type: ignore[arg-type]
    expected = {name: value for name, value in theirs.items() if name in EXPECTED}

    ours = quick_requests(either_s3).get_object(client, request)

    assert client.calls == 0
    assert ours.pop("Body").read() == theirs["Body"].read()
    assert ours == expected


EXPECTED = {"ContentLength", "ETag", "LastModified", "Metadata", "ContentType", "ContentRange"}


def test_what_is_not_there_is_told_by_one_request(either_s3: S3Bucket, client: Counted) -> None:
    with pytest.raises(ClientError) as caught:
        quick_requests(either_s3).get_object(client, {"Bucket": either_s3.bucket, "Key": "nothing"})
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"
    assert client.calls == 0


@pytest.mark.parametrize(
    ("more", "code"), [({"IfMatch": '"other"'}, "PreconditionFailed"), ({"Range": "bytes=99999999-"}, "InvalidRange")]
)
def test_refusals_are_botocores_to_tell(either_s3: S3Bucket, client: Counted, more: dict[str, str], code: str) -> None:
    get = quick_requests(either_s3).get_object
    request = {"Bucket": either_s3.bucket, "Key": KEY}
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            get(client, {**request, **more})
        assert caught.value.response["Error"]["Code"] in (code, code.replace("PreconditionFailed", "412"))
    assert client.calls == 2
    assert get(client, request)["Body"].read() == BODY
    assert client.calls == 2  # and no reason to give up the quick way


def test_a_store_that_takes_no_presigned_get_is_asked_by_botocore_from_then_on(s3: S3Bucket) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key=KEY, Body=BODY)
    client, quick = Counted(s3.client), quick_requests(s3, secret_key="wrong")
    for calls in (1, 2):
        assert quick.get_object(client, {"Bucket": s3.bucket, "Key": KEY})["Body"].read() == BODY
        assert client.calls == calls
    assert quick._refused == {"GET"}


def test_a_head_answers_as_botocores_does(either_s3: S3Bucket, client: Counted) -> None:
    request = {"Bucket": either_s3.bucket, "Key": KEY}
    theirs = either_s3.client.head_object(Bucket=either_s3.bucket, Key=KEY)

    ours = quick_requests(either_s3).head_object(client, request)

    assert client.calls == 0
    assert ours == {name: value for name, value in theirs.items() if name in EXPECTED}
    with pytest.raises(ClientError) as caught:
        quick_requests(either_s3).head_object(client, {**request, "Key": "nothing"})
    assert caught.value.response["Error"]["Code"] == "404"
    assert client.calls == 0


METADATA = {"width": "48", "blurhash": "LEHV6nWB2y#$%*+,-.:;=?@[]^_{|}~"}


@pytest.mark.parametrize("from_file", [True, False])
def test_a_put_writes_what_botocores_does(either_s3: S3Bucket, from_file: bool) -> None:
    client, quick = Counted(either_s3.client), quick_requests(either_s3)
    body = BODY * 40  # three chunks of a file
    request = {
        "Bucket": either_s3.bucket,
        "Key": KEY,
        "ContentType": "image/jpeg",
        "Metadata": METADATA,
        "CacheControl": "no-store",
    }
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + body)
        file.flush()
        source = FileSource(file.fileno(), len(body), offset=6) if from_file else body
        answer = trio.run(trio.to_thread.run_sync, quick.put_object, client, request, source)

    assert client.calls == 0
    there = either_s3.client.get_object(Bucket=either_s3.bucket, Key=KEY)
    assert there["Body"].read() == body
    assert (there["ETag"], there["ContentType"]) == (answer["ETag"], "image/jpeg")
    assert (there["Metadata"], there["CacheControl"]) == (METADATA, "no-store")


def test_a_put_that_must_be_the_first_is_refused_by_one_request(either_s3: S3Bucket, client: Counted) -> None:
    request = {
        "Bucket": either_s3.bucket,
        "Key": KEY,
        "ContentType": "image/jpeg",
        "Metadata": {},
        "IfNoneMatch": "*",
    }
    with pytest.raises(ClientError) as caught:
        quick_requests(either_s3).put_object(client, request, b"second")
    assert caught.value.response["Error"]["Code"] == "PreconditionFailed"
    assert client.calls == 0
    assert quick_requests(either_s3).put_object(client, {**request, "Key": "first"}, b"first")["ETag"]


@pytest.mark.parametrize("is_right", [True, False])
def test_the_store_checks_a_file_by_the_sha256_that_is_known(s3: S3Bucket, is_right: bool) -> None:
    client, quick = Counted(s3.client), quick_requests(s3)
    request = {"Bucket": s3.bucket, "Key": KEY, "ContentType": "image/jpeg", "Metadata": METADATA}
    with tempfile.TemporaryFile() as file:
        file.write(BODY)
        file.flush()
        known = hashlib.sha256(BODY if is_right else b"other bytes").hexdigest()
        source = FileSource(file.fileno(), len(BODY), sha256=known)
        trio.run(trio.to_thread.run_sync, quick.put_object, client, request, source)
    assert client.calls == (0 if is_right else 1)  # botocore makes its own hash
    assert s3.client.get_object(Bucket=s3.bucket, Key=KEY)["Body"].read() == BODY


def test_a_put_that_was_damaged_on_its_way_is_refused(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ceph, for the SHA-256 that the URL signs; botocore sends it again."""
    client, quick = Counted(s3.client), quick_requests(s3)
    send = quick._session.send

    def damaged(request: Any) -> Any:
        request.body = b"damaged" + request.body[7:]
        return send(request)

    monkeypatch.setattr(quick._session, "send", damaged)
    request = {"Bucket": s3.bucket, "Key": KEY, "ContentType": "image/jpeg", "Metadata": METADATA}

    quick.put_object(client, request, BODY)

    assert client.calls == 1
    assert s3.client.get_object(Bucket=s3.bucket, Key=KEY)["Body"].read() == BODY


@pytest.mark.parametrize("value", ["two  spaces", " at the start"])
def test_metadata_that_a_signature_would_change_is_botocores_to_send(s3: S3Bucket, value: str) -> None:
    client = Counted(s3.client)
    request = {"Bucket": s3.bucket, "Key": KEY, "ContentType": "image/jpeg", "Metadata": {"note": value}}

    quick_requests(s3).put_object(client, request, BODY)

    assert client.calls == 1


def test_a_delete_removes_and_needs_nothing_to_remove(either_s3: S3Bucket, client: Counted) -> None:
    quick = quick_requests(either_s3)
    for _ in range(2):
        with suppress(ClientError):  # Ceph calls what is not there NoSuchKey, AWS does not
            quick.delete_object(client, {"Bucket": either_s3.bucket, "Key": KEY})
    assert client.calls == 0
    assert not either_s3.client.list_objects_v2(Bucket=either_s3.bucket).get("Contents")


def test_a_kept_connection_that_the_store_has_closed_costs_no_error(s3: S3Bucket) -> None:
    client, quick = Counted(s3.client), quick_requests(s3)
    request = {"Bucket": s3.bucket, "Key": KEY}
    put = {**request, "ContentType": "image/jpeg", "Metadata": {}}
    quick.put_object(client, put, BODY)
    (pool,) = quick._session._manager.pools._container.values()
    operations: list[Callable[[], Any]] = [
        lambda: quick.put_object(client, put, BODY),
        lambda: quick.head_object(client, request),
        lambda: quick.delete_object(client, request),
    ]
    for operation in operations:
        connection = pool._get_conn()
        connection.sock.shutdown(socket.SHUT_RDWR)
        pool._put_conn(connection)
        operation()
    assert not s3.client.list_objects_v2(Bucket=s3.bucket).get("Contents")


def test_certificates_are_looked_for_where_botocore_does(aws_environment: pytest.MonkeyPatch) -> None:
    def verify() -> Any:
        session: Any = open_session((3, 10), 4)
        return session._verify

    aws_environment.delenv("AWS_CA_BUNDLE", raising=False)
    aws_environment.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert verify() is True
    aws_environment.setenv("REQUESTS_CA_BUNDLE", "requests.pem")
    assert verify() == "requests.pem"
    aws_environment.setenv("AWS_CA_BUNDLE", "aws.pem")
    assert verify() == "aws.pem"


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
