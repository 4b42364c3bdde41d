"""A bucket with every kind of record is backed up and restored as the page says, and an owner is erased."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from PIL import Image

from avion_media.common.wire.avion import media_pb2 as wire
from mediascrub import Format
from mediascrub.tests.signed import sign as sign_credentials
from tests.conftest import S3Bucket, fresh_bucket
from tests.service.commands import run_command
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import error_reason, keys_of
from tests.service.remote_server import remote_server
from tests.services.process import require

Status = wire.MediaStatus
PAGES = Path(__file__).parents[2] / "docs/how-to"
HOST, BLOCKED_HOST = "127.0.0.1", "blocked.example"
PREFIXES = {
    *("original/", "thumbnail/", "cached_remote/", "credentials/", "owner/", "host/", "sha256/", "size/", "private/"),
    *("quarantine/", "blocklist/", "moderation/blocked/", "moderation/hosts/", "moderation/watched/"),
    *("journal/deletions/", "secret/upload-ids", "secret/media-tokens", "secret/import-ids", "secret/remote-ids"),
}
LARGE_BYTES = 9 << 20  # a video of which only ranges are read


@dataclass
class Filled:
    """What is in the bucket, by name."""

    media: dict[str, str]
    statuses: dict[str, wire.MediaStatus]
    opens: str
    revoked: str


@pytest.fixture
def other_bucket(s3: S3Bucket) -> Iterator[S3Bucket]:
    with pytest.MonkeyPatch.context() as environment:
        yield from fresh_bucket(s3.address, environment)


@pytest.fixture
def backup(s3: S3Bucket) -> Iterator[S3Bucket]:
    with pytest.MonkeyPatch.context() as environment:
        yield from fresh_bucket(s3.address, environment)


def environment_of(redis_url: str, bucket: S3Bucket, **settings: str) -> dict[str, str]:
    return service_environment(
        redis_url,
        bucket.address.endpoint_url,
        bucket.bucket,
        REMOTE__ALLOW_NETWORKS="127.0.0.0/8",
        THUMBNAILS__WEBP="all",
        **settings,
    )


def commands_of(page: str, store: S3Bucket, backup: S3Bucket) -> list[str]:
    """Return the lines with rclone of a page, for these buckets."""
    found = re.findall(r"rclone (?:sync|copy) [^`\n]*", (PAGES / page).read_text())
    names = {"store": store.bucket, "backup": backup.bucket, "old": store.bucket, "new": backup.bucket}
    return [re.sub(r"(\w+):avion-media", lambda each: f"{each[1]}:{names[each[1]]}", line) for line in found]


def run_rclone(command: str, s3: S3Bucket) -> None:
    remote = {"TYPE": "s3", "PROVIDER": "Ceph", "ENDPOINT": s3.address.endpoint_url}
    remote |= {"ACCESS_KEY_ID": s3.address.access_key, "SECRET_ACCESS_KEY": s3.address.secret_key}
    settings = {f"RCLONE_CONFIG_{name}_{key}": value for name in ("STORE", "BACKUP") for key, value in remote.items()}
    inherited = {"PATH", "HOME"}  # neither a proxy nor settings of another store
    environment = {name: value for name, value in os.environ.items() if name in inherited}
    program = [require("rclone", "rclone"), *shlex.split(command)[1:], "--config", ""]
    subprocess.run(program, env=environment | settings, check=True, timeout=120)


def listing(bucket: S3Bucket) -> dict[str, int]:
    """Return the size of each object, without what replicas write when they start."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket)
    found = {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}
    return {key: size for key, size in found.items() if not key.startswith(("incoming/", "audit/"))}


def contents(bucket: S3Bucket) -> dict[str, tuple[bytes, str, dict[str, str]]]:
    """Return body, type and metadata of each object. The tool adds a time of its own."""
    found = {}
    for key in listing(bucket):
        got = bucket.client.get_object(Bucket=bucket.bucket, Key=key)
        metadata = {name: value for name, value in got["Metadata"].items() if name not in ("mtime", "btime")}
        found[key] = got["Body"].read(), got["ContentType"], metadata
    return found


