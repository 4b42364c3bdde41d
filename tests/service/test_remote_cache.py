"""What is asked of remote servers, and how often: failures, revalidation, bounds per host, replicas."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import events_of, key_of, keys_of, unfinished
from tests.service.remote_server import RemoteServer, remote_server
from tests.service.test_contract_remote import remote_id
from tests.service.test_purge import purge_endpoint

PICTURE, OTHER = "jpeg-gray.jpg", "jpeg-exif-thumbnail-differs.jpg"


@pytest.fixture(scope="module")
def cdn() -> Iterator[tuple[str, list[str]]]:
    """Where purges go, and those that were asked for."""
    with purge_endpoint(200) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def settings(cdn: tuple[str, list[str]]) -> dict[str, str]:
    """Every copy is past its time to live at once."""
    return {
        "CDN__PURGE_URLS": cdn[0],
        "CDN__PURGE_METHOD": "POST",
        "REMOTE__ALLOW_NETWORKS": "127.0.0.1/32,127.0.0.3/32",
        "REMOTE__TTL": "0",
        "REMOTE__HOST_SLOTS": "2",
        "REMOTE__BREAKER_PAUSE": "300ms",
        "TASKS__MAX_ATTEMPTS": "2",
        "TASKS__BACKOFF": "50ms",
    }


@pytest.fixture(scope="module")
def proxy() -> Iterator[socket.socket]:
    """Hears whoever obeys `HTTP_PROXY`."""
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        yield canary


@pytest.fixture(scope="module")
def service(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, settings: dict[str, str], proxy: socket.socket
) -> Iterator[Service]:
    """With proxies in its environment."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
    url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    with running(environment | dict.fromkeys(names, url)) as service:
        yield service


@pytest.fixture
def remote(data_directory: Path, redis_client: redis.Redis) -> Iterator[RemoteServer]:
    """A stranger's server that has not failed yet."""
    for key in redis_client.scan_iter("remote_server:*"):
        redis_client.delete(key)
    with remote_server({f"/{name}": (data_directory / name).read_bytes() for name in (PICTURE, OTHER)}) as remote:
        yield remote


def ended(service: Service, redis_client: redis.Redis, url: str) -> wire.MediaStatus:
    """Have it cached, and wait until its task has ended."""
    before = len(events_of(redis_client, remote_id(url)))
    assert service.cache(url).status == "pending"
    eventually(lambda: len(events_of(redis_client, remote_id(url))) > before, "the event")
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")
    return service.status(remote_id(url))


def test_a_url_that_failed_is_not_asked_again_until_its_time_has_passed(
    service: Service, redis_client: redis.Redis, remote: RemoteServer
) -> None:
    url = f"{remote.url}/late.jpg"
    first = service.cache(url)
    status = service.watch(first.media_id)[-1]
    assert (status.state, status.reason) == (wire.MediaStatus.FAILED, "remote_status")
    for _ in range(20):
        again = service.cache(url)
        assert (again.status, again.task_id, again.media_id) == ("pending", first.task_id, first.media_id)
    redis_client.xadd("media_cache_queue", {"task_id": "theirs", "remote_url": url})
    eventually(lambda: len(events_of(redis_client, first.media_id)) == 2, "the answer to another's task")
    assert {event["reason"] for event in events_of(redis_client, first.media_id)} == {"remote_status"}
    assert service.watch(first.media_id)[-1] == status
    assert remote.asked["/late.jpg"] == 1
    assert 3500 < redis_client.ttl(key_of("remote_failure", first.media_id)) <= 3600

    redis_client.delete(key_of("remote_failure", first.media_id))
    remote.files["/late.jpg"] = remote.files[f"/{PICTURE}"]
    remote.hold.clear()
    anew = service.cache(url)
    assert anew.status == "pending"
    assert anew.task_id != first.task_id
    assert service.status(first.media_id).state == wire.MediaStatus.PROCESSING
    remote.hold.set()
    assert service.watch(first.media_id)[-1].state == wire.MediaStatus.READY
    assert remote.asked["/late.jpg"] == 2


