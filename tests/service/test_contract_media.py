"""The contract's ids, object keys, metadata, tasks and events, checked with clients of another make."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import (
    decode_id,
    encode_id,
    entries,
    events_of,
    fields_of,
    key_of,
    keys_of,
    original_key,
    thumbnail_key,
    unfinished,
)

SIZES = ("small", "medium", "large")


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Deletions are final almost at once."""
    return {"DELETE__DELAY": "300ms"}


@pytest.fixture
def picture(data_directory: Path) -> bytes:
    """A small JPEG of 600 x 450 pixels."""
    return (data_directory / "jpeg-orientation-6.jpg").read_bytes()


@pytest.fixture
def ready(service: Service, picture: bytes) -> wire.MediaStatus:
    """A medium that went all the way."""
    status = service.upload("cat.jpg", "image/jpeg", picture)
    assert status.state == wire.MediaStatus.READY
    return status


def done(client: redis.Redis) -> bool:
    return not unfinished(client)


@pytest.mark.parametrize(
    ("filename", "content_type", "code"),
    [
        ("a.jpg", "image/jpeg", 1),
        ("a.png", "image/png", 2),
        ("a.gif", "image/gif", 3),
        ("a.webp", "image/webp", 4),
        ("a.avif", "image/avif", 5),
        ("a.mp4", "video/mp4", 32),
        ("a.mov", "video/quicktime", 33),
        ("a.webm", "video/webm", 34),
        ("a.mkv", "video/x-matroska", 35),
    ],
)
def test_an_id_tells_its_date_and_format(service: Service, filename: str, content_type: str, code: int) -> None:
    granted = service.request_upload(filename, content_type, 1000)
    decoded = decode_id(granted.media_id)
    assert decoded.format_code == code
    assert abs(datetime.now(UTC) - decoded.created) < timedelta(seconds=30)
    again = decode_id(service.request_upload(filename, content_type, 1000).media_id)
    assert again.random != decoded.random
    assert granted.upload_headers["Content-Type"] == content_type
    assert f"/incoming/{granted.media_id}?" in granted.upload_url
    life = granted.expires_at.ToDatetime(UTC) - decoded.created
    assert timedelta(seconds=890) < life < timedelta(seconds=910)


def test_a_medium_lies_where_its_id_says_and_incoming_is_gone(
    ready: wire.MediaStatus, bucket: S3Bucket, redis_client: redis.Redis
) -> None:
    expected = {original_key(ready.media_id), *(thumbnail_key(ready.media_id, size) for size in SIZES)}
    eventually(lambda: done(redis_client), "the queues to be empty")  # READY is told before incoming/ goes
    body = bucket.client.get_object(Bucket=bucket.bucket, Key=original_key(ready.media_id))["Body"].read()
    expected.add(f"sha256/{hashlib.sha256(body).hexdigest()}/{ready.media_id}")
    assert keys_of(bucket, ready.media_id) == expected


def test_facts_are_metadata_of_the_original(ready: wire.MediaStatus, bucket: S3Bucket) -> None:
    stored = bucket.client.get_object(Bucket=bucket.bucket, Key=original_key(ready.media_id))
    content = stored["Body"].read()
    metadata = stored["Metadata"]
    assert stored["ContentType"] == "image/jpeg"
    assert metadata == {
        "type": "image/jpeg",
        "format": "jpeg",
        "width": "600",
        "height": "450",
        "duration": "0.000",
        "animated": "0",
        "blurhash": ready.blurhash,
        "sha256": hashlib.sha256(content).hexdigest(),
        "thumbnails": "small,medium,large",
    }
    assert (ready.width, ready.height, ready.size) == (600, 450, len(content))
    assert (ready.content_type, ready.animated, ready.duration.ToMilliseconds()) == ("image/jpeg", False, 0)
    assert ready.reason == ""
    assert dict(ready.thumbnails) == {size: f"/thumbnail/{size}/{ready.media_id}" for size in SIZES}


def test_the_store_alone_knows_when_redis_forgot(
    ready: wire.MediaStatus, service: Service, redis_client: redis.Redis
) -> None:
    redis_client.delete(key_of("media_status", ready.media_id))
    assert service.status(ready.media_id) == ready


def test_states_until_ready(service: Service, picture: bytes) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", len(picture))
    assert service.status(granted.media_id).state == wire.MediaStatus.PENDING_UPLOAD
    assert service.put(granted, picture).status_code == 200
    assert service.status(granted.media_id).state == wire.MediaStatus.PENDING_UPLOAD
    service.complete(granted.media_id)
    states = [status.state for status in service.watch(granted.media_id)]
    assert states[-1] == wire.MediaStatus.READY
    assert states[:-1] in ([], [wire.MediaStatus.PROCESSING])
    assert service.watch(granted.media_id)[0].state == wire.MediaStatus.READY  # ends at once


