"""Evidence and notices: what a block records, what a report keeps, and who may discard it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis as redis_py
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client.parser import text_string_to_metric_families

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.test_console_access import form_token, log_in

WITH_RIGHT, WITHOUT = "a-token-with-the-right-of-32-characters", "a-token-without-the-right-of-32-chars"


@pytest.fixture(scope="module")
def service(
    redis_of_process: str, redis_client: redis_py.Redis, bucket: S3Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    tokens = tmp_path_factory.mktemp("evidence") / "tokens"
    tokens.write_text(f"{WITH_RIGHT} moderator+evidence ines\n{WITHOUT} operator ada\n")
    environment = service_environment(
        redis_of_process,
        bucket.address.endpoint_url,
        bucket.bucket,
        ADMIN__TOKEN_FILE=str(tokens),
        MODERATION__RELOAD="1",
    )
    with running(environment) as service:
        yield service


@pytest.fixture
def picture(data_directory: Path) -> bytes:
    return (data_directory / "jpeg-orientation-6.jpg").read_bytes()


def published(service: Service, picture: bytes, number: int) -> str:
    """A media item of its own: the number is in a comment behind the picture."""
    comment = f"{number}".encode().rjust(8, b"0")
    marked = picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]
    status = service.upload("a.jpg", "image/jpeg", marked)
    assert status.state == wire.MediaStatus.READY, status
    return str(status.media_id)


def block(service: Service, media_id: str, **fields: Any) -> None:
    service.call("BlockMedia", wire.BlockMediaRequest(media_id=media_id, **fields), wire.BlockMediaResponse)


def unblock(service: Service, media_id: str) -> None:
    service.call("UnblockMedia", wire.UnblockMediaRequest(media_id=media_id), wire.UnblockMediaResponse)


def kept(bucket: S3Bucket, media_id: str) -> set[str]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"quarantine/{media_id}/").get("Contents", [])
    return {each["Key"].rpartition("/")[2] for each in listed}


def record(bucket: S3Bucket, media_id: str) -> dict[str, Any]:
    found = bucket.client.get_object(Bucket=bucket.bucket, Key=f"quarantine/{media_id}/record.json")
    read: dict[str, Any] = json.loads(found["Body"].read())
    return read


def days_until(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)) / timedelta(days=1)


def as_timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


@pytest.fixture(autouse=True)
def forget_entries(service: Service, bucket: S3Bucket) -> Iterator[None]:
    """The picture of each test resembles those of the others: no test leaves an entry."""
    yield
    for key in ("moderation/blocked/", "blocklist/own/"):
        for each in bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=key).get("Contents", []):
            media_id = each["Key"].removeprefix("moderation/blocked/")
            if "/" not in media_id and service.status(media_id).reason == "blocked":
                unblock(service, media_id)


@pytest.mark.parametrize("fields", [{}, {"keep_evidence": False}, {"keep_evidence": True}])
def test_a_block_by_call_without_any_optional_field_keeps_its_evidence(
    service: Service, bucket: S3Bucket, picture: bytes, fields: dict[str, bool]
) -> None:
    media_id = published(service, picture, 1)
    block(service, media_id, **fields)
    assert kept(bucket, media_id) >= {"original", "thumbnail-small", "record.json"}
    assert 399.9 < days_until(record(bucket, media_id)["kept_until"]) <= 400
    unblock(service, media_id)
    assert service.status(media_id).state == wire.MediaStatus.READY
    assert "record.json" in kept(bucket, media_id)


def test_a_block_keeps_nothing_only_if_the_caller_says_so(service: Service, bucket: S3Bucket, picture: bytes) -> None:
    media_id = published(service, picture, 2)
    block(service, media_id, discard_evidence=True, keep_evidence=True)
    assert kept(bucket, media_id) == set()
    assert service.get(f"/media/{media_id}").status_code == 451


def test_what_the_notice_says_is_recorded_with_the_block(service: Service, bucket: S3Bucket, picture: bytes) -> None:
    media_id = published(service, picture, 3)
    requested_at = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    block(
        service,
        media_id,
        requested_at=as_timestamp(requested_at),
        ground=wire.BLOCK_GROUND_NONCONSENSUAL,
        automated=True,
        note="report 4711",
    )
    wanted = {"requested_at": "2026-11-20T08:30:00.000+00:00", "ground": "nonconsensual", "automated": True}
    assert record(bucket, media_id).items() >= wanted.items()
    (blocked, evidence) = json.loads(service.run_cli("inspect", media_id, "--json").stdout)["moderation"]
    assert blocked.items() >= wanted.items()
    assert (evidence["record"], evidence["ground"]) == ("evidence", "nonconsensual")
    assert series(service, "avion_moderation_time_to_block_seconds_count", start="notice") >= 1


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"requested_at": as_timestamp(datetime(2100, 1, 1, tzinfo=UTC))}, "requested_at", "REQUESTED_AT_INVALID"),
        ({"requested_at": Timestamp(seconds=-1 << 40)}, "requested_at", "REQUESTED_AT_INVALID"),
        ({"requested_at": Timestamp(nanos=-5)}, "requested_at", "REQUESTED_AT_INVALID"),
        ({"ground": 99}, "ground", "GROUND_INVALID"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_name_of_its_field(
    service: Service, picture: bytes, fields: dict[str, Any], field: str, reason: str
) -> None:
    media_id = published(service, picture, 4)
    with pytest.raises(grpc.RpcError) as refused:
        block(service, media_id, **fields)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert field.encode() in details
    assert reason.encode() in details
    assert service.get(f"/media/{media_id}").status_code == 200


def test_a_report_about_a_public_media_item_waits_until_it_is_blocked(
    service: Service, bucket: S3Bucket, picture: bytes
) -> None:
    media_id = published(service, picture, 5)
    arrived = datetime.now(UTC) - timedelta(hours=40)
    held = service.run_cli(
        *("evidence", "hold", media_id, "--until", "2099-12-31"),
        *("--report", "by the person depicted", "--requested-at", arrived.isoformat()),
    )
    assert held.returncode == 0, held.stderr
    assert service.get(f"/media/{media_id}").status_code == 200
    assert kept(bucket, media_id) >= {"original", "record.json"}
    first = json.loads(service.run_cli("review", "list", "--json").stdout)[0]
    assert (first["media_id"], first["notice"]["report"]) == (media_id, "by the person depicted")
    assert 7.8 < first["hours_left"] <= 8
    eventually(lambda: 7 * 3600 < series(service, "avion_review_time_left_seconds") < 8 * 3600, "the metric")
    assert series(service, "avion_review_notices") == 1

    assert service.run_cli("block", media_id, "--ground", "nonconsensual").returncode == 0
    assert json.loads(service.run_cli("review", "list", "--json").stdout) == []
    found = record(bucket, media_id)
    assert found["kept_until"] == "2099-12-31T23:59:59.000+00:00"
    assert found["requested_at"] == arrived.isoformat(timespec="milliseconds")
    assert (found["report"], found["ground"]) == ("by the person depicted", "nonconsensual")
    eventually(lambda: series(service, "avion_review_notices") == 0, "the notice to go")
    assert series(service, "avion_review_time_left_seconds") == 48 * 3600


def test_a_dismissed_notice_leaves_the_media_item_and_its_evidence(
    service: Service, bucket: S3Bucket, picture: bytes
) -> None:
    media_id = published(service, picture, 6)
    assert service.run_cli("evidence", "hold", media_id, "--report", "spam?").returncode == 0
    assert service.run_cli("review", "dismiss", media_id).returncode == 0
    assert service.run_cli("review", "dismiss", media_id).returncode == 1
    assert json.loads(service.run_cli("review", "list", "--json").stdout) == []
    assert service.get(f"/media/{media_id}").status_code == 200
    listed = {each["media_id"]: each for each in json.loads(service.run_cli("evidence", "list", "--json").stdout)}
    assert listed[media_id]["report"] == "spam?"
    assert 399.9 < days_until(listed[media_id]["kept_until"]) <= 400
    shown = json.loads(service.run_cli("evidence", "show", media_id, "--json").stdout)
    assert "original" in shown["files"]
    assert service.run_cli("evidence", "show", media_id[:-1] + "0").returncode == 1
    assert media_id in service.run_cli("evidence", "list").stdout


def test_evidence_is_discarded_before_its_time_only_with_the_right_and_a_reason(
    service: Service, bucket: S3Bucket, picture: bytes
) -> None:
    media_id = published(service, picture, 7)
    block(service, media_id)
    refused = service.run_cli("evidence", "discard", media_id)
    assert (refused.returncode, "needs a reason" in refused.stderr) == (1, True)

    def by_console(token: str, note: str) -> httpx.Response:
        with httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=30) as browser:
            assert log_in(browser, token).status_code == 303
            form = {"form_token": form_token(browser.get("/console")), "action": "discard_evidence", "note": note}
            return browser.post("/console/actions", data=form | {"target": media_id, "confirmed": "yes"})

    assert by_console(WITHOUT, "by order of a court").status_code == 403
    assert by_console(WITH_RIGHT, "").status_code == 303
    assert "original" in kept(bucket, media_id)
    assert by_console(WITH_RIGHT, "by order of a court").status_code == 303
    assert kept(bucket, media_id) == set()
    blocked = json.loads(service.run_cli("inspect", media_id, "--json").stdout)["moderation"]
    assert [(each["record"], each["evidence"]) for each in blocked] == [("blocked", "discarded")]
    assert service.get(f"/media/{media_id}").status_code == 451


def test_the_console_asks_for_the_fields_of_a_block(service: Service, bucket: S3Bucket, picture: bytes) -> None:
    media_id = published(service, picture, 8)
    with httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=30) as browser:
        assert log_in(browser, WITH_RIGHT).status_code == 303
        asked = browser.get(f"/console/confirm?action=block&target={media_id}").text
        assert 'name="ground"' in asked
        assert 'name="requested_at"' in asked
        form = {"form_token": form_token(browser.get("/console")), "action": "block", "target": media_id}
        form |= {"confirmed": "yes", "ground": "copyright"}
        assert browser.post("/console/actions", data=form | {"requested_at": "2100-01-01T00:00"}).status_code == 422
        assert service.get(f"/media/{media_id}").status_code == 200
        assert browser.post("/console/actions", data=form | {"requested_at": "2026-11-20T08:00"}).status_code == 303
        page = browser.get(f"/console/media/{media_id}").text
        evidence = browser.get("/console/moderation?part=evidence").text
    found = record(bucket, media_id)
    assert (found["ground"], found["requested_at"]) == ("copyright", "2026-11-20T08:00:00.000+00:00")
    assert (found["automated"], found["by"].partition(" ")[0]) == (False, "ines")
    assert "copyright" in page
    assert media_id in evidence


def series(service: Service, name: str, **labels: str) -> float:
    """The value of one series of the metrics page."""
    for family in text_string_to_metric_families(service.metrics()):
        for sample in family.samples:
            if sample.name == name and sample.labels.items() >= labels.items():
                return float(sample.value)
    raise AssertionError(f"no series {name} {labels}")