def picture() -> bytes:
    noise = io.BytesIO()
    Image.frombytes("RGB", (64, 64), secrets.token_bytes(3 * 64 * 64)).save(noise, "PNG")
    return noise.getvalue()


def upload(service: Service, body: bytes, name: str = "a.png", kind: str = "image/png", **fields: Any) -> str:
    request = wire.RequestMediaUploadRequest(filename=name, content_type=kind, size=len(body), **fields)
    granted = service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    assert service.watch(granted.media_id)[-1].state == Status.READY
    return str(granted.media_id)


def call(service: Service, method: str, request: Any) -> Any:
    return service.call(method, request, getattr(wire, f"{method}Response"))


def usage(service: Service, **of: str) -> tuple[int, int]:
    found = call(service, "GetUsage", wire.GetUsageRequest(**of))
    return found.count, found.bytes


def fill(service: Service, bucket: S3Bucket, data_directory: Path, manifest: Path) -> Filled:
    """Make every kind of record."""
    ada = {"owner": "ada"}
    signed, _ = sign_credentials((data_directory / "jpeg-portrait-orientation-6.jpg").read_bytes(), Format.JPEG)
    clip = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    padding = LARGE_BYTES - len(clip)
    film = clip + padding.to_bytes(4) + b"free" + bytes(padding - 8)
    private = wire.MEDIA_VISIBILITY_PRIVATE
    media = {
        "credentials": upload(service, signed, "a.jpg", "image/jpeg", credentials=wire.CONTENT_CREDENTIALS_KEEP, **ada),
        "film": upload(service, film, "a.mp4", "video/mp4", **ada),
        "private": upload(service, picture(), visibility=private, **ada),
        "blocked": upload(service, picture(), **ada),
        "deleted": upload(service, picture(), **ada),
        "other": upload(service, picture(), owner="bob"),
    }
    with remote_server({"/a.jpg": (data_directory / "jpeg-gray.jpg").read_bytes()}, HOST) as server:
        media["remote"] = service.cache(f"{server.url}/a.jpg").media_id
        assert service.watch(media["remote"])[-1].state == Status.READY
    call(service, "BlockMedia", wire.BlockMediaRequest(media_id=media["blocked"]))
    call(service, "BlockHost", wire.BlockHostRequest(host=BLOCKED_HOST))
    call(service, "DeleteMedia", wire.DeleteMediaRequest(media_ids=[media["deleted"]]))
    opens, revoked = (
        call(service, "SignMediaUrls", wire.SignMediaUrlsRequest(media_ids=[media["private"]], audience=each)).tokens[
            media["private"]
        ]
        for each in ("bob", "eve")
    )
    revocation = wire.RevokeMediaUrlsRequest(media_ids=[media["private"]], audience="eve")
    call(service, "RevokeMediaUrls", revocation)
    multipart = wire.RequestMediaUploadRequest(
        filename="b.mp4", content_type="video/mp4", size=LARGE_BYTES, multipart=True
    )
    assert call(service, "RequestMediaUpload", multipart).upload_id
    (manifest.parent / "old.png").write_bytes(picture())
    manifest.write_text("source,name,date,owner\nold.png,old.png,2020-01-01,carol\n")
    assert import_it(service, manifest)["imported"] == 1
    bucket.client.put_object(Bucket=bucket.bucket, Key="blocklist/list.csv", Body=b"sha256," + b"ab" * 32 + b",bad\n")
    statuses = {name: service.status(each) for name, each in media.items()}
    return Filled(media, statuses, opens, revoked)


def import_it(service: Service, manifest: Path) -> dict[str, Any]:
    ended = service.run_cli("import", str(manifest), "--json")
    assert ended.returncode == 0, ended.stderr
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary


@contextmanager
def restored(url: str, bucket: S3Bucket, **settings: str) -> Iterator[Service]:
    with running(environment_of(url, bucket, **settings)) as service:
        yield service


