"""Content credentials of real files, from the request to the origin, and the life of those beside a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from mediascrub import Format, scrub_file
from mediascrub.tests.signed import sign, validate
from mediascrub.tests.test_provenance import AI, FORMS, with_xmp
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import decode_id, events_of, keys_of
from tests.service.remote_server import remote_server

NAME, TYPE = "jpeg-portrait-orientation-6.jpg", "image/jpeg"


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    environment = service_environment(
        redis_of_process,
        bucket.address.endpoint_url,
        bucket.bucket,
        UPLOAD__CREDENTIALS="keep",
        UPLOAD__CREDENTIALS_LINK="true",
        DELETE__DELAY="300ms",
        REMOTE__ALLOW_NETWORKS="127.0.0.0/8",
    )
    with running(environment) as service:
        yield service


@pytest.fixture(scope="module")
def signed(data_directory: Path) -> tuple[bytes, bytes]:
    """A photo with Exif, and its manifest."""
    return sign((data_directory / NAME).read_bytes(), Format.JPEG)


def upload(service: Service, body: bytes, wish: int | None = None, owner: str = "") -> wire.MediaStatus:
    request = wire.RequestMediaUploadRequest(filename=NAME, content_type=TYPE, size=len(body), owner=owner)
    if wish is not None:
        request.credentials = wish  # type: ignore[assignment]
    granted = service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
    assert service.put(granted, body).status_code == 200
    service.complete(granted.media_id)
    status = service.watch(granted.media_id)[-1]
    assert status.state == wire.MediaStatus.READY
    return status


def key_of_manifest(media_id: str) -> str:
    return f"credentials/{decode_id(media_id).created:%Y/%m/%d}/{media_id}.c2pa"


def test_a_file_without_other_private_data_is_served_as_it_was_signed(
    service: Service, data_directory: Path, tmp_path: Path
) -> None:
    scrub_file(data_directory / NAME, tmp_path / NAME)
    signed, _ = sign((tmp_path / NAME).read_bytes(), Format.JPEG)
    status = upload(service, signed)
    assert (status.has_credentials, status.credentials_path) == (True, "")
    served = service.get(f"/media/{status.media_id}")
    assert served.content == signed
    assert "Link" not in served.headers
    assert validate(served.content, Format.JPEG) == "Valid"
    assert service.get(f"/media/{status.media_id}/credentials").status_code == 404
    dropped = upload(service, signed, wire.CONTENT_CREDENTIALS_DROP)
    assert service.get(f"/media/{dropped.media_id}").content == (tmp_path / NAME).read_bytes()


def test_the_manifest_of_a_file_with_other_private_data_is_served_beside_it(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, signed: tuple[bytes, bytes]
) -> None:
    body, manifest = signed
    status = upload(service, body)
    path = f"/media/{status.media_id}/credentials"
    assert (status.has_credentials, status.credentials_path) == (True, path)
    beside = service.get(path)
    assert (beside.status_code, beside.content) == (200, manifest)
    assert beside.headers["Content-Type"] == "application/c2pa"
    assert beside.headers["Content-Disposition"] == "attachment"
    assert beside.headers["Access-Control-Allow-Origin"] == "*"
    assert "immutable" in beside.headers["Cache-Control"]
    served = service.get(f"/media/{status.media_id}")
    assert served.headers["Link"] == f'<{path}>; rel="c2pa-manifest"'
    assert manifest[:64] not in served.content
    stored = bucket.client.get_object(Bucket=bucket.bucket, Key=key_of_manifest(status.media_id))
    assert (stored["Body"].read(), stored["ContentType"]) == (manifest, "application/c2pa")
    shown = service.run_cli("inspect", status.media_id, "--json").stdout
    assert '"beside_file"' in shown
    assert key_of_manifest(status.media_id) in shown
    assert (status.digital_source_type, status.claim_generator[:4]) == ("digitalCapture", "test")
    assert f'"claim-generator": "{status.claim_generator}"' in shown
    assert b"digitalCapture" in served.content
    (event,) = events_of(redis_client, status.media_id)
    said = event["digital_source_type"], event["claim_generator"]
    assert said == (status.digital_source_type, status.claim_generator)


def test_a_label_in_xmp_is_reported_always_and_kept_on_request(
    service: Service, redis_client: redis.Redis, data_directory: Path
) -> None:
    picture = with_xmp((data_directory / NAME).read_bytes(), Format.JPEG, FORMS["resource"].encode())
    for wish in (wire.CONTENT_CREDENTIALS_KEEP, wire.CONTENT_CREDENTIALS_DROP):
        status = upload(service, picture, wish)
        assert (status.digital_source_type, status.claim_generator, status.has_credentials) == (AI, "", False)
        kept = AI.encode() in service.get(f"/media/{status.media_id}").content
        assert kept == (wish == wire.CONTENT_CREDENTIALS_KEEP)
        (event,) = events_of(redis_client, status.media_id)
        assert event["digital_source_type"] == AI
        assert "claim_generator" not in event
        redis_client.delete(f"media_status:{{{status.media_id[-2:]}}}{status.media_id}")  # the bucket says the same
        again = service.call("GetMediaStatus", wire.GetMediaStatusRequest(media_id=status.media_id), wire.MediaStatus)
        assert again == status


def test_an_upload_can_ask_to_drop_credentials(service: Service, bucket: S3Bucket, signed: tuple[bytes, bytes]) -> None:
    status = upload(service, signed[0], wire.CONTENT_CREDENTIALS_DROP)
    assert (status.has_credentials, status.credentials_path) == (True, "")
    missing = service.get(f"/media/{status.media_id}/credentials")
    assert (missing.status_code, missing.headers["Access-Control-Allow-Origin"]) == (404, "*")
    assert not [key for key in keys_of(bucket, status.media_id) if key.startswith("credentials/")]


def test_an_upload_in_parts_has_its_wish_too(service: Service, signed: tuple[bytes, bytes]) -> None:
    body, _ = signed
    for wish in (wire.CONTENT_CREDENTIALS_DROP, wire.CONTENT_CREDENTIALS_KEEP):
        request = wire.RequestMediaUploadRequest(
            filename=NAME, content_type=TYPE, size=len(body), multipart=True, credentials=wish
        )
        granted = service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
        ids = {"media_id": granted.media_id, "upload_id": granted.upload_id}
        parts = service.call("SignUploadParts", wire.SignUploadPartsRequest(**ids), wire.SignUploadPartsResponse).parts
        put = httpx.put(parts[0].url, content=body, headers=dict(parts[0].headers), trust_env=False, verify=False)
        assert put.status_code == 200
        service.call("CompleteMediaUpload", wire.CompleteMediaUploadRequest(**ids), wire.CompleteMediaUploadResponse)
        assert service.watch(granted.media_id)[-1].has_credentials
        beside = service.get(f"/media/{granted.media_id}/credentials")
        assert beside.status_code == (200 if wish == wire.CONTENT_CREDENTIALS_KEEP else 404)


@pytest.mark.parametrize("value", ["keep", None])
def test_a_client_cannot_change_the_wish(service: Service, value: str | None) -> None:
    request = wire.RequestMediaUploadRequest(
        filename=NAME, content_type=TYPE, size=1, credentials=wire.CONTENT_CREDENTIALS_DROP
    )
    granted = service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
    headers = dict(granted.upload_headers)
    assert headers.pop("x-amz-meta-credentials") == "drop"
    forged = headers if value is None else {**headers, "x-amz-meta-credentials": value}
    assert httpx.put(granted.upload_url, content=b"x", headers=forged, trust_env=False, verify=False).status_code == 403


def test_an_unknown_wish_is_refused(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        upload(service, b"x", 7)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "credentials" in caught.value.details()


def test_credentials_beside_a_file_live_and_end_with_it(
    service: Service, bucket: S3Bucket, redis_client: redis.Redis, signed: tuple[bytes, bytes]
) -> None:
    body, manifest = signed
    status = upload(service, body, wire.CONTENT_CREDENTIALS_KEEP, owner="carol")
    media_id, path = status.media_id, status.credentials_path
    usage = service.call("GetUsage", wire.GetUsageRequest(owner="carol"), wire.GetUsageResponse)
    served = [f"/media/{media_id}", path, *status.thumbnails.values()]
    assert usage.bytes == sum(len(service.get(each).content) for each in served)

    block = wire.BlockMediaRequest(media_id=media_id)
    service.call("BlockMedia", block, wire.BlockMediaResponse)
    assert service.get(path).status_code == 451
    evidence = bucket.client.get_object(Bucket=bucket.bucket, Key=f"quarantine/{media_id}/credentials")
    assert evidence["Body"].read() == manifest
    assert key_of_manifest(media_id) not in keys_of(bucket, media_id)
    service.call("UnblockMedia", wire.UnblockMediaRequest(media_id=media_id), wire.UnblockMediaResponse)
    assert service.get(path).content == manifest
    assert service.call("GetUsage", wire.GetUsageRequest(owner="carol"), wire.GetUsageResponse) == usage

    redis_client.xadd("drop_deleted", {"event": f'{{"media_ids": ["{media_id}"]}}'})
    eventually(lambda: service.get(path).status_code == 410, "the deletion")
    eventually(lambda: "media.deleted" in [each["type"] for each in events_of(redis_client, media_id)], "its removal")
    assert key_of_manifest(media_id) not in keys_of(bucket, media_id)


def test_remote_media_follow_the_setting(service: Service, bucket: S3Bucket, signed: tuple[bytes, bytes]) -> None:
    with remote_server({"/signed.jpg": signed[0]}) as remote:
        media_id = service.cache(f"{remote.url}/signed.jpg").media_id
        status = service.watch(media_id)[-1]
    assert (status.has_credentials, status.credentials_path) == (True, f"/media/{media_id}/credentials")
    assert service.get(status.credentials_path).content == signed[1]
    assert f"credentials/remote/{media_id}.c2pa" in keys_of(bucket, media_id)
