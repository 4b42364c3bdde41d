"""The origin's answers, header by header (contract, section 5), and the admin port."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import encode_id, original_key, thumbnail_key

IMMUTABLE = "public, max-age=31536000, immutable"
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
UNKNOWN_ID = encode_id(datetime(2025, 1, 1, tzinfo=UTC), 1, 1)
UNKNOWN_HASH = "0" * 64


@pytest.fixture(scope="module")
def medium(service: Service, data_directory: Path) -> wire.MediaStatus:
    """A picture that is served."""
    status = service.upload("cat.jpg", "image/jpeg", (data_directory / "jpeg-orientation-6.jpg").read_bytes())
    assert status.state == wire.MediaStatus.READY
    return status


@pytest.fixture(scope="module")
def content(medium: wire.MediaStatus, bucket: S3Bucket) -> bytes:
    """What the store holds of it."""
    return bucket.client.get_object(Bucket=bucket.bucket, Key=original_key(medium.media_id))["Body"].read()


@pytest.fixture
def path(medium: wire.MediaStatus) -> str:
    """Of the original on the origin."""
    return f"/media/{medium.media_id}"


def check_safety(response: httpx.Response) -> None:
    assert {name: response.headers.get(name) for name in SAFETY} == SAFETY
    assert "server" not in response.headers


def test_a_medium_is_served_whole(service: Service, path: str, content: bytes) -> None:
    response = service.get(path)
    assert response.status_code == 200
    assert response.content == content
    check_safety(response)
    assert response.headers["Cache-Control"] == IMMUTABLE
    assert response.headers["Content-Type"] == "image/jpeg"
    assert response.headers["Content-Disposition"] == "inline"
    assert response.headers["Content-Length"] == str(len(content))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["ETag"].startswith('"')
    assert response.headers["ETag"].endswith('"')
    age = datetime.now(UTC) - parsedate_to_datetime(response.headers["Last-Modified"])
    assert timedelta(seconds=-5) < age < timedelta(minutes=5)


def test_a_thumbnail_of_a_size_that_is_not_configured_any_more_is_served(
    service: Service, medium: wire.MediaStatus, bucket: S3Bucket
) -> None:
    path = f"/thumbnail/former/{medium.media_id}"
    assert service.get(path).status_code == 404
    bucket.client.put_object(Bucket=bucket.bucket, Key=thumbnail_key(medium.media_id, "former"), Body=b"jpeg")
    response = service.get(path)
    assert (response.status_code, response.content) == (200, b"jpeg")
    assert response.headers["Content-Type"] == "image/jpeg"
    check_safety(response)


def test_thumbnails_are_served_as_jpeg(service: Service, medium: wire.MediaStatus) -> None:
    for path in medium.thumbnails.values():
        response = service.get(path)
        assert response.status_code == 200
        assert response.content.startswith(b"\xff\xd8\xff")
        assert response.headers["Content-Type"] == "image/jpeg"
        assert response.headers["Cache-Control"] == IMMUTABLE
        assert response.headers["Content-Disposition"] == "inline"
        check_safety(response)


def test_head_says_what_get_would(service: Service, path: str, medium: wire.MediaStatus) -> None:
    for each in (path, medium.thumbnails["small"]):
        got = service.get(each)
        head = httpx.head(service.http_url + each, trust_env=False, verify=False)
        assert (head.status_code, head.content) == (200, b"")
        varying = {"date", "transfer-encoding", "server-timing"}
        told = {name: value for name, value in got.headers.items() if name not in varying}
        assert {name: value for name, value in head.headers.items() if name not in varying} == told
    missing = httpx.head(f"{service.http_url}/media/{UNKNOWN_ID}", trust_env=False, verify=False)
    assert (missing.status_code, missing.content) == (404, b"")


def test_server_timing_tells_whose_time_it_was(service: Service, path: str) -> None:
    for response in (service.get(path), service.get(f"/media/{UNKNOWN_ID}")):
        assert re.fullmatch(r"tombstone;dur=[0-9.]+, store;dur=[0-9.]+", response.headers["Server-Timing"])


def test_what_the_client_has_is_not_sent_again(service: Service, path: str) -> None:
    first = service.get(path)
    etag, modified = first.headers["ETag"], first.headers["Last-Modified"]
    later = format_datetime(parsedate_to_datetime(modified) + timedelta(hours=1), usegmt=True)
    for asked in (
        {"If_None_Match": etag},
        {"If_None_Match": f"W/{etag}"},
        {"If_None_Match": f'"other", {etag}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": modified},
        {"If_Modified_Since": later},
        {"If_None_Match": etag, "If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_None_Match": etag, "Range": "bytes=0-3"},
    ):
        response = service.get(path, **asked)
        assert (response.status_code, response.content) == (304, b""), asked
        assert response.headers["ETag"] == etag
        assert response.headers["Cache-Control"] == IMMUTABLE
        check_safety(response)


def test_a_list_in_several_lines_is_one_list(service: Service, path: str) -> None:
    etag = service.get(path).headers["ETag"]

    def status(*tags: str) -> int:
        lines = [("If-None-Match", tag) for tag in tags]
        return httpx.get(service.http_url + path, headers=lines, trust_env=False, verify=False).status_code

    assert status('"other"', etag) == status(etag, '"other"') == status('"a"', f'"b", {etag}', '"c"') == 304
    assert status('"other"', '"another"') == 200


def test_what_the_client_has_not_is_sent(service: Service, path: str, content: bytes) -> None:
    modified = service.get(path).headers["Last-Modified"]
    for asked in (
        {"If_None_Match": '"other"'},
        {"If_None_Match": '"other"', "If_Modified_Since": modified},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "yesterday"},
    ):
        response = service.get(path, **asked)
        assert (response.status_code, response.content) == (200, content), asked


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-10", slice(-10, None)),
        ("bytes=0-999999999", slice(0, None)),
        ("bytes=-999999999", slice(0, None)),
    ],
)
def test_a_single_range_is_served(service: Service, path: str, content: bytes, asked: str, part: slice) -> None:
    response = service.get(path, Range=asked)
    expected = content[part]
    first, last, _ = part.indices(len(content))
    assert response.status_code == 206
    assert response.content == expected
    assert response.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(content)}"
    assert response.headers["Content-Length"] == str(len(expected))
    assert response.headers["Cache-Control"] == IMMUTABLE
    assert response.headers["Content-Type"] == "image/jpeg"
    check_safety(response)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=5-1", "bytes=-", "nonsense"])
def test_other_ranges_are_answered_with_everything(service: Service, path: str, content: bytes, asked: str) -> None:
    response = service.get(path, Range=asked)
    assert (response.status_code, response.content) == (200, content)


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=999999999-1000000000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(service: Service, path: str, content: bytes, asked: str) -> None:
    response = service.get(path, Range=asked)
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(content)}"
    assert "immutable" not in response.headers["Cache-Control"]
    check_safety(response)


def test_if_range_lets_a_range_stand_only_for_the_same_version(service: Service, path: str, content: bytes) -> None:
    first = service.get(path)
    etag, modified = first.headers["ETag"], first.headers["Last-Modified"]
    for same in (etag, modified):
        assert service.get(path, Range="bytes=0-9", If_Range=same).content == content[:10]
    for other in ('"other"', f"W/{etag}", "Thu, 01 Jan 1970 00:00:00 GMT"):
        response = service.get(path, Range="bytes=0-9", If_Range=other)
        assert (response.status_code, response.content) == (200, content), other


@pytest.mark.parametrize(
    "missing",
    [
        f"/media/{UNKNOWN_ID}",
        f"/media/{UNKNOWN_HASH}",
        f"/thumbnail/small/{UNKNOWN_ID}",
        f"/thumbnail/small/{UNKNOWN_HASH}",
        "/media/nonsense",
        "/media/..%2f..%2fetc%2fpasswd",
        f"/thumbnail/huge/{UNKNOWN_ID}",
        f"/thumbnail/..%2f/{UNKNOWN_ID}",
        f"/thumbnail/Sm%C3%A4ll/{UNKNOWN_ID}",
        "/",
        "/incoming/x",
        "/metrics",
        "/readyz",
        "/tree",
    ],
)
def test_what_is_not_there_is_404_for_ten_seconds(service: Service, missing: str) -> None:
    response = service.get(missing)
    assert response.status_code == 404
    assert response.headers["Cache-Control"] == "public, max-age=10"
    check_safety(response)


def test_what_was_uploaded_but_not_processed_is_never_served(service: Service, bucket: S3Bucket) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 7)
    assert service.put(granted, b"<html/>").status_code == 200
    assert service.get(f"/media/{granted.media_id}").status_code == 404
    bucket.client.delete_object(Bucket=bucket.bucket, Key=f"incoming/{granted.media_id}")


def test_a_slash_too_many_leads_nowhere(service: Service, path: str) -> None:
    response = httpx.get(
        service.http_url + path + "/", headers={"Host": "elsewhere.example"}, trust_env=False, verify=False
    )
    assert response.status_code == 404
    check_safety(response)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405(service: Service, path: str, method: str) -> None:
    response = httpx.request(method, service.http_url + path, content=b"x" * 10, trust_env=False, verify=False)
    assert response.status_code == 405
    assert set(response.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}
    check_safety(response)


def test_what_was_deleted_is_410(service: Service, redis_client: redis.Redis, data_directory: Path) -> None:
    status = service.upload("cat.jpg", "image/jpeg", (data_directory / "jpeg-gray.jpg").read_bytes())
    redis_client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [status.media_id]})})
    eventually(lambda: service.status(status.media_id).state == wire.MediaStatus.DELETED, "the tombstone")
    etag = '"whatever"'
    for path in (f"/media/{status.media_id}", *status.thumbnails.values()):
        for response in (
            service.get(path),
            service.get(path, If_None_Match=etag),
            service.get(path, Range="bytes=0-1"),
        ):
            assert response.status_code == 410
            assert "immutable" not in response.headers["Cache-Control"]
            check_safety(response)
    assert httpx.head(f"{service.http_url}/media/{status.media_id}", trust_env=False, verify=False).status_code == 410


def test_types_that_are_not_accepted_are_downloads_not_pages(service: Service, bucket: S3Bucket) -> None:
    """Should anything else get into the bucket (another program, an older version), browsers do not open it."""
    media_id = encode_id(datetime.now(UTC), 1, 7)
    bucket.client.put_object(
        Bucket=bucket.bucket, Key=original_key(media_id), Body=b"<script>", ContentType="text/html"
    )
    response = service.get(f"/media/{media_id}")
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["Content-Type"] == "application/octet-stream"
    check_safety(response)


def test_the_admin_port(service: Service) -> None:
    def get(path: str) -> httpx.Response:
        return httpx.get(service.admin_url + path, trust_env=False, verify=False)

    assert get("/livez").status_code == 200
    ready = get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert ready.json()["dependencies"] == {"redis": "up", "store": "up"}
    metrics = get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE " in metrics.text
    tree = get("/tree").json()
    assert tree["name"] == "avion-media"
    assert get("/media/x").status_code == 404
