"""CacheRemoteMedia and `media_cache_queue`, from the call to what the origin serves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.remote_ids import remote_id_for
from tests.service.harness import Service, eventually
from tests.service.published import entries, error_reason, events_of, keys_of, unfinished, violations
from tests.service.remote_server import RemoteServer, remote_server


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """127.0.0.1 stands for the world; 127.0.0.2 does not."""
    return {
        "REMOTE__ALLOW_NETWORKS": "127.0.0.1/32",
        "REMOTE__DENY_HOSTS": "denied.example",
        "TASKS__MAX_ATTEMPTS": "2",
        "TASKS__BACKOFF": "50ms",
        "REMOTE__MAX_BYTES": "200KiB",
    }


SIZES = {"small", "medium", "large"}
SOUNDS = {  # what they turn out to be, behind a container of videos or a tag
    "mp4-audio-only.mp4": "audio/mp4",
    "flac-id3-cover-gain.flac": "audio/flac",
}


@pytest.fixture
def remote(data_directory: Path) -> Iterator[RemoteServer]:
    """A stranger's server."""
    names = ("jpeg-gray.jpg", "pdf.pdf", "jpeg-exif-thumbnail-differs.jpg", "mp4-h264-udta-xyz-location.mp4")
    files = {f"/{name}": (data_directory / name).read_bytes() for name in (*names, *SOUNDS)}
    with remote_server({**files, "/huge.jpg": files["/jpeg-gray.jpg"] + bytes(300_000)}) as remote:
        yield remote


def remote_id(url: str) -> str:
    return remote_id_for(url).text


@pytest.mark.parametrize("name", ["jpeg-exif-thumbnail-differs.jpg", "mp4-h264-udta-xyz-location.mp4"])
def test_a_remote_medium_is_fetched_once_scrubbed_and_then_ready(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, remote: RemoteServer, name: str
) -> None:
    url = f"{remote.url}/{name}"
    remote.hold.clear()
    first = service.cache(url)
    second = service.cache(url)
    assert (first.status, first.media_id) == ("pending", remote_id(url))
    assert first.task_id
    assert second == first
    assert service.status(first.media_id).state == wire.MediaStatus.PROCESSING
    assert service.get(f"/media/{first.media_id}").status_code == 404
    remote.hold.set()
    status = service.watch(first.media_id)[-1]
    assert status.state == wire.MediaStatus.READY
    assert dict(status.thumbnails) == {
        size: f"/thumbnail/{size}/{first.media_id}" for size in ("small", "medium", "large")
    }
    expected = {
        f"cached_remote/{first.media_id}",
        *(f"thumbnail/{size}/remote/{first.media_id}.jpg" for size in ("small", "medium", "large")),
    }
    held = sum(bucket.client.head_object(Bucket=bucket.bucket, Key=key)["ContentLength"] for key in expected)
    served = service.get(f"/media/{first.media_id}")
    assert keys_of(bucket, first.media_id) == expected | {
        f"host/127.0.0.1/{first.media_id}.{held}.attachment",
        f"sha256/{hashlib.sha256(served.content).hexdigest()}/{first.media_id}",
    }
    assert served.status_code == 200
    assert served.headers["Content-Type"] == status.content_type
    assert b"LEAK" in remote.files[f"/{name}"]
    assert b"LEAK" not in served.content
    assert all(service.get(path).status_code == 200 for path in status.thumbnails.values())
    again = service.cache(url)
    assert (again.status, again.task_id, again.media_id) == ("ready", "", first.media_id)
    assert remote.asked[f"/{name}"] == 1
    assert [event["type"] for event in events_of(redis_client, first.media_id)] == ["remote.ready"]
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")


@pytest.mark.parametrize("name", SOUNDS)
def test_remote_sound_is_published_as_what_it_is(service: Service, remote: RemoteServer, name: str) -> None:
    first = service.cache(f"{remote.url}/{name}")
    status = service.watch(first.media_id)[-1]
    assert (status.state, status.content_type) == (wire.MediaStatus.READY, SOUNDS[name])
    assert (len(status.waveform), max(status.waveform) > 0, set(status.thumbnails)) == (100, True, SIZES)
    served = service.get(f"/media/{first.media_id}")
    assert served.headers["Content-Type"] == SOUNDS[name]
    assert b"PLANTED" not in served.content
    part = service.get(f"/media/{first.media_id}", Range="bytes=1000-1999")
    assert (part.status_code, part.content) == (206, served.content[1000:2000])


