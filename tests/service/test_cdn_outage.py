"""What caches fetch while Redis is unavailable is forgotten as soon as the origin says, without any purge."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime

import httpx
import redis as redis_py

from tests.conftest import S3Bucket
from tests.service.faults import durable_redis
from tests.service.harness import eventually, running, service_environment
from tests.service.published import encode_id, original_key
from tests.services import haproxy, nginx, varnish
from tests.services.process import free_port

BRIEF = "public, max-age=1"
EXPIRED_S = 3.0  # a second, and what caches round it up to


def test_what_was_fetched_during_an_outage_of_redis_and_deleted_is_not_served_once_more(s3: S3Bucket) -> None:
    old, new = (encode_id(datetime.now(UTC), 2, number) for number in (1, 2))
    for media_id in (old, new):
        s3.client.put_object(Bucket=s3.bucket, Key=original_key(media_id), Body=b"picture", ContentType="image/png")
    port = free_port()
    with (
        durable_redis() as redis,
        nginx(port, fresh_s=1) as by_nginx,
        varnish(port, fresh_s=1) as by_varnish,
        haproxy(port) as by_haproxy,
        running(
            service_environment(
                redis.url,
                s3.address.endpoint_url,
                s3.bucket,
                HTTP__BIND=f"127.0.0.1:{port}",
                REDIS__TIMEOUT="500ms",
                DELETE__DELAY="1h",
            ),
            roles="http,events",
            program=(sys.executable, "-m", "tests.service.brief_origin"),
        ) as service,
    ):
        revalidating, caches = [by_nginx, by_varnish], [by_nginx, by_varnish, by_haproxy]
        for cache in revalidating:
            assert "immutable" in fetch(cache, old).headers["Cache-Control"]
        redis.kill()
        eventually(lambda: service.get(f"/media/{new}").headers["Cache-Control"] == BRIEF, "Redis to be missed")
        for cache in caches:
            answers = [fetch(cache, new) for _ in range(2)]
            assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT"], cache
            assert answers[1].headers["Cache-Control"] == BRIEF
        for cache in revalidating:
            confirmed = service.answered("304")
            eventually(lambda: fetch(cache, old).is_success and service.answered("304") > confirmed, "a confirmation")  # noqa: B023
        asked_at = time.monotonic()

        redis.start()
        with redis_py.Redis.from_url(redis.url) as client:
            client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [old, new]})})
        eventually(lambda: service.get(f"/media/{new}").status_code == 410, "the deletion")
        while time.monotonic() < asked_at + EXPIRED_S:
            time.sleep(0.05)
        served = {cache: [fetch(cache, each).status_code for each in (old, new)] for cache in caches}
        assert served == {cache: [410, 410] for cache in caches}


def fetch(cache: str, media_id: str) -> httpx.Response:
    return httpx.get(f"{cache}/media/{media_id}", trust_env=False, verify=False, timeout=30)