def test_a_copy_that_has_not_changed_is_renewed_without_a_download(
    service: Service,
    bucket: S3Bucket,
    redis_client: redis.Redis,
    remote: RemoteServer,
    cdn: tuple[str, list[str]],
) -> None:
    path = f"/{PICTURE}?renewed"
    url = remote.url + path
    remote.files[path] = remote.files[f"/{PICTURE}"]
    date = "Wed, 01 Jul 2026 10:00:00 GMT"
    remote.headers[path] = {"ETag": 'W/"v1 "', "Last-Modified": date}  # a blank is not allowed in there
    assert ended(service, redis_client, url).state == wire.MediaStatus.READY
    key = f"cached_remote/{remote_id(url)}"
    written = bucket.client.head_object(Bucket=bucket.bucket, Key=key)
    remote.headers[path] = {"ETag": '"v1"', "Last-Modified": date}
    assert ended(service, redis_client, url).state == wire.MediaStatus.READY
    assert ended(service, redis_client, url).state == wire.MediaStatus.READY
    first, second, third = [each for each in remote.requests if each[":path"] == path]
    assert "if-none-match" not in first
    assert "if-modified-since" not in first
    assert "if-none-match" not in second
    assert second["if-modified-since"] == date
    assert third["if-none-match"] == '"v1"'
    renewed = bucket.client.head_object(Bucket=bucket.bucket, Key=key)
    assert renewed["LastModified"] >= written["LastModified"]
    assert [event["type"] for event in events_of(redis_client, remote_id(url))] == ["remote.ready"] * 3
    assert f"/media/{remote_id(url)}" not in cdn[1]


def test_a_copy_that_has_changed_is_replaced(
    service: Service, redis_client: redis.Redis, remote: RemoteServer, cdn: tuple[str, list[str]]
) -> None:
    path = f"/{PICTURE}?replaced"
    remote.files[path] = remote.files[f"/{PICTURE}"]
    remote.headers[path] = {"ETag": '"one"'}
    before = ended(service, redis_client, remote.url + path)
    remote.files[path] = remote.files[f"/{OTHER}"]
    remote.headers[path] = {"ETag": '"two"'}
    after = ended(service, redis_client, remote.url + path)
    assert after.state == wire.MediaStatus.READY
    assert (after.width, after.height, after.size) != (before.width, before.height, before.size)
    paths = {f"/media/{after.media_id}", f"/thumbnail/small/{after.media_id}"}
    eventually(lambda: paths <= {*cdn[1]}, "the purges")


@pytest.mark.parametrize("then", ["replaced", "gone"])
def test_a_copy_takes_its_thumbnails_of_former_sizes_with_it(
    service: Service,
    bucket: S3Bucket,
    redis_client: redis.Redis,
    remote: RemoteServer,
    cdn: tuple[str, list[str]],
    then: str,
) -> None:
    path = f"/{PICTURE}?former-{then}"
    remote.files[path] = remote.files[f"/{PICTURE}"]
    medium = ended(service, redis_client, remote.url + path)
    former = f"thumbnail/former/remote/{medium.media_id}.jpg"
    make_former_size(bucket, medium.media_id, former)
    redis_client.delete(key_of("media_status", medium.media_id))
    assert service.status(medium.media_id).thumbnails["former"] == f"/thumbnail/former/{medium.media_id}"
    if then == "replaced":
        remote.files[path] = remote.files[f"/{OTHER}"]
    else:
        remote.status[path] = 410
    after = ended(service, redis_client, remote.url + path)
    assert "former" not in after.thumbnails
    assert former not in keys_of(bucket, medium.media_id)
    eventually(lambda: f"/thumbnail/former/{medium.media_id}" in cdn[1], "the purge")


