"""GetObject by a presigned URL says what botocore's own would, and leaves to it what it does not understand."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from avion_media.domain.errors import Unavailable
from avion_media.store import open_store
from avion_media.store.presign import Presigner, SigningCredentials
from avion_media.store.quick_get import QuickGet, open_session
from tests.conftest import S3Bucket

KEY = "original/2026/11/25/a b+c~ü.jpg"
BODY = bytes(range(256)) * 300


class Counted:
    """A client of botocore's, and how often it was asked."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls = 0

    def get_object(self, **request: Any) -> Any:
        self.calls += 1
        return self._client.get_object(**request)


@pytest.fixture
def client(either_s3: S3Bucket) -> Counted:
    metadata = {"width": "48", "blurhash": "LEHV6nWB2yk8"}
    either_s3.client.put_object(
        Bucket=either_s3.bucket, Key=KEY, Body=BODY, ContentType="image/jpeg", Metadata=metadata
    )
    return Counted(either_s3.client)


def quick_get(bucket: S3Bucket, secret_key: str | None = None) -> QuickGet:
    address = bucket.address
    credentials = SigningCredentials(address.access_key, secret_key or address.secret_key, "")
    return QuickGet(open_session((3, 10), 4), Presigner(address.endpoint_url, bucket.bucket, "us-east-1", credentials))


@pytest.mark.parametrize("more", [{}, {"Range": "bytes=10-99"}, {"Range": "bytes=-7"}])
def test_it_answers_as_botocore_does(either_s3: S3Bucket, client: Counted, more: dict[str, str]) -> None:
    request = {"Bucket": either_s3.bucket, "Key": KEY, **more}
    theirs = either_s3.client.get_object(**request)  # type: ignore[arg-type]
    expected = {name: value for name, value in theirs.items() if name in EXPECTED}

    ours = quick_get(either_s3)(client, request)  # type: ignore[arg-type]

    assert client.calls == 0
    assert ours.pop("Body").read() == theirs["Body"].read()
    assert ours == expected


EXPECTED = {"ContentLength", "ETag", "LastModified", "Metadata", "ContentType", "ContentRange"}


def test_what_is_not_there_is_told_by_one_request(either_s3: S3Bucket, client: Counted) -> None:
    with pytest.raises(ClientError) as caught:
        quick_get(either_s3)(client, {"Bucket": either_s3.bucket, "Key": "nothing"})  # type: ignore[arg-type]
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"
    assert client.calls == 0


@pytest.mark.parametrize(
    ("more", "code"), [({"IfMatch": '"other"'}, "PreconditionFailed"), ({"Range": "bytes=99999999-"}, "InvalidRange")]
)
def test_refusals_are_botocores_to_tell(either_s3: S3Bucket, client: Counted, more: dict[str, str], code: str) -> None:
    get = quick_get(either_s3)
    request = {"Bucket": either_s3.bucket, "Key": KEY}
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            get(client, {**request, **more})  # type: ignore[arg-type]
        assert caught.value.response["Error"]["Code"] in (code, code.replace("PreconditionFailed", "412"))
    assert client.calls == 2
    assert get(client, request)["Body"].read() == BODY  # type: ignore[arg-type]
    assert client.calls == 2  # and no reason to give up the quick way


def test_a_store_that_takes_no_presigned_get_is_asked_by_botocore_from_then_on(s3: S3Bucket) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key=KEY, Body=BODY)
    client, get = Counted(s3.client), quick_get(s3, secret_key="wrong")
    for calls in (1, 2):
        assert get(client, {"Bucket": s3.bucket, "Key": KEY})["Body"].read() == BODY  # type: ignore[arg-type]
        assert client.calls == calls
    assert get._refused


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


async def test_a_profile_that_does_not_exist_is_a_store_that_is_away(
    s3: S3Bucket, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_PROFILE", "nobody")
    async with open_store(s3.config()) as store:
        with pytest.raises(Unavailable):
            await store.head("a")