def test_spellings_of_one_url_are_one_medium(service: Service, remote: RemoteServer) -> None:
    plain = service.cache(f"{remote.url}/jpeg-gray.jpg")
    port = remote.url.rpartition(":")[2]
    odd = service.cache(f"HTTP://127.0.0.1:{port}/x/../jpeg-gray.jpg#fragment")
    assert odd.media_id == plain.media_id
    assert service.watch(plain.media_id)[-1].state == wire.MediaStatus.READY


def test_a_foreign_producers_task_is_done(service: Service, redis_client: redis.Redis, remote: RemoteServer) -> None:
    url = f"{remote.url}/jpeg-gray.jpg?theirs"
    remote.files["/jpeg-gray.jpg?theirs"] = remote.files["/jpeg-gray.jpg"]
    redis_client.xadd("media_cache_queue", {"task_id": "theirs", "remote_url": url})
    eventually(lambda: events_of(redis_client, remote_id(url)), "the event")
    assert service.status(remote_id(url)).state == wire.MediaStatus.READY


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/pdf.pdf", "unsupported_type"),
        ("/missing.jpg", "remote_status"),
        ("/huge.jpg", "too_large"),
    ],
)
def test_what_is_no_medium_fails_with_its_reason(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, remote: RemoteServer, path: str, reason: str
) -> None:
    answer = service.cache(remote.url + path)
    status = service.watch(answer.media_id)[-1]
    assert (status.state, status.reason) == (wire.MediaStatus.FAILED, reason)
    (event,) = events_of(redis_client, answer.media_id)
    assert (event["type"], event["reason"]) == ("remote.failed", reason)
    assert keys_of(bucket, answer.media_id) == set()
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")


def test_all_refusals_look_the_same(service: Service, redis_client: redis.Redis) -> None:
    """A private address, a cloud's metadata, a port that is none of the web's: no oracle about our own network."""
    for url in (
        "http://127.0.0.2/x.jpg",
        "http://10.0.0.1/x.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x.jpg",
        "http://93.184.216.34:22/x.jpg",
    ):
        answer = service.cache(url)
        assert answer.status == "pending"
        status = service.watch(answer.media_id)[-1]
        assert (status.state, status.reason, status.retryable) == (wire.MediaStatus.FAILED, "remote_refused", False)
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")


def test_nobody_at_home_fails_after_all_attempts(service: Service, redis_client: redis.Redis) -> None:
    answer = service.cache("http://127.0.0.1:1/x.jpg")
    status = service.watch(answer.media_id)[-1]
    assert (status.state, status.reason, status.retryable) == (
        wire.MediaStatus.FAILED,
        "remote_unreachable",
        True,
    )
    eventually(lambda: not unfinished(redis_client), "the queues to be empty")


@pytest.mark.parametrize("host", ["denied.example", "sub.DENIED.example.", "denied.example:8080"])
def test_a_host_on_the_deny_list_is_refused_at_once(service: Service, redis_client: redis.Redis, host: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.cache(f"https://{host}/x.jpg")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error_reason(caught.value) == "HOST_DENIED"
    assert entries(redis_client, "media_cache_queue") == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "REMOTE_URL_REQUIRED"),
        ("ftp://example.org/x", "REMOTE_URL_INVALID"),
        ("file:///etc/passwd", "REMOTE_URL_INVALID"),
        ("//example.org/x", "REMOTE_URL_INVALID"),
        ("http://user:secret@example.org/x", "REMOTE_URL_INVALID"),
        ("http://127.1/x", "REMOTE_URL_INVALID"),
        ("http://0x7f000001/x", "REMOTE_URL_INVALID"),
        ("http://example.org/\r\nHost: x", "REMOTE_URL_INVALID"),
        ("http://example.org/" + "x" * 3000, "REMOTE_URL_INVALID"),
    ],
)
def test_what_is_no_url_is_a_bad_field(service: Service, url: str, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.cache(url)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations(caught.value) == {"remote_url": reason}
