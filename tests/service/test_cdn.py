"""The origin behind a real CDN, with the configurations that we give to operators: Varnish and nginx."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import encode_id, original_key, thumbnail_key, unfinished
from tests.services import compose_varnish, nginx, varnish
from tests.services.process import free_port

Cdn = Callable[..., AbstractContextManager[str]]
BODY = bytes(range(256)) * 40
PATHS = ("/media/{}", "/thumbnail/small/{}", "/thumbnail/medium/{}", "/thumbnail/large/{}")
# What some servers take for /media/{id}, and others do not.
SPELLINGS = (
    "/media//{}",
    "//media/{}",
    "/media/./{}",
    "/x/../media/{}",
    "/x/%2e%2e/media/{}",
    "/%6dedia/{}",
    "/media%2F{}",
    "/media/{}/",
    "/media/{}#x",
    "/media/{}%3Fx",
    "/media/{}%00",
)

pytestmark = pytest.mark.parametrize("cdn", [varnish, compose_varnish, nginx])


def fetch(url: str, **headers: str) -> httpx.Response:
    """What a visitor gets: who asks for the public host, where purges are sent to the cache's own."""
    return httpx.get(url, headers={"Host": "media.example.org"} | headers, trust_env=False, verify=False, timeout=30)


def came_from(response: httpx.Response) -> str:
    return response.headers["X-Cache"]


@pytest.fixture
def media_id(s3: S3Bucket) -> str:
    """A medium with all its thumbnails."""
    media_id = encode_id(datetime.now(UTC), 2, 7)
    for key in (original_key(media_id), *(thumbnail_key(media_id, size) for size in ("small", "medium", "large"))):
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=BODY, ContentType="image/png")
    return media_id


@contextmanager
def service_behind(cdn: Cdn, redis_url: str, s3: S3Bucket, *, fresh_s: int = 86400) -> Iterator[tuple[str, Service]]:
    """The service with a CDN in front of it, which it purges."""
    origin_port = free_port()
    with cdn(origin_port, fresh_s=fresh_s) as url:
        environment = service_environment(
            redis_url,
            s3.address.endpoint_url,
            s3.bucket,
            HTTP__BIND=f"127.0.0.1:{origin_port}",
            CDN__PURGE_URLS=url,
            DELETE__DELAY="1h",
        )
        with running(environment, roles="http,events,delete") as service:
            yield url, service


def test_visitors_strangers_and_the_purge_of_a_deletion(cdn: Cdn, redis_url: str, s3: S3Bucket, media_id: str) -> None:
    with service_behind(cdn, redis_url, s3) as (url, service), redis.Redis.from_url(redis_url) as client:
        strangers_put_nothing_before_visitors_by_another_spelling_of_a_path(url, service, media_id)
        urls = [url + path.format(media_id) for path in PATHS]
        for each in urls:
            assert (fetch(each).content, came_from(fetch(each))) == (BODY, "HIT")
        asked_before = service.answered()

        part = fetch(urls[0], Range="bytes=10-19")
        assert (part.status_code, part.content, came_from(part)) == (206, BODY[10:20], "HIT")
        same = fetch(f"{urls[0]}?utm=x", **{"If-None-Match": part.headers["ETag"]})
        assert (same.status_code, came_from(same)) == (304, "HIT")
        assert fetch(urls[0]).headers["Cache-Control"] == "public, max-age=31536000, immutable"
        strangers_purge_nothing(urls[0])
        assert service.answered() == asked_before

        client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [media_id]})})
        eventually(lambda: [fetch(each).status_code for each in urls] == [410] * 4, "the CDN to forget it", 30)
        assert s3.client.head_object(Bucket=s3.bucket, Key=original_key(media_id))
        eventually(lambda: not unfinished(client, ["media_purge_queue"]), "the purge to end", 30)


def strangers_put_nothing_before_visitors_by_another_spelling_of_a_path(
    url: str, service: Service, media_id: str
) -> None:
    for spelled in SPELLINGS:
        assert status_of_raw(url, spelled.format(media_id)) in {400, 404}, spelled
    assert service.answered() == 0
    assert fetch(f"{url}/media/{media_id}").content == BODY
    # … nor does another spelling become an entry of its own, which no purge would reach.
    assert status_of_raw(url, f"http://media.example.org/media/{media_id}?v=1") == 200
    assert service.answered() == 1


def strangers_purge_nothing(url: str) -> None:
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(transport=elsewhere, trust_env=False, verify=False, timeout=30) as stranger:
        assert stranger.request("PURGE", url).status_code in {403, 405}
    assert came_from(fetch(url)) == "HIT"


def test_what_is_stale_is_asked_for_by_its_etag_and_served_while_the_service_is_away(
    cdn: Cdn, redis_url: str, s3: S3Bucket, media_id: str
) -> None:
    with service_behind(cdn, redis_url, s3, fresh_s=1) as (url, service):
        path = f"{url}/media/{media_id}"
        assert fetch(path).content == BODY

        def revalidated() -> bool:
            assert fetch(path).content == BODY
            return service.answered("304") >= 1

        eventually(revalidated, "a revalidation", 30)
        assert service.answered("200") == 1

        service.process.terminate()
        stale_at = time.monotonic() + 2.0
        while service.process.poll() is None or time.monotonic() < stale_at:
            assert fetch(path).content == BODY  # no request fails, whatever phase the drain is in
            time.sleep(0.02)
        assert (fetch(path).status_code, fetch(path).content) == (200, BODY)


def status_of_raw(url: str, target: str) -> int:
    """The answer to a request line with exactly this target: HTTP libraries tidy paths up."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.putrequest("GET", target, skip_host=True)
        connection.putheader("Host", "media.example.org")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()
