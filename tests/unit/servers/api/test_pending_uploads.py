"""The bound on uploads that were requested and never completed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import load
from avion_media.process.runtime import Runtime
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import MediaService
from avion_media.servers.api.validation import PendingUploads, TooManyPending
from trio_grpc import CallContext, Code
from trio_s3 import Presigner, SigningCredentials
from trio_telemetry import NO_TELEMETRY

NOW = 1_800_000_000.0


def test_a_caller_is_bounded_and_others_are_not_affected() -> None:
    pending = PendingUploads(3, lifetime_s=900)
    for _ in range(3):
        pending.admit("gateway", NOW)
    with pytest.raises(TooManyPending, match="gateway has 3") as refusal:
        pending.admit("gateway", NOW + 61)
    told = map_exception(refusal.value)
    assert told is not None
    assert told.code is Code.RESOURCE_EXHAUSTED
    pending.admit("importer", NOW)
    assert (pending.pending("gateway"), pending.pending("importer")) == (3, 1)


def test_what_is_completed_counts_no_more() -> None:
    pending = PendingUploads(2, lifetime_s=900)
    for _ in range(1000):
        pending.admit("", NOW)
        pending.completed("", NOW)
    assert pending.pending("") == 0


def test_completions_of_other_replicas_requests_give_no_credit() -> None:
    pending = PendingUploads(2, lifetime_s=900)
    for minute in range(5):
        pending.completed("", NOW - minute * 60)
    pending.admit("", NOW)
    pending.admit("", NOW)
    with pytest.raises(TooManyPending):
        pending.admit("", NOW)


def test_what_was_never_completed_ends_with_its_url() -> None:
    pending = PendingUploads(2, lifetime_s=120)
    pending.admit("", NOW)
    pending.admit("", NOW)
    with pytest.raises(TooManyPending):
        pending.admit("", NOW + 120)
    pending.admit("", NOW + 240)
    assert pending.pending("") == 1


def test_without_a_bound_nothing_is_counted() -> None:
    pending = PendingUploads(0, lifetime_s=900)
    for _ in range(10):
        pending.admit("", NOW)
    assert pending.pending("") == 0


class Signing:
    """The part of a store that signs uploads."""

    def __init__(self) -> None:
        self.uploads = Presigner("http://store.example", "bucket", "us-east-1", SigningCredentials("id", "secret"))


async def test_what_was_answered_unavailable_is_not_pending() -> None:
    store: ResourceSlot[Any] = ResourceSlot(Dependency.STORE)
    config = load({"AVION_MEDIA_UPLOAD__MAX_PENDING": "2"})
    unused = {"items": None, "replay": None, "moderation": SimpleNamespace(status=None, hosts=None)}
    runtime = cast("Runtime", SimpleNamespace(config=config, telemetry=NO_TELEMETRY, store=store, **unused))
    service = MediaService(runtime)
    request = wire.RequestMediaUploadRequest(filename="cat.jpg", content_type="image/jpeg", size=10)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await service.RequestMediaUpload(request, CallContext.local())
    with store.filled(Signing()):
        for _ in range(2):
            assert (await service.RequestMediaUpload(request, CallContext.local())).upload_url
        with pytest.raises(TooManyPending):
            await service.RequestMediaUpload(request, CallContext.local())
