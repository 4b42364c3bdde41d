"""Blocking media: at the origin, in copies, for re-uploads and altered copies, with evidence, and back."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis
from PIL import Image, ImageFilter

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import events_of
from tests.service.remote_server import remote_server
from tests.services import nginx, varnish
from tests.services.process import free_port

SIZES = ("small", "medium", "large")


@pytest.fixture(scope="module")
def cached(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket
) -> Iterator[tuple[tuple[str, str], Service]]:
    """The service, and the addresses of a Varnish and an nginx in front of it."""
    origin_port = free_port()
    with varnish(origin_port, fresh_s=86400) as one, nginx(origin_port, fresh_s=86400) as other:
        environment = service_environment(
            redis_of_process,
            bucket.address.endpoint_url,
            bucket.bucket,
            HTTP__BIND=f"127.0.0.1:{origin_port}",
            CDN__PURGE_URLS=f"{one},{other}",
            REMOTE__ALLOW_NETWORKS="127.0.0.0/8",
        )
        with running(environment) as service:
            yield (one, other), service


@pytest.fixture(scope="module")
def service(cached: tuple[tuple[str, str], Service]) -> Service:
    return cached[1]


@pytest.fixture(scope="module")
def replica(service: Service) -> Iterator[Service]:
    """Another process that serves the same media."""
    ports = {f"AVION_MEDIA_{name}__BIND": f"127.0.0.1:{free_port()}" for name in ("GRPC", "HTTP", "ADMIN")}
    with running({**service.environment, **ports}, roles="http") as replica:
        yield replica


def block(service: Service, media_id: str, *, discard_evidence: bool = False) -> int:
    request = wire.BlockMediaRequest(media_id=media_id, note="reported", discard_evidence=discard_evidence)
    answer: wire.BlockMediaResponse = service.call("BlockMedia", request, wire.BlockMediaResponse)
    return answer.copies


def unblock(service: Service, media_id: str) -> None:
    service.call("UnblockMedia", wire.UnblockMediaRequest(media_id=media_id), wire.UnblockMediaResponse)


def statuses_at_origin(service: Service, media_id: str) -> set[int]:
    """Of the original and all thumbnails."""
    paths = [f"/media/{media_id}", *(f"/thumbnail/{size}/{media_id}" for size in SIZES)]
    return {service.get(path).status_code for path in paths}


def state_of(service: Service, media_id: str) -> tuple[int, str]:
    status = service.status(media_id)
    return status.state, status.reason


def record(bucket: S3Bucket, media_id: str) -> dict[str, Any]:
    """The record of its block."""
    body = bucket.client.get_object(Bucket=bucket.bucket, Key=f"moderation/blocked/{media_id}")["Body"].read()
    found: dict[str, Any] = json.loads(body)
    return found


def evidence(bucket: S3Bucket, media_id: str) -> dict[str, bytes]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"quarantine/{media_id}/").get("Contents", [])
    return {
        each["Key"].rpartition("/")[2]: bucket.client.get_object(Bucket=bucket.bucket, Key=each["Key"])["Body"].read()
        for each in listed
    }


def published(service: Service, body: bytes, name: str = "a.jpg", content_type: str = "image/jpeg") -> str:
    status = service.upload(name, content_type, body)
    assert status.state == wire.MediaStatus.READY, status
    return str(status.media_id)


def events_about(redis_client: redis.Redis, media_id: str) -> list[str]:
    return [event["type"] for event in events_of(redis_client, media_id)]


BLOCKED = (wire.MediaStatus.FAILED, "blocked")


def test_a_block_from_the_first_copy_to_its_end(
    cached: tuple[tuple[str, str], Service],
    replica: Service,
    bucket: S3Bucket,
    redis_client: redis.Redis,
    data_directory: Path,
) -> None:
    caches, service = cached
    private = (data_directory / "jpeg-pixel4a-gps-gainmap.jpg").read_bytes()
    media_id, copy = published(service, private), published(service, private)
    served = service.get(f"/media/{media_id}").content
    small = service.get(f"/thumbnail/small/{media_id}").content
    in_caches = [cdn + path for cdn in caches for path in (f"/media/{copy}", f"/thumbnail/small/{media_id}")]
    for url in in_caches:
        assert [fetch(url) for _ in range(2)][1] == (200, "HIT"), url
    assert statuses_at_origin(replica, media_id) == {200}

    assert block(service, media_id) == 1

    for each in (media_id, copy):
        assert statuses_at_origin(service, each) == {451}
        assert statuses_at_origin(replica, each) == {451}
        assert state_of(service, each) == BLOCKED
        assert events_about(redis_client, each) == ["media.ready", "media.blocked"]
    kept = evidence(bucket, media_id)
    assert (kept["original"], kept["thumbnail-small"]) == (served, small)
    assert record(bucket, media_id)["note"] == "reported"
    for url in in_caches:
        eventually(lambda url=url: fetch(url)[0] == 451, f"the cache to forget {url}")  # type: ignore[misc]
    again_ids = []
    for body in (private, served):  # neither the upload nor what was served comes back
        again = service.upload("b.jpg", "image/jpeg", body)
        assert (again.state, again.reason) == BLOCKED
        assert statuses_at_origin(service, again.media_id) == {451}
        again_ids.append(again.media_id)

    redis_client.flushall()
    eventually(lambda: state_of(service, media_id) == BLOCKED, "the bucket to say so")
    assert statuses_at_origin(service, media_id) == {451}

    unblock(service, media_id)

    for each in (media_id, copy):
        assert statuses_at_origin(service, each) == {200}
        assert state_of(service, each) == (wire.MediaStatus.READY, "")
        assert events_about(redis_client, each) == ["media.ready"]  # since Redis lost the earlier ones
    assert service.get(f"/media/{media_id}").content == served
    assert evidence(bucket, media_id)["original"] == served  # until the lifecycle rule removes it
    for each in again_ids:
        eventually(lambda each=each: statuses_at_origin(service, each) == {200}, f"{each} to be processed")  # type: ignore[misc]
    published(service, private)
    for known, code in ((media_id, grpc.StatusCode.FAILED_PRECONDITION), ("f" * 64, grpc.StatusCode.NOT_FOUND)):
        with pytest.raises(grpc.RpcError) as refused:
            unblock(service, known)
        assert refused.value.code() is code
    assert service.run_cli("unblock", media_id).stderr.endswith(f"\navion-media: {media_id}: it is not blocked\n")


def fetch(url: str) -> tuple[int, str]:
    """What a visitor gets from the cache, and whether it was there."""
    response = httpx.get(url, headers={"Host": "media.example.org"}, trust_env=False, verify=False, timeout=30)
    return response.status_code, response.headers["X-Cache"]


def altered(body: bytes) -> bytes:
    """Smaller, blurred, and coded again."""
    with Image.open(io.BytesIO(body)) as picture:
        smaller = picture.convert("RGB").resize((picture.width // 2, picture.height // 2))
    target = io.BytesIO()
    smaller.filter(ImageFilter.GaussianBlur(2)).save(target, "JPEG", quality=60)
    return target.getvalue()


def test_a_large_video_is_refused_when_it_comes_again(service: Service, data_directory: Path) -> None:
    clip = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    padding = (10 << 20) - len(clip)  # above 8 MiB only parts of a video are read, unless they are compared
    video = clip + padding.to_bytes(4) + b"free" + bytes(padding - 8)
    media_id = published(service, video, "a.mp4", "video/mp4")
    block(service, media_id)
    again = service.upload("b.mp4", "video/mp4", video)
    assert (again.state, again.reason) == BLOCKED
    assert statuses_at_origin(service, again.media_id) == {451}
    unblock(service, media_id)


def test_a_block_of_sound_has_no_likeness(service: Service, bucket: S3Bucket, data_directory: Path) -> None:
    media_id = published(service, (data_directory / "ogg-vorbis-comments.ogg").read_bytes(), "a.ogg", "audio/ogg")
    block(service, media_id)
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="blocklist/own/")["Contents"]
    pages = (bucket.client.get_object(Bucket=bucket.bucket, Key=each["Key"])["Body"].read().decode() for each in listed)
    rows = [row for page in pages for row in page.splitlines() if media_id in row]
    assert [row.partition(",")[0] for row in rows] == ["sha256"]


def test_an_altered_copy_is_held_until_a_moderator_decides(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, data_directory: Path
) -> None:
    body = (data_directory / "jpeg-progressive.jpg").read_bytes()
    media_id = published(service, body)
    block(service, media_id)

    def held(body: bytes) -> str:
        granted = service.request_upload("c.jpg", "image/jpeg", len(body))
        service.put(granted, body)
        service.complete(granted.media_id)
        held = (wire.MediaStatus.PROCESSING, "held")
        eventually(lambda: state_of(service, granted.media_id) == held, "the copy to be held")
        return str(granted.media_id)

    released, refused = held(altered(body)), held(altered(body) + b"1")
    for each in (released, refused):
        service.complete(each)  # a moderator decides, not the client
        assert state_of(service, each) == (wire.MediaStatus.PROCESSING, "held")
        assert statuses_at_origin(service, each) == {404}
        assert events_about(redis_client, each) == ["media.held"]
        assert evidence(bucket, each)["preview"].startswith(b"\xff\xd8\xff")  # made in the sandbox, for moderators
    listed = json.loads(service.run_cli("review", "list", "--json").stdout)
    assert {each["media_id"] for each in listed} >= {released, refused}

    assert service.run_cli("review", "release", released).returncode == 0
    assert service.watch(released)[-1].state == wire.MediaStatus.READY
    assert service.run_cli("review", "block", refused).returncode == 0
    assert state_of(service, refused) == BLOCKED
    assert statuses_at_origin(service, refused) == {451}
    assert evidence(bucket, refused)["incoming"] == altered(body) + b"1"
    matched = record(bucket, refused)["matched"]
    assert (matched["list"], matched["media_id"]) == ("own", media_id)


def test_a_list_of_others_refuses_the_file_as_it_is_uploaded_or_fetched(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, data_directory: Path, tmp_path: Path
) -> None:
    body = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    video = (data_directory / "mp4-h264-rotated-90-tiny.mp4").read_bytes()
    file = tmp_path / "others.csv"
    md5 = hashlib.md5(video, usedforsecurity=False).hexdigest()
    file.write_text(f"type,hash,label\nsha256,{hashlib.sha256(body).hexdigest()},one\nmd5,{md5},two\n")

    assert service.run_cli("blocklist", "import", str(file)).stdout == "others: 1 sha256, 1 md5\n"

    refused = service.upload("a.jpg", "image/jpeg", body)
    assert (refused.state, refused.reason) == BLOCKED
    assert statuses_at_origin(service, refused.media_id) == {451}
    said = ["media.blocked"]  # last of all: by then its file is in quarantine
    eventually(lambda: events_about(redis_client, refused.media_id) == said, "the event")
    assert evidence(bucket, refused.media_id)["incoming"] == body
    refused = service.upload("a.mp4", "video/mp4", video)
    assert (refused.state, refused.reason) == BLOCKED
    with remote_server({"/a": body}) as remote:
        fetched = service.cache(f"{remote.url}/a").media_id
        assert service.watch(fetched)[-1].reason == "blocked"
        eventually(lambda: events_about(redis_client, fetched) == said, "the event")
        assert evidence(bucket, fetched)["incoming"] == body
        service.cache(f"{remote.url}/a")
        assert service.watch(fetched)[-1].reason == "blocked"
        assert remote.asked["/a"] == 1
    noted = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix="moderation/sources/host/127.0.0.1/")
    assert [each["Key"].rpartition("/")[2] for each in noted["Contents"]] == [fetched]
    matches = redis_client.hgetall(f"media_list_matches:{datetime.now(UTC):%Y-%m-%d}")
    assert int(matches["others"]) >= 3  # each attempt counts
    assert json.loads(service.run_cli("blocklist", "list", "--json").stdout)["others"] == {
        "sha256": 1,
        "md5": 1,
        "pdq": 0,
    }
    sample = tmp_path / "sample.jpg"
    sample.write_bytes(body)
    assert "of list others" in service.run_cli("blocklist", "check", str(sample)).stdout
    file.write_text("md5,1234,short\n")
    assert service.run_cli("blocklist", "import", str(file)).returncode == 1
    assert service.run_cli("blocklist", "check", str(file)).returncode == 1
    published(service, video[:-1] + b"x" if video[-1:] != b"x" else video[:-1] + b"y", "a.mp4", "video/mp4")


def test_a_blocked_remote_medium_is_not_fetched_again(service: Service, data_directory: Path) -> None:
    with remote_server({"/b": (data_directory / "webp-alpha.webp").read_bytes()}) as remote:
        media_id = service.cache(f"{remote.url}/b").media_id
        assert service.watch(media_id)[-1].state == wire.MediaStatus.READY
        assert service.run_cli("block", media_id, "--discard", "--json").returncode == 0
        assert statuses_at_origin(service, media_id) == {451}
        service.cache(f"{remote.url}/b")
        assert service.watch(media_id)[-1].reason == "blocked"
        assert service.run_cli("unblock", media_id).returncode == 0
        assert statuses_at_origin(service, media_id) == {404}


def test_a_block_that_only_a_newer_version_can_read_stays_in_force(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, data_directory: Path
) -> None:
    media_id = published(service, (data_directory / "png-16bit.png").read_bytes(), "a.png", "image/png")
    for key, body in (("watched", b""), ("blocked", b'{"v":2}')):
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"moderation/{key}/{media_id}", Body=body)
    redis_client.publish("media_blocks", media_id)
    eventually(lambda: statuses_at_origin(service, media_id) == {451}, "the origin to read the record")
    for call in (block, unblock):
        with pytest.raises(grpc.RpcError) as refused:
            call(service, media_id)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "cannot read a record" in refused.value.details()
