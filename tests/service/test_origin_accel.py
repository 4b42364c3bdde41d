"""The origin's mode `accel` behind a real nginx: the service decides, nginx fetches the bytes from the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import encode_id, original_key, thumbnail_key
from tests.services import accelerating_nginx
from tests.services.process import free_port

BODY = bytes(range(256)) * 2000
IMMUTABLE = "public, max-age=31536000, immutable"
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


@pytest.fixture(scope="module")
def front(redis_of_module: str, bucket: S3Bucket) -> Iterator[tuple[str, Service]]:
    """nginx, and the service behind it."""
    origin_port = free_port()
    store = bucket.address.endpoint_url.removeprefix("http://")
    environment = service_environment(
        redis_of_module,
        bucket.address.endpoint_url,
        bucket.bucket,
        HTTP__BIND=f"127.0.0.1:{origin_port}",
        HTTP__MODE="accel",
    )
    with accelerating_nginx(origin_port, store) as url, running(environment, roles="http,grpc,events") as service:
        yield url, service


@pytest.fixture(scope="module")
def media_id(bucket: S3Bucket) -> str:
    """A media item with a thumbnail."""
    made = encode_id(datetime.now(UTC), 2, 7)
    facts = {"type": "png", "width": "1", "height": "1"}
    bucket.client.put_object(
        Bucket=bucket.bucket, Key=original_key(made), Body=BODY, ContentType="text/html", Metadata=facts
    )
    bucket.client.put_object(Bucket=bucket.bucket, Key=thumbnail_key(made, "small"), Body=b"jpeg")
    return made


def get(url: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(url, headers=named, trust_env=False, verify=False, timeout=30)


def test_nginx_serves_what_the_service_hands_over(front: tuple[str, Service], media_id: str) -> None:
    url, service = front
    handed = service.get(f"/media/{media_id}")
    assert handed.content == b""
    assert handed.headers["X-Accel-Redirect"].startswith("/_store/")
    for path, body in ((f"/media/{media_id}", BODY), (f"/thumbnail/small/{media_id}", b"jpeg")):
        response = get(url + path)
        assert (response.status_code, response.content) == (200, body)
        assert response.headers["Cache-Control"] == IMMUTABLE
        assert response.headers["Content-Type"] == handed.headers["Content-Type"] or path.startswith("/thumbnail")
        assert {name: response.headers.get(name) for name in SAFETY} == SAFETY
        assert "X-Accel-Redirect" not in response.headers
        assert not [name for name in response.headers if name.startswith("x-amz-meta")]
    assert get(f"{url}/thumbnail/small/{media_id}?utm=x").headers["Content-Type"] == "image/jpeg"


def test_ranges_and_conditions_reach_the_store(front: tuple[str, Service], media_id: str) -> None:
    path = f"{front[0]}/media/{media_id}"
    etag = get(path).headers["ETag"]
    part = get(path, Range="bytes=10-19")
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (
        206,
        BODY[10:20],
        f"bytes 10-19/{len(BODY)}",
    )
    assert get(path, If_None_Match=etag).status_code == 304
    assert get(path, Range="bytes=99999999-").status_code == 416
    head = httpx.head(path, trust_env=False, verify=False)
    assert (head.status_code, head.headers["Content-Length"], head.headers["ETag"]) == (200, str(len(BODY)), etag)


def test_nothing_of_private_media_is_kept(front: tuple[str, Service], bucket: S3Bucket) -> None:
    url, service = front
    private = encode_id(datetime.now(UTC), 0x80 | 2, 7)
    bucket.client.put_object(Bucket=bucket.bucket, Key=thumbnail_key(private, "small"), Body=b"private")
    request = wire.SignMediaUrlsRequest(media_ids=[private])
    token = service.call("SignMediaUrls", request, wire.SignMediaUrlsResponse).tokens[private]
    response = get(f"{url}/thumbnail/small/{private}/{token}")
    assert (response.status_code, response.content) == (200, b"private")
    assert response.headers["Cache-Control"] == "private, max-age=0"
    assert (response.headers["Referrer-Policy"], response.headers["X-Robots-Tag"]) == ("no-referrer", "noindex")
    assert "X-Robots-Tag" not in get(f"{url}/thumbnail/small/{private}").headers
    revoked = wire.RevokeMediaUrlsRequest(media_ids=[private])
    service.call("RevokeMediaUrls", revoked, wire.RevokeMediaUrlsResponse)
    assert get(f"{url}/thumbnail/small/{private}/{token}").status_code == 403


def test_nobody_reaches_the_store_but_through_the_service(front: tuple[str, Service], bucket: S3Bucket) -> None:
    for path in (f"/_store/{bucket.bucket}/", "/_store_failed", "/media/../_store/x"):
        assert get(front[0] + path).status_code == 404


def test_what_the_store_refuses_is_503_and_not_kept(
    front: tuple[str, Service], media_id: str, bucket: S3Bucket
) -> None:
    origin_port = int(front[1].http_url.rpartition(":")[2])
    store = bucket.address.endpoint_url.removeprefix("http://")
    with accelerating_nginx(origin_port, store, signed_host="another.example") as url:  # so no signature fits
        response = get(f"{url}/media/{media_id}")
    assert response.status_code == 503
    assert "immutable" not in response.headers.get("Cache-Control", "")
    assert b"Signature" not in response.content


def test_what_is_not_there_is_the_services_answer(front: tuple[str, Service]) -> None:
    missing = get(f"{front[0]}/media/{encode_id(datetime(2025, 1, 1, tzinfo=UTC), 2, 9)}")
    assert (missing.status_code, missing.headers["Cache-Control"]) == (404, "public, max-age=10")


def test_what_was_deleted_is_410(
    front: tuple[str, Service], media_id: str, redis_client: redis.Redis, bucket: S3Bucket
) -> None:
    redis_client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [media_id]})})
    eventually(lambda: get(f"{front[0]}/media/{media_id}").status_code == 410, "the tombstone")
