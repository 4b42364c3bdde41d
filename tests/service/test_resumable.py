"""Uploads in parts, as a gateway and its clients use them: interrupted, continued elsewhere, completed once."""

from __future__ import annotations

import json
import socket
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import redis
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from avion_media.cli.client import Begun, Memory
from avion_media.common.errors import Reason
from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.commands import start_service
from tests.service.harness import Service, eventually, running
from tests.service.published import encode_id, key_of, violations
from tests.services.process import free_port

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def video(data_directory: Path) -> bytes:
    """A video of 20 MiB: three parts."""
    clip = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    padding = 20 * MEBIBYTE - len(clip)
    return clip + padding.to_bytes(4) + b"free" + bytes(padding - 8)


@pytest.fixture(scope="module")
def replica(service: Service) -> Iterator[Service]:
    """Another process of the service, with the same store and Redis."""
    ports = {f"AVION_MEDIA_{name}__BIND": f"127.0.0.1:{free_port()}" for name in ("GRPC", "HTTP", "ADMIN")}
    with running({**service.environment, **ports}, roles="grpc") as replica:
        yield replica


def begin(service: Service, size: int, **fields: Any) -> wire.RequestMediaUploadResponse:
    request = wire.RequestMediaUploadRequest(
        filename="clip.mp4", content_type="video/mp4", size=size, multipart=True, **fields
    )
    granted: wire.RequestMediaUploadResponse = service.call(
        "RequestMediaUpload", request, wire.RequestMediaUploadResponse
    )
    return granted


def sign(
    service: Service, granted: wire.RequestMediaUploadResponse, numbers: tuple[int, ...] = ()
) -> wire.SignUploadPartsResponse:
    request = wire.SignUploadPartsRequest(media_id=granted.media_id, upload_id=granted.upload_id, numbers=numbers)
    signed: wire.SignUploadPartsResponse = service.call("SignUploadParts", request, wire.SignUploadPartsResponse)
    return signed


def put(part: wire.UploadPart, body: bytes) -> int:
    data = body[part.offset : part.offset + part.size]
    return httpx.put(
        part.url, content=data, headers=dict(part.headers), trust_env=False, verify=False, timeout=60
    ).status_code


def complete(service: Service, granted: wire.RequestMediaUploadResponse) -> None:
    request = wire.CompleteMediaUploadRequest(media_id=granted.media_id, upload_id=granted.upload_id)
    service.call("CompleteMediaUpload", request, wire.CompleteMediaUploadResponse)


def abort(service: Service, granted: wire.RequestMediaUploadResponse) -> None:
    request = wire.AbortMediaUploadRequest(media_id=granted.media_id, upload_id=granted.upload_id)
    service.call("AbortMediaUpload", request, wire.AbortMediaUploadResponse)


