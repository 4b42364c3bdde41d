"""The gRPC port as any client meets it: reflection, health, deadlines, cancels, statuses with their details."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.common.wire.avion.media_grpc import MediaServiceServicer
from avion_media.servers.api.media_service import MediaService
from tests.service.harness import Service, eventually
from tests.service.published import encode_id, violations

METHODS = {
    "RequestMediaUpload": ("RequestMediaUploadRequest", "RequestMediaUploadResponse", False),
    "CompleteMediaUpload": ("CompleteMediaUploadRequest", "CompleteMediaUploadResponse", False),
    "CacheRemoteMedia": ("CacheRemoteMediaRequest", "CacheRemoteMediaResponse", False),
    "GetMediaStatus": ("GetMediaStatusRequest", "MediaStatus", False),
    "WatchMediaStatus": ("GetMediaStatusRequest", "MediaStatus", True),
    "SignUploadParts": ("SignUploadPartsRequest", "SignUploadPartsResponse", False),
    "AbortMediaUpload": ("AbortMediaUploadRequest", "AbortMediaUploadResponse", False),
    "GetUsage": ("GetUsageRequest", "GetUsageResponse", False),
    "ListOwnerMedia": ("ListOwnerMediaRequest", "ListOwnerMediaResponse", False),
    "DeleteMedia": ("DeleteMediaRequest", "DeleteMediaResponse", False),
    "UndeleteMedia": ("UndeleteMediaRequest", "UndeleteMediaResponse", False),
    "SignMediaUrls": ("SignMediaUrlsRequest", "SignMediaUrlsResponse", False),
    "RevokeMediaUrls": ("RevokeMediaUrlsRequest", "RevokeMediaUrlsResponse", False),
    "BlockMedia": ("BlockMediaRequest", "BlockMediaResponse", False),
    "UnblockMedia": ("UnblockMediaRequest", "UnblockMediaResponse", False),
    "BlockHost": ("BlockHostRequest", "BlockHostResponse", False),
    "UnblockHost": ("UnblockHostRequest", "UnblockHostResponse", False),
    "ListBlockedHosts": ("ListBlockedHostsRequest", "ListBlockedHostsResponse", False),
    "GetCapabilities": ("GetCapabilitiesRequest", "Capabilities", False),
}
FIELDS = {
    "RequestMediaUploadRequest": {
        "filename": 1,
        "content_type": 2,
        "size": 3,
        "sha256": 4,
        "owner": 5,
        "multipart": 6,
        "visibility": 7,
        "credentials": 8,
    },
    "RequestMediaUploadResponse": {
        "media_id": 1,
        "upload_url": 2,
        "upload_headers": 3,
        "expires_at": 4,
        "upload_id": 5,
        "part_size": 6,
        "visibility": 7,
    },
    "CompleteMediaUploadRequest": {"media_id": 1, "upload_id": 2},
    "CompleteMediaUploadResponse": {},
    "CacheRemoteMediaRequest": {"remote_url": 1, "kind": 2},
    "CacheRemoteMediaResponse": {"status": 1, "task_id": 2, "media_id": 3},
    "GetMediaStatusRequest": {"media_id": 1},
    "MediaStatus": {
        "media_id": 1,
        "state": 2,
        "reason": 3,
        "retryable": 4,
        "content_type": 5,
        "size": 6,
        "width": 7,
        "height": 8,
        "duration": 9,
        "animated": 10,
        "blurhash": 11,
        "thumbnails": 12,
        "path": 13,
        "owner": 14,
        "visibility": 15,
        "has_credentials": 16,
        "credentials_path": 17,
        "waveform": 18,
        "digital_source_type": 20,
        "claim_generator": 21,
    },
    "SignUploadPartsRequest": {"media_id": 1, "upload_id": 2, "numbers": 3},
    "SignUploadPartsResponse": {"parts": 1, "expires_at": 2},
    "UploadPart": {"number": 1, "offset": 2, "size": 3, "url": 4, "headers": 5, "stored": 6, "etag": 7},
    "AbortMediaUploadRequest": {"media_id": 1, "upload_id": 2},
    "AbortMediaUploadResponse": {},
    "GetUsageRequest": {"owner": 1, "host": 2},
    "GetUsageResponse": {"bytes": 1, "count": 2},
    "ListOwnerMediaRequest": {"owner": 1, "page_size": 2, "page_token": 3, "host": 4},
    "ListOwnerMediaResponse": {"media": 1, "next_page_token": 2},
    "OwnedMedia": {"media_id": 1, "bytes": 2, "visibility": 3},
    "DeleteMediaRequest": {"media_ids": 1, "delay": 2, "owner": 3},
    "DeleteMediaResponse": {"not_owned": 1},
    "UndeleteMediaRequest": {"media_ids": 1},
    "UndeleteMediaResponse": {"restored": 1, "gone": 2, "blocked": 3, "not_deleted": 4},
    "SignMediaUrlsRequest": {"media_ids": 1, "ttl": 2, "audience": 3},
    "SignMediaUrlsResponse": {"tokens": 1, "expires_at": 2},
    "RevokeMediaUrlsRequest": {"media_ids": 1, "audience": 2},
    "RevokeMediaUrlsResponse": {},
    "BlockMediaRequest": {
        "media_id": 1,
        "note": 2,
        "keep_evidence": 3,
        "discard_evidence": 4,
        "requested_at": 5,
        "ground": 6,
        "automated": 7,
    },
    "BlockMediaResponse": {"copies": 1},
    "UnblockMediaRequest": {"media_id": 1},
    "UnblockMediaResponse": {},
    "BlockHostRequest": {"host": 1, "exact": 2, "note": 3, "purge": 4},
    "BlockHostResponse": {"found": 1},
    "UnblockHostRequest": {"host": 1},
    "UnblockHostResponse": {},
    "ListBlockedHostsRequest": {"page_size": 1, "page_token": 2},
    "ListBlockedHostsResponse": {"hosts": 1, "next_page_token": 2},
    "BlockedHost": {"host": 1, "exact": 2, "note": 3, "since": 4, "by": 5},
    "GetCapabilitiesRequest": {},
    "Capabilities": {
        "max_image_bytes": 1,
        "max_video_bytes": 2,
        "max_pixels": 3,
        "max_duration": 4,
        "content_types": 5,
        "thumbnail_sizes": 6,
        "multipart": 7,
        "multipart_threshold": 8,
        "max_audio_bytes": 9,
        "reasons": 10,
        "max_aspect": 11,
        "max_frames": 12,
        "private_media": 13,
        "max_audio_duration": 14,
    },
    "FailureReason": {"code": 1, "sentence": 2, "retryable": 3},
}
CREDENTIALS = {
    "CONTENT_CREDENTIALS_UNSPECIFIED": 0,
    "CONTENT_CREDENTIALS_DROP": 1,
    "CONTENT_CREDENTIALS_KEEP": 2,
}
VISIBILITIES = {
    "MEDIA_VISIBILITY_UNSPECIFIED": 0,
    "MEDIA_VISIBILITY_PUBLIC": 1,
    "MEDIA_VISIBILITY_PRIVATE": 2,
}
KINDS = {
    f"REMOTE_MEDIA_KIND_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "ATTACHMENT", "AVATAR", "HEADER", "EMOJI", "PREVIEW_CARD"))
}
STATES = {
    "STATE_UNSPECIFIED": 0,
    "PENDING_UPLOAD": 1,
    "PROCESSING": 2,
    "READY": 3,
    "FAILED": 4,
    "DELETED": 5,
}


@pytest.fixture
def channel(service: Service) -> Iterator[grpc.Channel]:
    """A client that knows nothing but the address."""
    with grpc.insecure_channel(service.grpc_address) as channel:
        yield channel


def test_reflection_tells_the_contract(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"avion.MediaService", "grpc.health.v1.Health"} <= services
    pool = DescriptorPool(database)
    methods = pool.FindServiceByName("avion.MediaService").methods_by_name
    assert {
        name: (each.input_type.name, each.output_type.name, each.server_streaming) for name, each in methods.items()
    } == METHODS
    assert not any(each.client_streaming for each in methods.values())
    for name, fields in FIELDS.items():
        message: Any = pool.FindMessageTypeByName(f"avion.{name}")
        assert {each.name: each.number for each in message.fields} == fields
    enums = {"MediaStatus.State": STATES, "ContentCredentials": CREDENTIALS, "MediaVisibility": VISIBILITIES}
    enums["RemoteMediaKind"] = KINDS
    for name, values in enums.items():
        enum = pool.FindEnumTypeByName(f"avion.{name}")
        assert {each.name: each.number for each in enum.values} == values


@pytest.mark.parametrize("name", ["", "avion.MediaService"])
def test_health(channel: grpc.Channel, name: str) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=name)
    assert health.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(request, timeout=10)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_health_of_an_unknown_service(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_every_method_of_the_contract_has_a_handler() -> None:
    assert not {name for name in METHODS if getattr(MediaService, name) is getattr(MediaServiceServicer, name)}


def test_unknown_methods_are_unimplemented(channel: grpc.Channel) -> None:
    for method in ("/avion.MediaService/Nothing", "/nobody/Nothing"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_garbage_for_a_message_tells_nothing_of_the_inside(channel: grpc.Channel, service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/avion.MediaService/GetMediaStatus")(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    assert "Traceback" not in caught.value.details()
    assert "avion_media" not in caught.value.details()
    assert service.ready()


def test_a_message_over_the_limit_is_refused(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.request_upload("x" * (2 << 20), "image/jpeg", 1)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_ends_a_watch(service: Service) -> None:
    granted = service.request_upload("cat.jpg", "image/jpeg", 100)
    with pytest.raises(grpc.RpcError) as caught:
        service.watch(granted.media_id, timeout_s=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_watch_is_told_of_each_change(service: Service, channel: grpc.Channel, data_directory: Path) -> None:
    body = (data_directory / "jpeg-gray.jpg").read_bytes()
    granted = service.request_upload("cat.jpg", "image/jpeg", len(body))
    watch = channel.unary_stream(
        "/avion.MediaService/WatchMediaStatus",
        request_serializer=wire.GetMediaStatusRequest.SerializeToString,
        response_deserializer=wire.MediaStatus.FromString,
    )(wire.GetMediaStatusRequest(media_id=granted.media_id), timeout=30)
    assert next(watch).state == wire.MediaStatus.PENDING_UPLOAD
    service.put(granted, body)
    service.complete(granted.media_id)
    states = [status.state for status in watch]
    assert states in ([wire.MediaStatus.PROCESSING, wire.MediaStatus.READY], [wire.MediaStatus.READY])


def test_an_id_with_no_object_is_pending_while_its_url_lives_and_unknown_afterwards(service: Service) -> None:
    fresh = encode_id(datetime.now(UTC) - timedelta(minutes=14), 1, 1)
    assert service.status(fresh).state == wire.MediaStatus.PENDING_UPLOAD
    for unknown in (encode_id(datetime.now(UTC) - timedelta(minutes=16), 1, 1), "ab" * 32):
        with pytest.raises(grpc.RpcError) as caught:
            service.status(unknown)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            service.watch(unknown)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watch_of_an_upload_that_never_comes_ends_with_its_url(service: Service) -> None:
    nearly = encode_id(datetime.now(UTC) - timedelta(minutes=15) + timedelta(seconds=2), 1, 1)
    watch = service.watching(nearly)
    assert next(watch).state == wire.MediaStatus.PENDING_UPLOAD
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("media_id", "reason"),
    [
        ("", "MEDIA_ID_REQUIRED"),
        ("cat", "MEDIA_ID_MALFORMED"),
        ("U" * 26, "MEDIA_ID_MALFORMED"),
        ("Z" * 26, "MEDIA_ID_MALFORMED"),
        ("AB" * 32, "MEDIA_ID_MALFORMED"),
        ("../" * 21 + "x", "MEDIA_ID_MALFORMED"),
    ],
)
def test_a_malformed_id_is_a_bad_field_of_every_method(service: Service, media_id: str, reason: str) -> None:
    for call in (service.status, service.complete, service.watch):
        with pytest.raises(grpc.RpcError) as caught:
            call(media_id)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations(caught.value) == {"media_id": reason}


@pytest.mark.parametrize("media_id", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "0" * 26])
def test_a_well_formed_id_of_a_format_that_is_not_known_is_unknown(service: Service, media_id: str) -> None:
    """A newer replica may have given it out."""
    for call in (service.status, service.complete, service.watch):
        with pytest.raises(grpc.RpcError) as caught:
            call(media_id)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_lower_case_id_is_another_spelling_that_is_not_ours(service: Service) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        service.status(encode_id(datetime.now(UTC), 1, 2**71 + 2**70 - 1).lower())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_calls_are_measured(service: Service) -> None:
    service.request_upload("cat.jpg", "image/jpeg", 100)

    def counted() -> bool:
        text = service.metrics()
        return "avion.MediaService/RequestMediaUpload" in text

    eventually(counted, "the call in the metrics")