def make_former_size(bucket: S3Bucket, media_id: str, key: str) -> None:
    """As if a size ``former`` had been configured when the copy was made."""
    original = f"cached_remote/{media_id}"
    stored = bucket.client.head_object(Bucket=bucket.bucket, Key=original)
    bucket.client.copy_object(
        Bucket=bucket.bucket,
        Key=original,
        CopySource={"Bucket": bucket.bucket, "Key": original},
        ContentType=stored["ContentType"],
        Metadata={**stored["Metadata"], "thumbnails": stored["Metadata"]["thumbnails"] + ",former"},
        MetadataDirective="REPLACE",
    )
    bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=b"jpeg")


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_a_copy_goes_when_its_server_says_that_it_is_gone(
    service: Service,
    bucket: S3Bucket,
    redis_client: redis.Redis,
    remote: RemoteServer,
    cdn: tuple[str, list[str]],
    status: int,
) -> None:
    path = f"/{PICTURE}?gone{status}"
    remote.files[path] = remote.files[f"/{PICTURE}"]
    assert ended(service, redis_client, remote.url + path).state == wire.MediaStatus.READY
    remote.status[path] = status
    gone = ended(service, redis_client, remote.url + path)
    assert (gone.state, gone.reason) == (wire.MediaStatus.FAILED, "remote_status")
    assert keys_of(bucket, gone.media_id) == set()
    assert service.get(f"/media/{gone.media_id}").status_code == 404
    eventually(lambda: f"/media/{gone.media_id}" in cdn[1], "the purge")


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_copy_goes_when_its_server_forbids_copies(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, remote: RemoteServer, confirmed: bool
) -> None:
    """Also if it confirms by 304 that the copy is current."""
    path = f"/{PICTURE}?private{confirmed}"
    remote.files[path] = remote.files[f"/{PICTURE}"]
    remote.headers[path] = {"ETag": '"one"'}
    ready = ended(service, redis_client, remote.url + path)
    assert ready.state == wire.MediaStatus.READY
    assert remote.url not in str(bucket.client.head_object(Bucket=bucket.bucket, Key=f"cached_remote/{ready.media_id}"))
    inspected = service.run_cli("inspect", ready.media_id, "--json")
    assert inspected.returncode == 0, inspected.stderr
    report = json.loads(inspected.stdout)
    assert report["remote"]["url"] == remote.url + path
    etag = "one" if confirmed else "two"
    remote.headers[path] = {"Cache-Control": "max-age=60, Private", "ETag": f'"{etag}"'}
    refused = ended(service, redis_client, remote.url + path)
    assert (refused.state, refused.reason) == (wire.MediaStatus.FAILED, "not_cacheable")
    assert keys_of(bucket, refused.media_id) == set()
    asked = remote.asked[path]
    assert service.cache(remote.url + path).status == "pending"
    assert service.status(refused.media_id).reason == "not_cacheable"
    assert remote.asked[path] == asked  # it is remembered
    shown = service.run_cli("hosts", "not-cacheable", "--json")
    assert shown.returncode == 0, shown.stderr
    counted = json.loads(shown.stdout)
    assert [each["host"] for each in counted] == ["127.0.0.1"]


@pytest.mark.parametrize("status", [400, 500])
def test_a_copy_stays_when_its_server_has_other_troubles(
    service: Service, redis_client: redis.Redis, remote: RemoteServer, status: int
) -> None:
    path = f"/{PICTURE}?troubles{status}"
    remote.files[path] = remote.files[f"/{PICTURE}"]
    assert ended(service, redis_client, remote.url + path).state == wire.MediaStatus.READY
    remote.status[path] = status
    assert ended(service, redis_client, remote.url + path).state == wire.MediaStatus.READY
    asked = remote.asked[path]
    for _ in range(5):
        assert service.cache(remote.url + path).status == "ready"
    assert remote.asked[path] == asked
    assert service.get(f"/media/{remote_id(remote.url + path)}").status_code == 200


def test_a_server_that_asks_for_time_is_given_it(
    service: Service, redis_client: redis.Redis, remote: RemoteServer
) -> None:
    path = f"/{PICTURE}?busy"
    remote.files[path] = remote.files[f"/{PICTURE}"]
    remote.status[path] = 503
    remote.headers[path] = {"Retry-After": "2"}
    started = time.monotonic()
    first = service.cache(remote.url + path)
    eventually(lambda: remote.asked[path], "the first request")
    remote.status[path] = 200
    # Another of the same server, asked for meanwhile, waits as well, at no attempt.
    second = service.cache(f"{remote.url}/{PICTURE}")
    assert service.watch(second.media_id)[-1].state == wire.MediaStatus.READY
    assert service.watch(first.media_id)[-1].state == wire.MediaStatus.READY
    assert time.monotonic() - started >= 1.9
    assert remote.asked[path] == 2
    assert remote.asked[f"/{PICTURE}"] == 1