def reason_of(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    info = ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
    return error.code(), info.reason, dict(info.metadata)


def unfinished(bucket: S3Bucket) -> list[str]:
    listed = bucket.client.list_multipart_uploads(Bucket=bucket.bucket, Prefix="incoming/")
    return [each["Key"] for each in listed.get("Uploads", ())]


def test_an_interrupted_upload_goes_on_at_another_replica(
    service: Service, replica: Service, bucket: S3Bucket, redis_client: redis.Redis, video: bytes
) -> None:
    granted = begin(service, len(video), owner="alice")
    assert (granted.upload_url, dict(granted.upload_headers), granted.part_size) == ("", {}, 8 * MEBIBYTE)
    assert 86_000 < granted.expires_at.seconds - datetime.now(UTC).timestamp() <= 86_400
    parts = sign(service, granted).parts
    assert [(part.number, part.offset, part.size) for part in parts] == [
        (1, 0, 8 * MEBIBYTE),
        (2, 8 * MEBIBYTE, 8 * MEBIBYTE),
        (3, 16 * MEBIBYTE, 4 * MEBIBYTE),
    ]
    assert put(parts[2], video) == 200
    assert service.status(granted.media_id).state == wire.MediaStatus.PENDING_UPLOAD
    with pytest.raises(grpc.RpcError) as refused:
        complete(replica, granted)
    assert reason_of(refused.value) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PARTS_MISSING",
        {"numbers": "1,2"},
    )
    assert refused.value.details() == "parts 1, 2 of 3 are not stored"

    left = sign(replica, granted).parts
    assert [(part.stored, bool(part.url), bool(part.etag)) for part in left] == [
        (False, True, False),
        (False, True, False),
        (True, False, True),
    ]
    for part in left[:2]:
        assert put(part, video) == 200
    complete(replica, granted)
    complete(service, granted)

    status = service.watch(granted.media_id)[-1]
    assert (status.state, status.size) == (wire.MediaStatus.READY, len(video))
    assert service.get(f"/media/{granted.media_id}").content[4096:] == video[4096:]  # dates in the head are removed
    assert unfinished(bucket) == []
    complete(replica, granted)  # long after it is no error either
    with pytest.raises(grpc.RpcError) as gone:
        sign(replica, granted)
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as too_late:
            abort(replica, granted)
        assert reason_of(too_late.value)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "COMPLETED")
        redis_client.delete(key_of("media_status", granted.media_id))  # Redis may lose it; the store says the same


def test_a_joined_upload_is_not_removed_by_an_abort_although_its_status_is_lost(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, video: bytes
) -> None:
    service.run_cli("queues", "pause", "processing")
    try:
        granted = begin(service, len(video))
        for part in sign(service, granted).parts:
            assert put(part, video) == 200
        complete(service, granted)
        redis_client.delete(key_of("media_status", granted.media_id))
        with pytest.raises(grpc.RpcError) as too_late:
            abort(service, granted)
        assert reason_of(too_late.value)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "COMPLETED")
    finally:
        service.run_cli("queues", "resume", "processing")
    assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY


def test_parts_can_be_signed_one_by_one_and_sent_twice(service: Service, bucket: S3Bucket, video: bytes) -> None:
    granted = begin(service, len(video))
    for _ in range(2):
        (part,) = sign(service, granted, (2,)).parts
        assert put(part, video) == 200
    (part,) = sign(service, granted, (2,)).parts
    assert (part.stored, bool(part.url)) == (True, True)
    assert put(part, video[:-1] + b"\1") == 200
    assert put(wire.UploadPart(url=part.url, headers=part.headers, offset=0, size=5), video) == 403

    abort(service, granted)
    abort(service, granted)
    assert unfinished(bucket) == []
    for step in (sign, complete):
        with pytest.raises(grpc.RpcError) as gone:
            step(service, granted)
        assert (gone.value.code(), gone.value.details()) == (
            grpc.StatusCode.NOT_FOUND,
            "upload not found: it was completed or aborted, or it has expired",
        )


def test_an_upload_in_parts_cannot_be_completed_without_its_id(service: Service, video: bytes) -> None:
    granted = begin(service, len(video))
    with pytest.raises(grpc.RpcError) as refused:
        complete(service, wire.RequestMediaUploadResponse(media_id=granted.media_id))
    assert reason_of(refused.value)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "NOTHING_UPLOADED")
    assert "for an upload in parts send its upload_id" in (refused.value.details() or "")
    abort(service, granted)