def test_the_true_type_of_the_same_family_is_served_under_the_declared_extension(
    service: Service, bucket: S3Bucket, data_directory: Path
) -> None:
    status = service.upload("really-a-png.jpg", "image/jpeg", (data_directory / "png-named.jpg").read_bytes())
    assert (status.state, status.content_type) == (wire.MediaStatus.READY, "image/png")
    key = original_key(status.media_id)
    assert key.endswith(".jpg")
    assert bucket.client.head_object(Bucket=bucket.bucket, Key=key)["ContentType"] == "image/png"
    assert service.get(f"/media/{status.media_id}").headers["Content-Type"] == "image/png"


def test_ready_and_failed_are_told_on_stream_and_channel(
    service: Service, redis_client: redis.Redis, picture: bytes
) -> None:
    with redis_client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
        channel.subscribe("media_events")
        eventually(lambda: redis_client.pubsub_numsub("media_events")[0][1], "the subscription")
        good = service.upload("cat.jpg", "image/jpeg", picture)
        bad = service.upload("cat.jpg", "image/jpeg", b"no picture at all")
        heard = [_next_event(channel) for _ in range(2)]
    assert [(event["type"], event["media_id"]) for event in heard] == [
        ("media.ready", good.media_id),
        ("media.failed", bad.media_id),
    ]
    assert heard[1]["reason"] == bad.reason
    assert events_of(redis_client, good.media_id) + events_of(redis_client, bad.media_id) == heard
    assert {name for fields in entries(redis_client, "media_events") for name in fields} == {"event"}


def _next_event(channel: redis.client.PubSub) -> dict[str, str]:
    message = eventually(lambda: channel.get_message(timeout=1.0), "an event on the channel")
    event: dict[str, str] = json.loads(message["data"])
    return event


def test_a_task_has_the_contracts_fields_and_completing_twice_makes_one(
    service: Service, redis_client: redis.Redis, picture: bytes
) -> None:
    with redis_client.monitor() as commands:  # type: ignore[no-untyped-call]
        granted = service.request_upload("cat.jpg", "image/jpeg", len(picture))
        service.put(granted, picture)
        service.complete(granted.media_id)
        service.complete(granted.media_id)
        status = service.watch(granted.media_id)[-1]
        service.complete(granted.media_id)
        added = _added_entries(commands, "media_processing_queue", redis_client)
    assert status.state == wire.MediaStatus.READY
    assert len(added) == 1
    task = added[0]
    assert task["media_id"] == granted.media_id
    assert task["type"] == "thumbnail"
    assert task["task_id"]
    version, trace_id, span_id, _flags = task["traceparent"].split("-")
    assert (version, len(trace_id), len(span_id)) == ("00", 32, 16)
    assert len(events_of(redis_client, granted.media_id)) == 1
    eventually(lambda: done(redis_client), "the queues to be empty")


def _added_entries(commands: Any, stream: str, client: redis.Redis) -> list[dict[str, str]]:
    """The entries that were added to a stream, read off what the server was told, up to now."""
    client.echo("that is all")
    added = []
    while "that is all" not in (command := commands.next_command()["command"]):
        words = command.split(" ")
        if words[0].upper() == "XADD" and words[1] == stream:
            fields = words[3:]
            added.append(dict(zip(fields[::2], fields[1::2], strict=True)))
    return added


def test_a_foreign_producers_task_of_only_the_contracts_fields_is_done(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, picture: bytes
) -> None:
    media_id = encode_id(datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), 1, 4711)
    bucket.client.put_object(Bucket=bucket.bucket, Key=f"incoming/{media_id}", Body=picture)
    redis_client.xadd("media_processing_queue", {"task_id": "theirs", "media_id": media_id, "type": "thumbnail"})
    eventually(lambda: events_of(redis_client, media_id), "the event")
    assert service.status(media_id).state == wire.MediaStatus.READY
    assert f"original/2024/02/29/{media_id}.jpg" in keys_of(bucket, media_id)
    redis_client.xadd("media_delete_queue", {"task_id": "theirs-too", "media_id": media_id})
    eventually(lambda: not keys_of(bucket, media_id), "the objects to be removed")
    eventually(lambda: done(redis_client), "the queues to be empty")


@pytest.mark.parametrize("fields", [{"task_id": "x"}, {"media_id": "../../etc/passwd"}, {"nonsense": "1"}])
def test_a_foreign_producers_nonsense_ends_and_holds_nobody_up(
    redis_client: redis.Redis, service: Service, picture: bytes, fields: dict[str, str]
) -> None:
    redis_client.xadd("media_processing_queue", dict[Any, Any](fields))
    assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
    eventually(lambda: not redis_client.xlen("media_processing_queue"), "the queue to be empty")
    (dead_letter,) = entries(redis_client, "{media_processing_queue}:dlq")
    redis_client.delete("{media_processing_queue}:dlq")
    assert dead_letter["error"].startswith("malformed_task: ")
    assert dead_letter.items() >= fields.items()
    assert float(dead_letter["failed_at"]) > 0
    assert int(dead_letter["attempts"]) >= 0


