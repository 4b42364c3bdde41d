"""The command line as scripts use it: `--json`, exit statuses, and configuration errors."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import QUEUES, encode_id, fields_of, keys_of
from tests.service.remote_server import RemoteServer, remote_server

PREFIX = "AVION_MEDIA_"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """127.0.0.1 stands for the world."""
    return {"REMOTE__ALLOW_NETWORKS": "127.0.0.1/32", "LOG__LEVEL": "info"}


@pytest.fixture
def remote(data_directory: Path) -> Iterator[RemoteServer]:
    """A stranger's server."""
    with remote_server({"/cat.jpg": (data_directory / "jpeg-gray.jpg").read_bytes()}) as remote:
        yield remote


def told(done: subprocess.CompletedProcess[str], status: int = 0) -> Any:
    """The JSON that a command printed."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str], status: int) -> str:
    """What a command said on standard error, with nothing on standard output."""
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.strip()
    return done.stderr


def test_upload_prints_what_became_of_each_file(service: Service, data_directory: Path, bucket: S3Bucket) -> None:
    good, bad = data_directory / "jpeg-orientation-6.jpg", data_directory / "pdf.pdf"
    (uploaded,) = told(service.run_cli("upload", "--json", str(good)))
    assert uploaded["state"] == "READY"
    assert uploaded["file"] == str(good)
    assert (uploaded["width"], uploaded["height"]) == (600, 450)
    assert uploaded["url"] == f"{service.http_url}/media/{uploaded['media_id']}"
    assert set(uploaded["thumbnails"]) == {"small", "medium", "large"}
    assert len(keys_of(bucket, uploaded["media_id"])) == 5
    mixed = told(service.run_cli("upload", "--json", str(bad), str(good)), status=1)
    assert [each.get("state") for each in mixed] == ["READY", None]
    assert "INVALID_ARGUMENT" in mixed[1]["error"]


@pytest.mark.parametrize("name", ["photo.", "IMG_1.2024", "cat.jpg.bak", "cat.txt", "cat"])
def test_a_file_whose_extension_is_not_known_is_declared_by_its_content(
    service: Service, data_directory: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes((data_directory / "jpeg-gray.jpg").read_bytes())
    (uploaded,) = told(service.run_cli("upload", "--json", str(file)))
    assert (uploaded["state"], uploaded["content_type"]) == ("READY", "image/jpeg")
    file.write_bytes(b"some words")
    assert "content_type" in told(service.run_cli("upload", "--json", str(file)), status=1)[0]["error"]


def test_status_and_cache(service: Service, remote: RemoteServer) -> None:
    cached = told(service.run_cli("cache", "--json", f"{remote.url}/cat.jpg"))
    assert cached["state"] == "READY"
    again = told(service.run_cli("status", "--json", cached["media_id"]))
    assert again == {name: value for name, value in cached.items() if name != "task_id"}
    unknown = encode_id(datetime(2024, 1, 1, tzinfo=UTC), 1, 1)
    assert "NOT_FOUND" in refused(service.run_cli("status", unknown), 1)
    missing = told(service.run_cli("cache", "--json", f"{remote.url}/none.jpg"), status=1)
    assert (missing["state"], missing["reason"]) == ("FAILED", "remote_status")


def test_delete_makes_it_invisible_at_once_and_removes_it_after_the_delay(
    service: Service, redis_client: redis.Redis, data_directory: Path, bucket: S3Bucket
) -> None:
    status = service.upload("cat.jpg", "image/jpeg", (data_directory / "jpeg-gray.jpg").read_bytes())
    assert told(service.run_cli("delete", "--json", status.media_id)) == {"deleted": [status.media_id]}
    eventually(lambda: service.status(status.media_id).state == wire.MediaStatus.DELETED, "the tombstone")
    assert service.get(f"/media/{status.media_id}").status_code == 410
    assert len(keys_of(bucket, status.media_id)) == 5
    delayed: Any = redis_client.zrange("{media_delete_queue}:delayed", 0, -1, withscores=True)
    ((member, due),) = delayed
    task = fields_of(member)
    assert task["media_id"] == status.media_id
    assert task["task_id"]
    in_hours = (due - datetime.now(UTC).timestamp()) / 3600
    assert 23.9 < in_hours < 24.1


def test_queues_show_what_waits_and_what_was_given_up(service: Service, redis_client: redis.Redis) -> None:
    redis_client.xadd("media_processing_queue", {"task_id": "theirs"})
    eventually(lambda: redis_client.xlen("{media_processing_queue}:dlq"), "the dead letter")
    stats = told(service.run_cli("queues", "--json"))
    assert set(stats) == {*QUEUES, "media_purge_queue", "media_webhook_queue", "drop_deleted"}
    assert stats["media_processing_queue"]["dead_letters"] == 1
    for each in stats.values():
        assert {"depth", "lag", "pending", "oldest_age_s", "delayed"} <= set(each)
    (dead_letter,) = told(service.run_cli("dlq", "list", "--json"))
    assert (dead_letter["queue"], dead_letter["task_id"]) == ("media_processing_queue", "theirs")
    assert told(service.run_cli("dlq", "show", "--json", dead_letter["entry_id"])) == [dead_letter]
    told(service.run_cli("dlq", "replay", "--json", dead_letter["entry_id"]))
    eventually(lambda: redis_client.xlen("{media_processing_queue}:dlq"), "the dead letter again")
    told(service.run_cli("dlq", "drop", "--json", "--all"))
    assert not redis_client.xlen("{media_processing_queue}:dlq")
    refused(service.run_cli("dlq", "show", "1-1"), 1)


def test_init_is_safe_to_repeat(service: Service, bucket: S3Bucket, redis_client: redis.Redis) -> None:
    told(service.run_cli("init", "--json"))
    assert told(service.run_cli("init", "--json"))["created"] == []
    rules = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.bucket)["Rules"]
    prefixes = [str(rule.get("Filter", {}).get("Prefix", rule.get("Prefix"))) for rule in rules]
    assert "incoming/" in prefixes
    methods = [
        method
        for rule in bucket.client.get_bucket_cors(Bucket=bucket.bucket)["CORSRules"]
        for method in rule["AllowedMethods"]
    ]
    assert "PUT" in methods
    for queue in QUEUES:
        assert [group["name"] for group in redis_client.xinfo_groups(queue)] == ["media_workers"]


def test_sweep_with_dry_run_changes_nothing(service: Service, bucket: S3Bucket) -> None:
    orphan = f"thumbnail/small/2024/01/01/{encode_id(datetime(2024, 1, 1, tzinfo=UTC), 1, 5)}.jpg"
    bucket.client.put_object(Bucket=bucket.bucket, Key=orphan, Body=b"x")
    report = told(service.run_cli("sweep", "--dry-run", "--json"))
    assert report["dry_run"] is True
    assert bucket.client.head_object(Bucket=bucket.bucket, Key=orphan)["ContentLength"] == 1
    bucket.client.delete_object(Bucket=bucket.bucket, Key=orphan)


def test_wrong_usage_is_2(service: Service) -> None:
    for arguments in (("nonsense",), ("status",), ("dlq", "drop"), ("serve", "--roles", "cook")):
        refused(service.run_cli(*arguments), 2)


@pytest.mark.parametrize("command", ["status", "delete", "undelete", "why"])
def test_what_cannot_be_an_id_is_wrong_usage(service: Service, command: str) -> None:
    assert "nonsense: not a media id" in refused(service.run_cli(command, "--json", "nonsense"), 2)
    newer = encode_id(datetime(2024, 1, 1, tzinfo=UTC), 255, 1)
    assert "media item not found" in refused(service.run_cli(command, "--json", newer), 1)


def with_settings(service: Service, **changes: str) -> Service:
    """The same service for the command line, with other settings."""
    environment = service.environment | {PREFIX + name: value for name, value in changes.items()}
    return Service(
        service.process, environment, service.grpc_address, service.http_url, service.admin_url, service.log_path
    )


def test_config_shows_everything_with_secrets_masked(service: Service) -> None:
    shown = told(with_settings(service, REDIS__URL="redis://me:hush@127.0.0.1:1/0").run_cli("config", "--json"))
    assert shown["redis"]["url"] == "redis://me:***@127.0.0.1:1/0"
    assert shown["delete"]["delay"] == 86400
    plain = service.run_cli("config")
    assert plain.returncode == 0
    assert "AVION_MEDIA_DELETE__DELAY" in plain.stdout
    assert "UPLOAD__CREDENTIALS=drop" in plain.stderr
    assert "UPLOAD__CREDENTIALS" not in with_settings(service, UPLOAD__CREDENTIALS="keep").run_cli("config").stderr


@pytest.mark.parametrize(
    "refused_settings",
    [
        {"DRAIN__GRACE": "60s"},
        {"GRPC__BIND": "0.0.0.0:0"},
        {"ADMIN__BIND": "0.0.0.0:0"},
        {"ADMIN__TOKEN_FILE": "/no/such/file"},
        {"DRAIN__GRACE": "60s", "GRPC__BIND": "0.0.0.0:0", "ADMIN__BIND": "0.0.0.0:0"},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_config_refuses_what_serve_refuses_in_the_same_words(
    service: Service, refused_settings: dict[str, str]
) -> None:
    other = with_settings(service, **refused_settings)
    said = refused(other.run_cli("config"), 2)
    assert said == refused(other.run_cli("serve"), 2)
    assert len(said.splitlines()) == len(refused_settings)


def test_who_opens_no_port_need_not_say_who_may_use_it(service: Service) -> None:
    other = with_settings(service, GRPC__BIND="0.0.0.0:0", ADMIN__BIND="0.0.0.0:0")
    for sanitize in ("queues", "init"):
        told(other.run_cli(sanitize, "--json"))
    for command in ("config", "serve"):
        said = refused(other.run_cli(command, "--roles", "processing"), 2)
        assert "ADMIN__AUTH" in said
        assert "GRPC__AUTH" not in said
    other = with_settings(service, GRPC__BIND="0.0.0.0:0", ADMIN__BIND="0.0.0.0:0", ADMIN__AUTH="off")
    told(other.run_cli("config", "--json", "--roles", "processing"))


def test_the_contracts_defaults(service: Service) -> None:
    bare = {name: value for name, value in service.environment.items() if not name.startswith(PREFIX)}
    shown = told(
        Service(
            service.process, bare, service.grpc_address, service.http_url, service.admin_url, service.log_path
        ).run_cli("config", "--json")
    )
    expected: dict[str, dict[str, Any]] = {
        "grpc": {"bind": "127.0.0.1:50051"},
        "http": {"bind": "127.0.0.1:8080"},
        "admin": {"bind": "127.0.0.1:9090"},
        "redis": {"url": "redis://127.0.0.1:6379/0"},
        "s3": {"bucket": "avion-media", "region": "us-east-1"},
        "upload": {
            "max_image_bytes": 16 << 20,
            "max_video_bytes": 256 << 20,
            "max_pixels": 1 << 26,
            "url_ttl": 900,
        },
        "thumbnails": {"sizes": "small:400,medium:800,large:1600"},
        "remote": {"max_bytes": 64 << 20, "ttl": 7 * 86400, "deny_hosts": [], "allow_hosts": [], "allow_networks": []},
        "decoders": {
            **dict.fromkeys(("jpeg", "png", "gif", "webp", "avif", "mp4", "mov", "webm", "mkv"), True),
            "heic": False,
        },
        "delete": {"delay": 86400},
        "tasks": {"max_attempts": 5, "claim_after": 60},
        "drain": {"settle": 5, "grace": 25},
        "log": {"format": "json"},
    }
    assert {section: {name: shown[section][name] for name in names} for section, names in expected.items()} == expected


def test_sizes_and_durations_take_units_or_plain_numbers(service: Service) -> None:
    shown = told(
        with_settings(
            service,
            UPLOAD__MAX_IMAGE_BYTES="5MiB",
            UPLOAD__MAX_VIDEO_BYTES="1000",
            REMOTE__MAX_BYTES="1GB",
            DELETE__DELAY="2d",
            UPLOAD__URL_TTL="90",
            TASKS__CLAIM_AFTER="1500ms",
        ).run_cli("config", "--json")
    )
    assert (shown["upload"]["max_image_bytes"], shown["upload"]["max_video_bytes"]) == (5 << 20, 1000)
    assert shown["remote"]["max_bytes"] == 10**9
    assert (shown["delete"]["delay"], shown["upload"]["url_ttl"], shown["tasks"]["claim_after"]) == (172800, 90, 1.5)


def test_everything_wrong_with_the_configuration_is_told_at_once(service: Service) -> None:
    wrong = {
        "UPLOAD__MAX_IMAGE_BYTES": "many",
        "DELETE__DELAY": "-1h",
        "GRPC__BIND": "nowhere",
        "GRPC__BINDD": "127.0.0.1:1",
        "NONSENSE__NAME": "1",
        "REDIS__URL": "http://me:hush@127.0.0.1",
        "UPLOAD__URL_TTL": "8d",
        "S3__TIMEOUT": "0",
        "DECODERS__JPEG": "perhaps",
        "LOG__FORMAT": "poetry",
        "THUMBNAILS__SIZES": "small",
        "REMOTE__ALLOW_NETWORKS": "everywhere",
    }
    for command in (("config",), ("serve",), ("queues",)):
        said = refused(with_settings(service, **wrong).run_cli(*command), 2)
        for name in wrong:
            assert PREFIX + name in said, said
        assert "hush" not in said
