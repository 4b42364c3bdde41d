"""Private media behind the caches that we configure: nothing of them is kept, even where a setting allows it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import httpx

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import running, service_environment
from tests.service.published import encode_id, thumbnail_key
from tests.services import haproxy, nginx, varnish
from tests.services.process import free_port

PRIVATE_JPEG = 0x80 | 1
BODY = b"\xff\xd8\xff private"


def test_each_request_is_checked(redis_url: str, s3: S3Bucket) -> None:
    media_id = encode_id(datetime.now(UTC), PRIVATE_JPEG, secrets.randbits(72))
    s3.client.put_object(Bucket=s3.bucket, Key=thumbnail_key(media_id, "small"), Body=BODY)
    port = free_port()
    environment = service_environment(
        redis_url, s3.address.endpoint_url, s3.bucket, HTTP__BIND=f"127.0.0.1:{port}", PRIVATE__CDN_MAX_AGE="60s"
    )
    with nginx(port) as by_nginx, varnish(port) as by_varnish, haproxy(port) as by_haproxy:
        caches = [by_nginx, by_varnish, by_haproxy]
        with running(environment, roles="http,grpc,events") as service:
            request = wire.SignMediaUrlsRequest(media_ids=[media_id])
            token = service.call("SignMediaUrls", request, wire.SignMediaUrlsResponse).tokens[media_id]
            path = f"/thumbnail/small/{media_id}/{token}"
            another = path[:-1] + ("_" if path.endswith("-") else "-")
            for cache in caches:
                before = service.answered("2")
                responses = [fetch(cache + path), fetch(cache + path), fetch(cache + path, Range="bytes=3-9")]
                assert [each.content for each in responses] == [BODY, BODY, BODY[3:10]], cache
                assert responses[0].headers["Cache-Control"] == "private, max-age=60"
                assert service.answered("2") == before + 3, cache
                for wrong in (f"{path}?", f"{path}?x=1", another, path[:-1], f"/thumbnail/small/{media_id}"):
                    assert fetch(cache + wrong).status_code == 404, (cache, wrong)
            revoked = wire.RevokeMediaUrlsRequest(media_ids=[media_id])
            service.call("RevokeMediaUrls", revoked, wire.RevokeMediaUrlsResponse)
            assert [fetch(cache + path).status_code for cache in caches] == [403] * 3
            token = service.call("SignMediaUrls", request, wire.SignMediaUrlsResponse).tokens[media_id]
            path = f"/thumbnail/small/{media_id}/{token}"
            assert [fetch(cache + path).content for cache in caches] == [BODY] * 3
        for cache in caches:  # nothing stale
            response = fetch(cache + path)
            assert response.status_code >= 500, cache
            assert BODY not in response.content


def fetch(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, verify=False, timeout=30)