def test_a_server_that_asks_for_more_time_than_anybody_has_is_given_up(
    service: Service, redis_client: redis.Redis, remote: RemoteServer
) -> None:
    path = f"/{PICTURE}?very-busy"
    remote.status[path] = 429
    remote.headers[path] = {"Retry-After": "3000"}
    for each in (path, "/another.jpg"):
        answer = service.cache(remote.url + each)
        status = service.watch(answer.media_id)[-1]
        assert (status.state, status.reason, status.retryable) == (
            wire.MediaStatus.FAILED,
            "remote_unreachable",
            True,
        )
    assert remote.asked[path] == 1
    assert remote.asked["/another.jpg"] == 0


def test_one_host_gets_no_more_than_its_slots(
    service: Service, redis_client: redis.Redis, remote: RemoteServer
) -> None:
    for number in range(8):
        remote.files[f"/{number}.jpg"] = remote.files[f"/{PICTURE}"]
    remote.hold.clear()
    answers = [service.cache(f"{remote.url}/{number}.jpg") for number in range(8)]
    eventually(lambda: sum(remote.asked.values()) == 2, "two requests")
    # The others have not even been taken: the queue gives out no more of one server than it has slots.
    assert (redis_client.xlen("media_cache_queue"), redis_client.zcard("{media_cache_queue}:waiting")) == (2, 7)
    with remote_server({"/x.jpg": remote.files["/0.jpg"]}, host="127.0.0.3") as other:  # is not held up by that
        assert service.watch(service.cache(f"{other.url}/x.jpg").media_id)[-1].state == wire.MediaStatus.READY
    assert sum(remote.asked.values()) == 2
    remote.hold.set()
    for answer in answers:
        assert service.watch(answer.media_id)[-1].state == wire.MediaStatus.READY
    assert all(remote.asked[f"/{number}.jpg"] == 1 for number in range(8))
    eventually(lambda: not redis_client.exists("remote_slots:{127.0.0.1}"), "all slots to be free")


def test_two_replicas_fetch_once_and_wake_the_watchers_of_both(
    service: Service,
    bucket: S3Bucket,
    redis_of_process: str,
    redis_client: redis.Redis,
    remote: RemoteServer,
    settings: dict[str, str],
) -> None:
    path = f"/{PICTURE}?replicas"
    url = remote.url + path
    remote.files[path] = remote.files[f"/{PICTURE}"]
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
    with running(environment) as second:
        remote.hold.clear()
        answers = [each.cache(url) for each in (service, second) for _ in range(5)]
        assert len({(each.status, each.task_id, each.media_id) for each in answers}) == 1
        eventually(lambda: remote.asked[path], "the request")
        here, there = service.watching(remote_id(url)), second.watching(remote_id(url))
        assert next(here).state == next(there).state == wire.MediaStatus.PROCESSING
        remote.hold.set()
        assert next(here).state == next(there).state == wire.MediaStatus.READY
    assert remote.asked[path] == 1
    assert [event["type"] for event in events_of(redis_client, remote_id(url))] == ["remote.ready"]


def test_nothing_of_all_this_went_through_a_proxy(
    service: Service, redis_client: redis.Redis, remote: RemoteServer, proxy: socket.socket
) -> None:
    assert ended(service, redis_client, f"{remote.url}/{PICTURE}?directly").state == wire.MediaStatus.FAILED
    remote.files[f"/{PICTURE}?directly-too"] = remote.files[f"/{PICTURE}"]
    assert ended(service, redis_client, f"{remote.url}/{PICTURE}?directly-too").state == wire.MediaStatus.READY
    with pytest.raises(BlockingIOError):
        proxy.accept()