def test_every_record_is_restored_and_an_owner_is_erased(
    s3: S3Bucket, other_bucket: S3Bucket, backup: S3Bucket, redis_url: str, data_directory: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "media.csv"
    with (
        redis.Redis.from_url(redis_url, decode_responses=True) as client,
        running(environment_of(redis_url, s3)) as service,
    ):
        filled = fill(service, s3, data_directory, manifest)
        used = {name: usage(service, owner=name) for name in ("ada", "bob", "carol")}
        of_host = usage(service, host=HOST)
        client.flushall()
    before = contents(s3)
    assert {prefix for prefix in PREFIXES if not any(key.startswith(prefix) for key in before)} == set()

    # Back up, and restore into a new bucket. A move is the first command, with the new bucket for the backup.
    sync = commands_of("back-up.md", s3, backup)[0]
    copy = commands_of("recover-a-lost-bucket.md", s3, backup)[0]
    assert commands_of("move-buckets.md", s3, backup)[0].split()[2:] == [
        each.replace("store:", "old:").replace("backup:", "new:") for each in sync.split()[2:]
    ]
    run_rclone(sync, s3)
    settings = {"DELETE__DELAY": "1s"}
    run_command("init", environment=environment_of(redis_url, other_bucket))
    run_rclone(copy.replace(s3.bucket, other_bucket.bucket), s3)
    assert contents(other_bucket) == before

    with restored(redis_url, other_bucket, **settings) as service:
        check_restored(service, other_bucket, filled, manifest)
        assert {name: usage(service, owner=name) for name in used} == used
        assert usage(service, host=HOST) == of_host == (1, held(other_bucket, filled.media["remote"]))
        erase_ada(service, other_bucket, filled)
        assert usage(service, owner="bob") == used["bob"]
        call(service, "BlockHost", wire.BlockHostRequest(host=HOST, purge=True))
        eventually(lambda: not keys_of(other_bucket, filled.media["remote"]), "the copies of the host are removed")


def held(bucket: S3Bucket, media_id: str) -> int:
    return sum(size for key, size in listing(bucket).items() if media_id in key)


def check_restored(service: Service, bucket: S3Bucket, filled: Filled, manifest: Path) -> None:
    """Check that the service is what it was, with an empty Redis."""
    for name, status in filled.statuses.items():
        assert service.status(filled.media[name]) == status, name
    private, deleted, blocked = (filled.media[each] for each in ("private", "deleted", "blocked"))
    served = filled.statuses["private"].path
    assert service.get(served.replace("{token}", filled.opens)).status_code == 200
    assert service.get(served.replace("{token}", filled.revoked)).status_code == 403
    assert service.get(f"/media/{private}").status_code == 404
    assert service.get(f"/media/{deleted}").status_code == 410
    assert service.get(f"/media/{blocked}").status_code == 451
    assert service.get(filled.statuses["credentials"].credentials_path).status_code == 200
    with pytest.raises(grpc.RpcError) as refused:
        service.cache(f"https://{BLOCKED_HOST}/a.jpg")
    assert error_reason(refused.value) == "HOST_BLOCKED"
    manifest.with_suffix(".map.csv").unlink()
    summary = import_it(service, manifest)
    assert (summary["imported"], summary["already_there"]) == (0, 1)
    report = json.loads(service.run_cli("sweep", "--dry-run", "--json").stdout)
    assert (report["done"], report["refused"], report["unrecognized"]) == ({}, [], 0)


def erase_ada(service: Service, bucket: S3Bucket, filled: Filled) -> None:
    """Delete all media of an owner. Only what the pages say remains: evidence, and records of ids."""
    of_ada = [filled.media[each] for each in ("credentials", "film", "private")]
    listed = call(service, "ListOwnerMedia", wire.ListOwnerMediaRequest(owner="ada")).media
    assert {*of_ada} <= {each.media_id for each in listed}
    call(service, "DeleteMedia", wire.DeleteMediaRequest(media_ids=[each.media_id for each in listed], owner="ada"))
    eventually(lambda: not [each for each in of_ada if left_of(bucket, each)], "all of it is removed")
    eventually(lambda: usage(service, owner="ada") == (0, 0), "all that was listed is removed, also what was imported")


def left_of(bucket: S3Bucket, media_id: str) -> set[str]:
    """Return the keys of a media item, without the record of its revoked tokens, which names nobody."""
    return {key for key in keys_of(bucket, media_id) if not key.startswith("private/")}
