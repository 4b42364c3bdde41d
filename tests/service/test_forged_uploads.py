"""A client adds headers to the PUT of its upload URL: it must neither read other objects nor open its upload to all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, running, service_environment

ALL_USERS = 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'
SECRET = b"a raw upload of somebody else, with where it was taken"
PROFILES = "[uploads]\naws_access_key_id = {}\naws_secret_access_key = {}\n"


@pytest.fixture(params=["one key", "put-only key"], scope="module")
def service(
    request: pytest.FixtureRequest,
    redis_of_process: str,
    redis_client: redis.Redis,
    bucket: S3Bucket,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Upload URLs are signed with the service's own key, or with one that may only write."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    if request.param == "put-only key":
        profiles: Path = tmp_path_factory.mktemp("aws") / "credentials"
        profiles.write_text(PROFILES.format(bucket.address.upload_access_key, bucket.address.upload_secret_key))
        environment["AWS_SHARED_CREDENTIALS_FILE"] = str(profiles)
        environment["AVION_MEDIA_S3__SIGNING_PROFILE"] = "uploads"
    with running(environment) as service:
        yield service


@pytest.fixture
def other_bucket(bucket: S3Bucket) -> Iterator[str]:
    """A bucket of the same user, with `SECRET` in it as ``secret``."""
    name = f"{bucket.bucket}-other"
    bucket.client.create_bucket(Bucket=name)
    bucket.client.put_object(Bucket=name, Key="secret", Body=SECRET)
    yield name
    bucket.client.delete_object(Bucket=name, Key="secret")
    bucket.client.delete_bucket(Bucket=name)


def forge(granted: wire.RequestMediaUploadResponse, body: bytes, headers: Mapping[str, str]) -> int:
    response = httpx.put(
        granted.upload_url, content=body, headers=dict(headers), trust_env=False, verify=False, timeout=20
    )
    return response.status_code


def anonymous_get(granted: wire.RequestMediaUploadResponse) -> int:
    return httpx.get(granted.upload_url.partition("?")[0], trust_env=False, verify=False, timeout=20).status_code


def variants(granted: wire.RequestMediaUploadResponse, added: dict[str, str]) -> list[dict[str, str]]:
    """With what was granted, and with what a stranger may have left out of it."""
    headers = dict(granted.upload_headers)
    return [headers | added, {"Content-Type": headers["Content-Type"]} | added]


@pytest.mark.parametrize("more", [{}, {"x-amz-metadata-directive": "REPLACE"}], ids=["copy", "copy with directive"])
def test_an_upload_url_reads_no_other_object(
    service: Service, bucket: S3Bucket, other_bucket: str, more: dict[str, str]
) -> None:
    somebody = service.request_upload("cat.jpg", "image/jpeg", len(SECRET))
    assert service.put(somebody, SECRET).status_code == 200

    for source in (f"/{other_bucket}/secret", f"/{bucket.bucket}/incoming/{somebody.media_id}"):
        granted = service.request_upload("cat.jpg", "image/jpeg", 5)
        for headers in variants(granted, {"x-amz-copy-source": source, **more}):
            assert forge(granted, b"hello", headers) in (403, 412)
        listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"incoming/{granted.media_id}")
        assert listed["KeyCount"] == 0


@pytest.mark.parametrize(
    "added",
    [
        {"x-amz-acl": "public-read"},
        {"x-amz-acl": "authenticated-read"},
        {"x-amz-grant-read": ALL_USERS},
        {"x-amz-grant-full-control": ALL_USERS},
    ],
    ids=lambda added: "=".join(*added.items()),
)
def test_an_upload_cannot_be_opened_to_others(service: Service, bucket: S3Bucket, added: dict[str, str]) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 5)

    for headers in variants(granted, added):
        assert forge(granted, b"hello", headers) in (400, 403)
        assert anonymous_get(granted) in (403, 404)
    assert service.put(granted, b"hello").status_code == 200
    assert anonymous_get(granted) == 403


def test_an_upload_that_only_its_client_can_read_is_no_upload(service: Service, bucket: S3Bucket) -> None:
    """Ceph obeys a customer key over TLS. What the service cannot read is a fault of its client, and no alarm."""
    key = b"a key that the service cannot know"[:32]
    customer = "x-amz-server-side-encryption-customer"
    encrypted = {
        f"{customer}-algorithm": "AES256",
        f"{customer}-key": base64.b64encode(key).decode(),
        f"{customer}-key-md5": base64.b64encode(hashlib.md5(key).digest()).decode(),
        "X-Forwarded-Proto": "https",  # as a proxy with TLS in front of the store says
    }
    granted = service.request_upload("cat.jpg", "image/jpeg", 5)
    assert forge(granted, b"hello", dict(granted.upload_headers) | encrypted) == 200

    with pytest.raises(grpc.RpcError) as refused:
        service.complete(granted.media_id)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    task = {"task_id": granted.media_id, "media_id": granted.media_id, "type": "thumbnail"}
    with redis.Redis.from_url(service.environment["AVION_MEDIA_REDIS__URL"]) as producer:
        producer.xadd("media_processing_queue", task)  # as if it had been replaced after a good one was completed
    status = service.watch(granted.media_id)[-1]
    assert (status.state, status.reason) == (wire.MediaStatus.FAILED, "missing")


def test_an_honest_upload_becomes_public(service: Service, data_directory: Path) -> None:
    body = (data_directory / "jpeg-gray.jpg").read_bytes()

    assert service.upload("cat.jpg", "image/jpeg", body).state == wire.MediaStatus.READY
