"""The origin's redirect mode: the store itself serves, by short-lived URLs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import encode_id, original_key, thumbnail_key


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"HTTP__MODE": "redirect", "HTTP__REDIRECT_TTL": "10m"}


def follow(response: httpx.Response) -> httpx.Response:
    return httpx.get(response.headers["Location"], trust_env=False, verify=False, timeout=30)


def test_media_and_thumbnails_are_redirected_to_the_store(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, data_directory: Path
) -> None:
    status = service.upload("cat.jpg", "image/jpeg", (data_directory / "jpeg-orientation-6.jpg").read_bytes())
    for path in (f"/media/{status.media_id}", status.thumbnails["small"]):
        response = service.get(path)
        assert response.status_code == 307
        assert response.headers["Cache-Control"] == "public, max-age=300"  # half of the URL's life
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        location = urlsplit(response.headers["Location"])
        assert location.netloc == urlsplit(bucket.address.endpoint_url).netloc
        assert parse_qs(location.query)["X-Amz-Expires"] == ["600"]
        served = follow(response)
        assert served.status_code == 200
        assert served.content.startswith(b"\xff\xd8\xff")
        assert served.headers["Content-Type"] == "image/jpeg"
        assert served.headers["Content-Disposition"] == "inline"
        signed_for_get = httpx.head(response.headers["Location"], trust_env=False, verify=False)
        assert signed_for_get.status_code == 403
        head = httpx.head(service.http_url + path, trust_env=False, verify=False)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("Content-Type", "Content-Length", "Content-Disposition", "ETag", "Last-Modified"):
            assert head.headers[name] == served.headers[name]

    redis_client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [status.media_id]})})
    eventually(lambda: service.status(status.media_id).state == wire.MediaStatus.DELETED, "the tombstone")
    assert service.get(f"/media/{status.media_id}").status_code == 410


def test_the_console_may_show_what_the_store_serves(service: Service, bucket: S3Bucket) -> None:
    policy = httpx.get(f"{service.admin_url}/console", trust_env=False, verify=False).headers["Content-Security-Policy"]
    assert f"img-src 'self' data: {service.http_url} {bucket.address.endpoint_url};" in policy


def test_a_private_file_is_kept_no_longer_than_its_url(service: Service, bucket: S3Bucket) -> None:
    private = encode_id(datetime.now(UTC), 0x80 | 2, 7)
    bucket.client.put_object(Bucket=bucket.bucket, Key=thumbnail_key(private, "small"), Body=b"private")
    request = wire.SignMediaUrlsRequest(media_ids=[private])
    token = service.call("SignMediaUrls", request, wire.SignMediaUrlsResponse).tokens[private]
    moved = service.get(f"/thumbnail/small/{private}/{token}")
    assert (moved.status_code, moved.headers["Cache-Control"]) == (307, "private, max-age=30")
    assert "X-Amz-Expires=60&" in moved.headers["Location"]
    served = follow(moved)
    assert (served.content, served.headers["Cache-Control"]) == (b"private", "private, max-age=60")


def test_what_is_not_there_is_not_redirected(service: Service) -> None:
    response = service.get(f"/media/{encode_id(datetime(2025, 1, 1, tzinfo=UTC), 1, 1)}")
    assert (response.status_code, response.headers["Cache-Control"]) == (404, "public, max-age=10")


def test_what_no_probe_of_ours_knows_is_a_download_there_too(service: Service, bucket: S3Bucket) -> None:
    media_id = encode_id(datetime.now(UTC), 1, 9)
    bucket.client.put_object(
        Bucket=bucket.bucket, Key=original_key(media_id), Body=b"<script>", ContentType="text/html"
    )
    served = follow(service.get(f"/media/{media_id}"))
    assert served.headers["Content-Type"] == "application/octet-stream"
    assert served.headers["Content-Disposition"] == "attachment"
