"""Bad input: each kind has a code of its own (docs/errors.md), and leaves nothing behind in the store or the queue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import encode_id, error_reason, events_of, keys_of, unfinished, violations

ERRORS = Path(__file__).parents[2] / "docs" / "errors.md"


def documented() -> set[str]:
    """Every code that docs/errors.md has in backticks."""
    return set(re.findall(r"`([A-Za-z0-9_]+)`", ERRORS.read_text()))


@pytest.fixture(autouse=True)
def nothing_left(service: Service, bucket: S3Bucket, redis_client: redis.Redis) -> Iterator[None]:
    """After each test: nothing under incoming/, nothing in the queues, no dead letter, and the service still works."""
    yield
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")
    assert "Contents" not in bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="incoming/")
    assert service.ready()


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"filename": ""}, "filename", "FILENAME_REQUIRED"),
        ({"filename": "  "}, "filename", "FILENAME_REQUIRED"),
        ({"filename": "x" * 300 + ".jpg"}, "filename", "FILENAME_TOO_LONG"),
        ({"filename": "../cat.jpg"}, "filename", "FILENAME_INVALID"),
        ({"filename": "cat\x00.jpg"}, "filename", "FILENAME_INVALID"),
        ({"filename": "cat.mp4"}, "filename", "EXTENSION_MISMATCH"),
        ({"content_type": ""}, "content_type", "CONTENT_TYPE_REQUIRED"),
        ({"content_type": "image/svg+xml"}, "content_type", "CONTENT_TYPE_UNSUPPORTED"),
        ({"content_type": "text/html"}, "content_type", "CONTENT_TYPE_UNSUPPORTED"),
        ({"filename": "cat.heic", "content_type": "image/heic"}, "content_type", "CONTENT_TYPE_DISABLED"),
        ({"size": 0}, "size", "SIZE_ZERO"),
        ({"size": -1}, "size", "SIZE_NEGATIVE"),
        ({"size": (16 << 20) + 1}, "size", "SIZE_TOO_LARGE"),
        ({"size": 2**62}, "size", "SIZE_TOO_LARGE"),
        ({"sha256": b"short"}, "sha256", "SHA256_LENGTH"),
    ],
)
def test_a_bad_field_is_named_with_its_reason(
    service: Service, changed: dict[str, object], field: str, reason: str
) -> None:
    good: dict[str, object] = {"filename": "cat.jpg", "content_type": "image/jpeg", "size": 1000}
    with pytest.raises(grpc.RpcError) as caught:
        service.request_upload(**(good | changed))  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(caught.value) == {field: reason}
    assert reason in documented()


def test_all_bad_fields_are_told_at_once(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.request_upload("", "", -1, b"x")
    assert violations(caught.value) == {
        "filename": "FILENAME_REQUIRED",
        "content_type": "CONTENT_TYPE_REQUIRED",
        "size": "SIZE_NEGATIVE",
        "sha256": "SHA256_LENGTH",
    }


def test_the_largest_sizes_are_accepted(service: Service) -> None:
    assert service.request_upload("cat.jpg", "image/jpeg", 16 << 20).media_id
    assert service.request_upload("cat.mp4", "video/mp4", 256 << 20).media_id


@pytest.mark.parametrize("body", [b"x" * 99, b"x" * 101, b""], ids=["short", "long", "empty"])
def test_the_store_refuses_another_length(service: Service, bucket: S3Bucket, body: bytes) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 100)
    assert service.put(granted, body).status_code == 403
    assert keys_of(bucket, granted.media_id) == set()


def test_the_store_refuses_another_type(service: Service, bucket: S3Bucket) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 100)
    for headers in ({"Content-Type": "text/html"}, {}):
        response = httpx.put(granted.upload_url, content=b"x" * 100, headers=headers, trust_env=False, verify=False)
        assert response.status_code == 403
    assert keys_of(bucket, granted.media_id) == set()


def test_the_store_refuses_another_key(service: Service, bucket: S3Bucket) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 100)
    url = granted.upload_url.replace("/incoming/", "/original/")
    response = httpx.put(url, content=b"x" * 100, headers=dict(granted.upload_headers), trust_env=False, verify=False)
    assert response.status_code == 403
    assert keys_of(bucket, granted.media_id) == set()


def test_the_store_refuses_other_bytes_than_declared(service: Service, bucket: S3Bucket, data_directory: Path) -> None:
    body = (data_directory / "jpeg-gray.jpg").read_bytes()
    granted = service.request_upload("cat.jpg", "image/jpeg", len(body), hashlib.sha256(body).digest())
    assert service.put(granted, bytes([body[0] ^ 1]) + body[1:]).status_code == 400
    bare = {"Content-Type": "image/jpeg"}
    assert httpx.put(granted.upload_url, content=body, headers=bare, trust_env=False, verify=False).status_code == 403
    assert keys_of(bucket, granted.media_id) == set()
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY


def test_the_url_ends(service: Service, bucket: S3Bucket) -> None:
    """Its date and life are signed too."""
    granted = service.request_upload("cat.jpg", "image/jpeg", 100)
    longer = re.sub(r"X-Amz-Expires=\d+", "X-Amz-Expires=604800", granted.upload_url)
    assert longer != granted.upload_url
    response = httpx.put(
        longer, content=b"x" * 100, headers=dict(granted.upload_headers), trust_env=False, verify=False
    )
    assert response.status_code == 403
    assert keys_of(bucket, granted.media_id) == set()


def test_completing_what_was_never_uploaded(service: Service) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 100)
    with pytest.raises(grpc.RpcError) as caught:
        service.complete(granted.media_id)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_reason(caught.value) == "NOTHING_UPLOADED"
    assert error_reason(caught.value) in documented()


def test_completing_what_nobody_knows(service: Service) -> None:
    unknown = encode_id(datetime.now(UTC) - timedelta(days=1), 1, 12345)
    with pytest.raises(grpc.RpcError) as caught:
        service.complete(unknown)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        service.complete("ab" * 32)
    assert violations(caught.value) == {"media_id": "MEDIA_ID_REMOTE"}


JPEG, PNG, GIF, MP4, WEBM = "image/jpeg", "image/png", "image/gif", "video/mp4", "video/webm"


@pytest.mark.parametrize(
    ("name", "content_type", "reason"),
    [
        ("pdf.pdf", JPEG, "unsupported_type"),
        ("svg-script.svg", PNG, "unsupported_type"),
        ("html-named.jpg", JPEG, "unsupported_type"),
        ("heic-iphone7plus-gps-p3.heic", JPEG, "unsupported_type"),
        ("jpeg-gray.jpg", MP4, "type_mismatch"),
        ("mp4-h264-faststart.mp4", JPEG, "type_mismatch"),
        ("webm-vp8.webm", GIF, "type_mismatch"),
        ("random-bytes.mp4", MP4, "unknown_type"),
        ("jpeg-corrupt-header.jpg", JPEG, "corrupt"),
        ("jpeg-truncated-half.jpg", JPEG, "corrupt"),
        ("png-truncated-half.png", PNG, "corrupt"),
        ("mp4-truncated-moov-at-end.mp4", MP4, "corrupt"),
        ("mp4-audio-only.mp4", MP4, "no_video"),
        ("mp4-h264-faststart.mp4", "audio/mp4", "several_tracks"),
        ("mp4-init-segment-no-frames.mp4", MP4, "encrypted"),
        ("ogg-opus-cover.opus", MP4, "type_mismatch"),
        ("bomb-png-30000x30000-gray8.png", PNG, "too_many_pixels"),
        ("mov-external-dref-alis.mov", MP4, "external_reference"),
    ],
)
def test_bad_content_fails_with_its_reason(
    service: Service,
    bucket: S3Bucket,
    redis_client: redis.Redis,
    data_directory: Path,
    name: str,
    content_type: str,
    reason: str,
) -> None:
    status = service.upload("upload", content_type, (data_directory / name).read_bytes())
    assert (status.state, status.reason, status.retryable) == (wire.MediaStatus.FAILED, reason, False)
    assert reason in documented()
    eventually(lambda: not keys_of(bucket, status.media_id), "the upload to be removed")
    (event,) = events_of(redis_client, status.media_id)
    assert (event["type"], event["reason"]) == ("media.failed", reason)
    assert service.get(f"/media/{status.media_id}").status_code == 404
    service.complete(status.media_id)  # no second task for what has failed
    assert service.status(status.media_id) == status


def test_an_empty_object_is_empty(service: Service, bucket: S3Bucket, redis_client: redis.Redis) -> None:
    """No URL is given out for one, but a foreign producer may name one."""
    media_id = encode_id(datetime.now(UTC), 1, 777)
    bucket.client.put_object(Bucket=bucket.bucket, Key=f"incoming/{media_id}", Body=b"")
    redis_client.xadd("media_processing_queue", {"task_id": "theirs", "media_id": media_id, "type": "thumbnail"})
    (event,) = eventually(lambda: events_of(redis_client, media_id), "the event")
    assert (event["type"], event["reason"]) == ("media.failed", "empty")
    assert service.status(media_id).reason == "empty"


def test_a_task_for_what_is_not_there_is_missing(service: Service, redis_client: redis.Redis) -> None:
    media_id = encode_id(datetime.now(UTC), 1, 778)
    redis_client.xadd("media_processing_queue", {"task_id": "theirs", "media_id": media_id, "type": "thumbnail"})
    (event,) = eventually(lambda: events_of(redis_client, media_id), "the event")
    assert (event["type"], event["reason"]) == ("media.failed", "missing")
    assert service.status(media_id).retryable


def test_an_object_beyond_the_limit_is_too_large(service: Service, bucket: S3Bucket, redis_client: redis.Redis) -> None:
    media_id = encode_id(datetime.now(UTC), 1, 779)
    body = b"\xff\xd8\xff" + bytes(16 << 20)
    bucket.client.put_object(Bucket=bucket.bucket, Key=f"incoming/{media_id}", Body=body)
    redis_client.xadd("media_processing_queue", {"task_id": "theirs", "media_id": media_id, "type": "thumbnail"})
    (event,) = eventually(lambda: events_of(redis_client, media_id), "the event")
    assert (event["type"], event["reason"]) == ("media.failed", "too_large")


def test_a_second_put_after_completing_changes_nothing(
    service: Service, bucket: S3Bucket, data_directory: Path
) -> None:
    """The URL can be replayed until it ends; what was published stays what it was."""
    body = (data_directory / "jpeg-gray.jpg").read_bytes()
    granted = service.request_upload("cat.jpg", "image/jpeg", len(body))
    service.put(granted, body)
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    served = service.get(f"/media/{granted.media_id}").content
    assert service.put(granted, bytes(len(body))).status_code == 200
    service.complete(granted.media_id)
    assert service.get(f"/media/{granted.media_id}").content == served
    assert service.status(granted.media_id).state == wire.MediaStatus.READY
    bucket.client.delete_object(Bucket=bucket.bucket, Key=f"incoming/{granted.media_id}")  # else the lifecycle rule's