def test_an_upload_id_is_worth_nothing_for_another_medium_or_size(
    service: Service, bucket: S3Bucket, video: bytes
) -> None:
    granted, other = begin(service, 100), begin(service, 100)
    forged = [
        wire.RequestMediaUploadResponse(media_id=other.media_id, upload_id=granted.upload_id),
        wire.RequestMediaUploadResponse(media_id=granted.media_id, upload_id=granted.upload_id[:-4] + "AAAA"),
        wire.RequestMediaUploadResponse(media_id=granted.media_id, upload_id="A" + granted.upload_id[1:]),
        wire.RequestMediaUploadResponse(media_id=granted.media_id, upload_id=granted.upload_id + "="),
        wire.RequestMediaUploadResponse(media_id=granted.media_id, upload_id=_with_another_end(granted.upload_id)),
        wire.RequestMediaUploadResponse(media_id=granted.media_id, upload_id="not even base64 …"),
        wire.RequestMediaUploadResponse(media_id=granted.media_id, upload_id="A" * 5000),
    ]
    if forged[2].upload_id == granted.upload_id:
        forged[2].upload_id = "B" + granted.upload_id[1:]
    for each in forged:
        for step in (sign, abort, complete):
            with pytest.raises(grpc.RpcError) as refused:
                step(service, each)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert list(violations(refused.value).values()) == ["UPLOAD_ID_INVALID"]
    for each in (granted, other):
        abort(service, each)


def _with_another_end(upload_id: str) -> str:
    """Change the last bit, which base64 ignores if the bytes are not a multiple of three."""
    characters = f"{string.ascii_uppercase}{string.ascii_lowercase}{string.digits}-_"
    return upload_id[:-1] + characters[characters.index(upload_id[-1]) ^ 1]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [((0,), "NUMBERS_OUT_OF_RANGE"), ((4,), "NUMBERS_OUT_OF_RANGE"), ((1, 1), "NUMBERS_REPEATED")],
)
def test_numbers_of_no_part_are_refused(service: Service, video: bytes, numbers: tuple[int, ...], reason: str) -> None:
    granted = begin(service, len(video))
    with pytest.raises(grpc.RpcError) as refused:
        sign(service, granted, numbers)
    assert list(violations(refused.value).values()) == [reason]
    abort(service, granted)