@pytest.mark.parametrize(
    ("queue", "fields"),
    [
        ("media_delete_queue", {"task_id": "theirs", "media_id": "01K0NOTANID"}),
        ("media_cache_queue", {"task_id": "theirs", "remote_url": "gopher://a.example/"}),
    ],
)
def test_a_task_that_cannot_be_read_is_a_dead_letter_of_the_other_queues_too(
    redis_client: redis.Redis, service: Service, queue: str, fields: dict[str, str]
) -> None:
    redis_client.xadd(queue, dict[Any, Any](fields))
    (dead_letter,) = eventually(lambda: entries(redis_client, f"{{{queue}}}:dlq"), "the dead letter")
    redis_client.delete(f"{{{queue}}}:dlq")
    assert dead_letter["error"].startswith("malformed_task: ")
    assert dead_letter.items() >= fields.items()
    eventually(lambda: done(redis_client), "the queues to be empty")


@pytest.mark.parametrize("queue", ["media_processing_queue", "media_delete_queue"])
def test_a_task_that_only_a_newer_version_can_do_waits_for_it(
    service: Service, redis_client: redis.Redis, queue: str
) -> None:
    newer = encode_id(datetime.now(UTC), 255, 1)
    if queue == "media_delete_queue":
        redis_client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [newer]})})
    else:
        redis_client.xadd(queue, {"task_id": "theirs", "media_id": newer})

    def put_off() -> dict[str, str] | None:
        members: Any = redis_client.zrange(f"{{{queue}}}:delayed", 0, -1)
        found: list[Any] = [fields_of(each) for each in members]
        return next((each for each in found if "unavailable_since" in each), None)

    task = eventually(put_off, "a worker to leave it to a newer one")
    assert (task["media_id"], task["attempts"]) == (newer, "0")
    assert service.get(f"/media/{newer}").status_code == 404
    redis_client.delete(f"{{{queue}}}:delayed")
    eventually(lambda: done(redis_client), "the queues to be empty")


@pytest.mark.parametrize("way", ["channel", "stream"])
def test_what_was_deleted_is_gone_at_once_and_removed_after_the_delay(
    way: str, ready: wire.MediaStatus, service: Service, bucket: S3Bucket, redis_client: redis.Redis
) -> None:
    event = json.dumps({"media_ids": [ready.media_id], "post_id": "anything else"})
    if way == "stream":
        redis_client.xadd("drop_deleted", {"event": event})
    else:
        assert redis_client.publish("drop_deleted", event) >= 1
    eventually(lambda: service.status(ready.media_id).state == wire.MediaStatus.DELETED, "the tombstone")
    for path in (f"/media/{ready.media_id}", *ready.thumbnails.values()):
        assert service.get(path).status_code == 410
    eventually(lambda: not keys_of(bucket, ready.media_id), "the objects to be removed")
    eventually(lambda: len(events_of(redis_client, ready.media_id)) == 2, "the event")
    made, deleted = events_of(redis_client, ready.media_id)
    assert (deleted["type"], deleted["media_id"]) == ("media.deleted", ready.media_id)
    assert deleted["seq"] > made["seq"]
    assert deleted["event_id"] != made["event_id"]
    assert service.get(f"/media/{ready.media_id}").status_code == 410
    eventually(lambda: done(redis_client), "the queues to be empty")


def test_a_transparent_picture_keeps_its_transparency_in_webp_thumbnails_that_go_with_it(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, data_directory: Path
) -> None:
    data = (data_directory / "webp-alpha.webp").read_bytes()
    status = service.upload("icon.webp", "image/webp", data)
    paths = dict(status.thumbnails)
    assert {name: path for name, path in paths.items() if name.endswith(".webp")} == {
        f"{size}.webp": f"/thumbnail/{size}/{status.media_id}.webp" for size in SIZES
    }
    assert [service.get(paths[name]).headers["Content-Type"] for name in ("small", "small.webp")] == [
        "image/jpeg",
        "image/webp",
    ]
    assert len([key for key in keys_of(bucket, status.media_id) if key.endswith(".webp")]) == 1 + len(SIZES)
    redis_client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [status.media_id]})})
    eventually(lambda: service.status(status.media_id).state == wire.MediaStatus.DELETED, "the tombstone")
    assert {service.get(path).status_code for path in paths.values()} == {410}
    eventually(lambda: not keys_of(bucket, status.media_id), "the objects to be removed")
    eventually(lambda: done(redis_client), "the queues to be empty")
