"""What an owner has: counted, listed, deleted and restored by the index in the bucket."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import grpc
import jsonschema
import pytest

from avion_media.common import keys
from avion_media.common.ids import parse_any_id
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import key_of, keys_of, violations

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def uploaded(service: Service, data_directory: Path, name: str, content_type: str, owner: str) -> str:
    body = (data_directory / name).read_bytes()
    granted = service.request_upload(name, content_type, len(body), owner=owner)
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    return granted.media_id


def index_of(bucket: S3Bucket, owner: str = "") -> list[str]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"owner/{owner}")
    return [each["Key"] for each in listed.get("Contents", ())]


def held_bytes(bucket: S3Bucket, media_id: str) -> int:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket)
    return sum(
        each["Size"]
        for page in pages
        for each in page.get("Contents", ())
        if media_id in each["Key"] and not each["Key"].startswith("owner/")
    )


def usage(service: Service, owner: str) -> tuple[int, int]:
    found = service.call("GetUsage", wire.GetUsageRequest(owner=owner), wire.GetUsageResponse)
    return found.count, found.bytes


def pages(service: Service, owner: str, page_size: int) -> list[list[str]]:
    found, token = [], ""
    while True:
        request = wire.ListOwnerMediaRequest(owner=owner, page_size=page_size, page_token=token)
        page = service.call("ListOwnerMedia", request, wire.ListOwnerMediaResponse)
        found.append([each.media_id for each in page.media])
        token = page.next_page_token
        if not token:
            return found


def states(service: Service, media: list[str]) -> set[int]:
    return {service.status(each).state for each in media}


def test_an_owner_can_be_counted_listed_deleted_and_restored(
    service: Service, bucket: S3Bucket, data_directory: Path
) -> None:
    alices = [
        uploaded(service, data_directory, name, content_type, "alice")
        for name, content_type in (
            ("jpeg-gray.jpg", "image/jpeg"),
            ("gif-animated.gif", "image/gif"),
            ("mp4-h264-faststart.mp4", "video/mp4"),
        )
    ]
    bobs = uploaded(service, data_directory, "jpeg-gray.jpg", "image/jpeg", "alice.b")  # a prefix is no owner
    nobodys = uploaded(service, data_directory, "jpeg-gray.jpg", "image/jpeg", "")

    sizes = {media_id: held_bytes(bucket, media_id) for media_id in alices}
    assert index_of(bucket, "alice/") == [f"owner/alice/{each}.{size}" for each, size in sorted(sizes.items())]
    assert usage(service, "alice") == (3, sum(sizes.values()))
    assert usage(service, "alice.b") == (1, held_bytes(bucket, bobs))
    assert usage(service, "nobody") == (0, 0)
    assert [pages(service, "alice", size) for size in (0, 1, 2, 3, 1000)] == [
        [alices],
        [[each] for each in alices],
        [alices[:2], alices[2:]],
        [alices],
        [alices],
    ]

    shown = json.loads(service.run_cli("usage", "alice", "--json").stdout)
    assert (shown["count"], shown["bytes"]) == (3, sum(sizes.values()))
    assert [(each["kind"], each["count"]) for each in shown["by_kind_and_month"]] == [("image", 2), ("video", 1)]
    assert [each["owner"] for each in json.loads(service.run_cli("usage", "--json").stdout)] == ["alice", "alice.b"]
    assert "without an owner" not in service.run_cli("usage", "alice").stdout
    *table, note = service.run_cli("usage").stdout.splitlines()
    assert note.startswith("Media without an owner are not counted")
    assert [line.split()[:1] for line in table] == [["owner"], ["alice"], ["alice"], ["alice.b"], ["all"]]

    assert service.run_cli("delete", "--owner", "ivan").stderr.endswith("\navion-media: owner ivan has no media\n")
    deleted = json.loads(service.run_cli("delete", "--owner", "alice", "--json").stdout)["deleted"]
    assert deleted == alices
    eventually(lambda: states(service, alices) == {wire.MediaStatus.DELETED}, "all of the owner's media are deleted")
    assert states(service, [bobs, nobodys]) == {wire.MediaStatus.READY}
    restored = json.loads(service.run_cli("undelete", "--owner", "alice", "--json").stdout)["undeleted"]
    assert sorted(restored) == alices
    assert states(service, alices) == {wire.MediaStatus.READY}


def test_the_index_object_goes_with_its_medium(
    service: Service, bucket: S3Bucket, redis_client: Any, data_directory: Path
) -> None:
    media_id = uploaded(service, data_directory, "jpeg-gray.jpg", "image/jpeg", "carol")
    assert len(index_of(bucket, "carol/")) == 1

    redis_client.xadd("media_delete_queue", {"task_id": media_id, "media_id": media_id})  # another service: at once

    eventually(lambda: not keys_of(bucket, media_id), "the medium is removed")
    assert index_of(bucket, "carol/") == []


@pytest.mark.parametrize(("of_upload", "of_task", "owner"), [("", "frank", "frank"), ("grace", "frank", "grace")])
def test_a_task_names_the_owner_of_an_upload_that_has_none(
    service: Service,
    bucket: S3Bucket,
    redis_client: Any,
    data_directory: Path,
    of_upload: str,
    of_task: str,
    owner: str,
) -> None:
    body = (data_directory / "jpeg-gray.jpg").read_bytes()
    granted = service.request_upload("a.jpg", "image/jpeg", len(body), owner=of_upload)
    assert service.put(granted, body).status_code == 200
    task = {"task_id": granted.media_id, "media_id": granted.media_id, "type": "thumbnail", "owner": of_task}
    redis_client.xadd(PROCESSING_QUEUE, task)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    (index,) = [key for key in index_of(bucket) if granted.media_id in key]
    assert index.startswith(f"owner/{owner}/")


def test_the_sweep_removes_what_a_crash_left_in_the_index(
    service: Service, bucket: S3Bucket, data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media_id = uploaded(service, data_directory, "jpeg-gray.jpg", "image/jpeg", "dave")
    (right,) = index_of(bucket, "dave/")
    wrong = [
        f"owner/dave/{media_id[:-1]}{'0' if media_id[-1] != '0' else '1'}.5",  # never published
        f"owner/mallory/{media_id}.7",  # another's
    ]
    strange = "owner/dave/not-an-id.7"
    for key in (*wrong, strange):
        bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=b"")
    for margin, left in (("1h", [right, *wrong]), ("0", [right])):
        monkeypatch.setitem(service.environment, "AVION_MEDIA_SWEEP__MARGIN", margin)
        swept = json.loads(service.run_cli("sweep", "--json").stdout)
        assert sorted([*index_of(bucket, "dave/"), *index_of(bucket, "mallory/")]) == sorted([*left, strange])
    assert swept["done"]["disowned"]["objects"] == 2
    assert swept["stored"]["image"]["objects"] >= 1
    assert swept["stored"]["thumbnail"]["bytes"] > 0


def test_what_is_sent_is_as_the_schemas_say(service: Service, redis_client: Any, data_directory: Path) -> None:
    media_id = uploaded(service, data_directory, "jpeg-gray.jpg", "image/jpeg", "erin")
    from_redis = service.status(media_id)
    redis_client.delete(key_of("media_status", media_id))
    assert service.status(media_id) == from_redis  # as the object store has it
    refused = service.request_upload("cat.jpg", "image/jpeg", 5)
    assert service.put(refused, b"hello").status_code == 200
    service.complete(refused.media_id)
    assert service.watch(refused.media_id)[-1].state == wire.MediaStatus.FAILED
    service.run_cli("delete", media_id)
    redis_client.xadd("media_delete_queue", {"task_id": media_id, "media_id": media_id})
    events: list[dict[str, Any]] = []

    def seen() -> bool:
        events[:] = [json.loads(fields["event"]) for _, fields in redis_client.xrange("media_events")]
        return any(each["media_id"] == media_id and each["type"] == "media.deleted" for each in events)

    eventually(seen, "the deletion is published")
    ready = next(each for each in events if (each["type"], each["media_id"]) == ("media.ready", media_id))
    named = ("size", "width", "height", "path", "owner", "thumbnails", "content_type")
    assert {name: ready[name] for name in named} == {name: getattr(from_redis, name) for name in named}
    assert (ready["path"], ready["owner"], ready["duration"]) == (f"/media/{media_id}", "erin", 0)
    assert (ready["visibility"], from_redis.visibility) == ("public", wire.MEDIA_VISIBILITY_PUBLIC)
    notices = [json.loads(fields["event"]) for _, fields in redis_client.xrange("drop_deleted")]
    assert {"media_ids": [media_id]} in notices
    for name, sent in (("media_event", events), ("drop_deleted", notices)):
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        for each in sent:
            jsonschema.validate(each, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"media_id": media_id}, schema)
    assert {each["type"] for each in events} == {"media.ready", "media.failed", "media.deleted"}


@pytest.mark.parametrize(
    ("method", "request_", "answer", "reasons"),
    [
        ("GetUsage", wire.GetUsageRequest(), wire.GetUsageResponse, {"owner": "OWNER_REQUIRED"}),
        ("GetUsage", wire.GetUsageRequest(owner="a/b"), wire.GetUsageResponse, {"owner": "OWNER_INVALID"}),
        (
            "ListOwnerMedia",
            wire.ListOwnerMediaRequest(owner="a", page_size=-1, page_token="x"),
            wire.ListOwnerMediaResponse,
            {"page_size": "PAGE_SIZE_NEGATIVE", "page_token": "PAGE_TOKEN_INVALID"},
        ),
    ],
)
def test_bad_fields(service: Service, method: str, request_: Any, answer: Any, reasons: dict[str, str]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        service.call(method, request_, answer)
    assert violations(refused.value) == reasons


def test_an_owner_gets_an_archive_of_all_originals_and_the_reasons_of_what_is_missing(
    service: Service, bucket: S3Bucket, data_directory: Path, tmp_path: Path
) -> None:
    public, deleted, blocked, video = (
        uploaded(service, data_directory, name, content_type, "exporter")
        for name, content_type in (
            ("jpeg-gray.jpg", "image/jpeg"),
            ("gif-animated.gif", "image/gif"),
            ("png-exif-gps-text.png", "image/png"),
            ("mp4-h264-faststart.mp4", "video/mp4"),
        )
    )
    body = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    request = wire.RequestMediaUploadRequest(filename="a.jpg", content_type="image/jpeg", size=len(body))
    request.owner, request.visibility = "exporter", wire.MEDIA_VISIBILITY_PRIVATE
    granted = service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
    uploaded(service, data_directory, "jpeg-gray.jpg", "image/jpeg", "exporter.b")
    assert service.run_cli("delete", deleted).returncode == 0
    assert service.run_cli("block", blocked).returncode == 0

    path = tmp_path / "all.zip"
    exported = service.run_cli("owner", "export", "exporter", str(path))
    assert exported.returncode == 0, exported.stderr
    assert "3 files, 1 blocked, 1 deleted" in exported.stderr
    with zipfile.ZipFile(path) as archive:
        rows = {row["id"]: row for row in json.loads(archive.read("media.json"))}
        states = {row_id: row["state"] for row_id, row in rows.items()}
        kept = dict.fromkeys((public, video, granted.media_id), "published")
        assert states == kept | {deleted: "deleted", blocked: "blocked"}
        assert sorted(archive.namelist()) == sorted(["media.csv", "media.json", *(rows[each]["file"] for each in kept)])
        for media_id in kept:
            content = bucket.client.get_object(Bucket=bucket.bucket, Key=keys.original(parse_any_id(media_id)))[
                "Body"
            ].read()
            row = rows[media_id]
            assert archive.read(row["file"]) == content
            assert (row["sha256"], row["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert rows[granted.media_id]["visibility"] == "private"
    before = path.read_bytes()
    refused = service.run_cli("owner", "export", "exporter", str(path))
    assert (refused.returncode, path.read_bytes()) == (1, before)
    assert "File exists" in refused.stderr
    command = [sys.executable, "-m", "avion_media", "owner", "export", "exporter", "-"]
    piped = subprocess.run(command, env=service.environment, capture_output=True, check=True, timeout=60)
    with zipfile.ZipFile(io.BytesIO(piped.stdout)) as archive:
        assert len(json.loads(archive.read("media.json"))) == len(states)