def test_a_digest_cannot_be_enforced(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        begin(service, 100, sha256=bytes(32))
    assert list(violations(refused.value).values()) == ["SHA256_WITH_MULTIPART"]


def test_an_unfinished_upload_is_pending_for_a_day_and_no_longer(service: Service, bucket: S3Bucket) -> None:
    young, old = (encode_id(datetime.now(UTC) - timedelta(hours=age), 32, age) for age in (20, 25))
    for media_id in (young, old):
        bucket.client.create_multipart_upload(Bucket=bucket.bucket, Key=f"incoming/{media_id}")
    assert service.status(young).state == wire.MediaStatus.PENDING_UPLOAD
    with pytest.raises(grpc.RpcError) as unknown:
        service.status(old)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    for upload in bucket.client.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]:
        bucket.client.abort_multipart_upload(Bucket=bucket.bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def test_clients_can_read_the_limits(service: Service) -> None:
    found: wire.Capabilities = service.call("GetCapabilities", wire.GetCapabilitiesRequest(), wire.Capabilities)
    assert (found.max_image_bytes, found.max_video_bytes, found.max_pixels) == (1 << 24, 1 << 28, 1 << 26)
    assert (found.max_audio_bytes, found.max_duration.seconds, found.max_audio_duration.seconds) == (
        1 << 26,
        14_400,
        7200,
    )
    assert {"image/jpeg", "image/pjpeg", "video/mp4", "audio/mpeg", "audio/opus"} <= set(found.content_types)
    assert "image/heic" not in found.content_types
    assert dict(found.thumbnail_sizes) == {"small": 400, "medium": 800, "large": 1600}
    assert (found.multipart, found.multipart_threshold) == (True, 16 * MEBIBYTE)
    assert (found.max_aspect, found.max_frames) == (200, 10_000)
    reasons = {each.code: each for each in found.reasons}
    assert set(reasons) == set(Reason)
    assert "67,108,864 pixels" in reasons["too_many_pixels"].sentence
    assert "16.0 MiB" in reasons["too_large"].sentence
    assert "videos 256.0 MiB and audio 64.0 MiB" in reasons["too_large"].sentence
    assert "4 hours" in reasons["too_long"].sentence
    assert not any("{" in each.sentence or "`" in each.sentence for each in found.reasons)
    assert (reasons["missing"].retryable, reasons["corrupt"].retryable) == (True, False)

    response = service.get("/capabilities", Origin="https://social.example")
    assert response.json() == {
        "max_image_bytes": found.max_image_bytes,
        "max_video_bytes": found.max_video_bytes,
        "max_audio_bytes": found.max_audio_bytes,
        "max_pixels": found.max_pixels,
        "max_duration": 14_400.0,
        "max_audio_duration": 7200.0,
        "content_types": list(found.content_types),
        "thumbnail_sizes": dict(found.thumbnail_sizes),
        "multipart": True,
        "multipart_threshold": found.multipart_threshold,
        "reasons": [MessageToDict(each, always_print_fields_with_no_presence=True) for each in found.reasons],
        "max_aspect": 200,
        "max_frames": 10_000,
        "private_media": True,
    }
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["cache-control"] == "public, max-age=60"


def test_the_command_goes_on_with_an_upload_that_was_interrupted(
    service: Service, bucket: S3Bucket, video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(service.environment, "XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "clip.mp4"
    file.write_bytes(video)
    granted = begin(service, len(video))
    (second,) = sign(service, granted, (2,)).parts
    assert put(second, video) == 200
    Memory(service.grpc_address).remember(file, Begun(granted.media_id, granted.upload_id))

    resumed = service.run_cli("upload", "--resume", "--json", "--owner", "erin", str(file))

    (ended,) = json.loads(resumed.stdout)
    assert (ended["media_id"], ended["state"], ended["size"]) == (granted.media_id, "READY", len(video))
    assert unfinished(bucket) == []
    again = service.run_cli("upload", "--resume", "--json", str(file))
    assert json.loads(again.stdout) == [ended]
    assert f"this file was uploaded before, as {granted.media_id}; it is not sent again" in again.stderr
    anew = json.loads(service.run_cli("upload", "--json", str(file)).stdout)
    assert anew[0]["media_id"] != granted.media_id
    assert service.run_cli("delete", anew[0]["media_id"]).returncode == 0
    eventually(lambda: service.status(anew[0]["media_id"]).state == wire.MediaStatus.DELETED, "the deletion")
    once_more = json.loads(service.run_cli("upload", "--resume", "--json", str(file)).stdout)
    assert once_more[0]["media_id"] not in {granted.media_id, anew[0]["media_id"]}


def test_the_command_says_what_it_waits_for(service: Service, bucket: S3Bucket, tmp_path: Path) -> None:
    """Here the store accepts the connection, and reads nothing."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"\xff\xd8\xff" + bytes(1000))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = f"127.0.0.1:{silent.getsockname()[1]}"
        ports = {f"AVION_MEDIA_{name}__BIND": f"127.0.0.1:{free_port()}" for name in ("GRPC", "HTTP", "ADMIN")}
        environment = {**service.environment, **ports, "AVION_MEDIA_S3__PUBLIC_ENDPOINT_URL": f"http://{store}"}
        with running(environment, roles="grpc") as replica:
            said = tmp_path / "said"
            with said.open("wb") as log:
                upload = start_service(("upload", str(file)), replica.environment, log.fileno(), log.fileno())
            try:
                line = eventually(said.read_text, "a line")
                assert line == f"photo.jpg: waiting for the object store at {store}\n"
            finally:
                upload.kill()


def test_the_command_begins_anew_when_nothing_is_left_to_go_on_with(
    service: Service, bucket: S3Bucket, video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(service.environment, "XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "clip.mp4"
    file.write_bytes(video)
    expired = encode_id(datetime.now(UTC) - timedelta(hours=25), 32, 7)
    Memory(service.grpc_address).remember(file, Begun(expired, "of long ago"))

    (ended,) = json.loads(service.run_cli("upload", "--resume", "--json", str(file)).stdout)

    assert ended["state"] == "READY"
    assert ended["media_id"] != expired
