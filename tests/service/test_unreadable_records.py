"""A service, its commands and its console beside records that this version cannot read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, json_lines, running, service_environment

ID = "01M8D8AHEV0B0647EWDKZFG4Q1"
HASH = "ab" * 32
LATER = b'{"v":2,"media_id":"' + ID.encode() + b'"}'
OBJECTS = {
    f"journal/deletions/2099/01/01/{ID}.json": LATER,
    f"owner/alice/{ID}.many": b"",
    f"moderation/blocked/{ID}": LATER,
    f"moderation/held/{ID}": LATER,
    f"moderation/watched/{ID}": b"",
}
STRINGS = {
    f"media_status:{{{ID[-2:]}}}{ID}": b"X of a later version",
    f"remote_failure:{{{HASH[-2:]}}}{HASH}": LATER,
    f"remote_used:{{{HASH[-2:]}}}{HASH}": b"yesterday",
    "media_statistics": LATER,
}
HASHES: dict[str, Any] = {
    f"media_deletion:{{{ID[-2:]}}}{ID}": {"state": "frozen", "generation": "1"},
    "{media_processing_queue}:job:replay": {"v": "2", "state": "running"},
    "media_sweep": {"v": "2", "part": "tomorrow"},
    "media_replicas": {"another": LATER},
}
FOUND_BY_ITSELF = {"block", "held", "journal", "bulk_job", "sweep", "statistics"}
"""Kinds that a running service reads without a request."""


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis_py.Redis, bucket: S3Bucket) -> Iterator[Service]:
    for key, body in OBJECTS.items():
        bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=body)
    for key, text in STRINGS.items():
        redis_client.set(key, text)
    for key, fields in HASHES.items():
        redis_client.hset(key, mapping=fields)
    settings = {"MODERATION__RELOAD": "1s"}
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
    with running(environment) as service:
        yield service


def counted(service: Service) -> dict[str, int]:
    """Return the counts of unreadable records, by kind."""
    text = service.metrics()
    found = re.findall(r'^avion_records_unreadable_total\{[^}]*kind="(\w+)"[^}]*\} (\S+)', text, re.M)
    return {kind: int(float(count)) for kind, count in found if float(count)}


def page(service: Service, path: str) -> str:
    """Return a page of the console."""
    response = httpx.get(
        f"{service.admin_url}/console{path}", trust_env=False, verify=False, timeout=20, follow_redirects=True
    )
    assert response.status_code == 200, (path, response.text)
    return response.text


def test_the_service_starts_names_each_record_once_and_processes_uploads(
    service: Service, data_directory: Path
) -> None:
    eventually(lambda: counted(service).keys() >= FOUND_BY_ITSELF, "it to find the records that it reads by itself")
    uploaded = service.upload("a.jpg", "image/jpeg", (data_directory / "jpeg-gray.jpg").read_bytes())
    assert uploaded.state == wire.MediaStatus.State.READY
    assert service.status(ID).state == wire.MediaStatus.State.DELETED  # a state of a deletion that is not known
    named = [line["key"] for line in json_lines(service.log()) if line["event"] == "record.unreadable"]
    assert len(named) == len(set(named)) == sum(counted(service).values())
    assert f"journal/deletions/2099/01/01/{ID}.json" in named
    assert "Traceback" not in service.log()


def test_readiness_and_the_console_name_them(service: Service) -> None:
    report = service.ready()
    assert report is not None
    assert report["unreadable"]
    for path in ("", "/queues", "/system", "/media", f"/media/{ID}", "/moderation", "/audit", "/dead-letters"):
        assert "Internal" not in page(service, path)
    assert "Stored records cannot be read" in page(service, "")
    eventually(lambda: "Unreadable" in page(service, "/system"), "the list of replicas to name them")


def test_commands_name_them(service: Service) -> None:
    examined = service.run_cli("doctor", "store", "redis", "--json", timeout_s=120)
    warned = {each["check"] for each in json.loads(examined.stdout) if each["status"] == "warning"}
    assert {"its records can be read", "no process found unreadable records"} <= warned, examined.stdout
    for command in (("inspect", ID), ("jobs",), ("queues",), ("usage", "alice"), ("sweep", "--dry-run")):
        ended = service.run_cli(*command, timeout_s=60)
        assert "Traceback" not in ended.stderr
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)


def test_what_cannot_be_read_stays(service: Service, bucket: S3Bucket, redis_client: redis_py.Redis) -> None:
    kept = {each["Key"] for each in bucket.client.list_objects_v2(Bucket=bucket.bucket)["Contents"]}
    assert {key.replace("journal/deletions", "journal/unreadable") for key in OBJECTS} <= kept
    assert redis_client.hget(f"media_deletion:{{{ID[-2:]}}}{ID}", "state") == "frozen"
