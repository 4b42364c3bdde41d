"""Multipart uploads by clients: on Ceph, and on the store of `avion-media dev`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from avion_media.backends.store import ObjectStore, PresignedPut, UploadMissing, examine_part_urls, open_store
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.formats import MP4
from avion_media.common.ids import new_media_id
from avion_media.common.parts import PartPlan
from avion_media.common.resources import ResourceSlot
from avion_media.config import Config
from avion_media.workers.sweep import Report, SweepReason
from avion_media.workers.sweep.checks import UnfinishedUploads
from tests.conftest import S3Bucket
from trio_s3 import Presigner, upload_guard

KEY = "incoming/multipart"
MEBIBYTE = 1 << 20
PLAN = PartPlan(5 * MEBIBYTE + 3, 5 * MEBIBYTE)
BODY = bytes(range(256)) * (5 * 4096) + b"end"


def signed(store: ObjectStore, upload_id: str, number: int) -> PresignedPut:
    part = PLAN.part(number)
    return store.uploads.part(KEY, upload_id, number, part.size_bytes, expires_s=60, now=datetime.now(UTC))


def send(url: PresignedPut, body: bytes, **headers: str) -> int:
    response = httpx.put(
        url.url, content=body, headers={**url.headers, **headers}, trust_env=False, verify=False, timeout=20
    )
    return response.status_code


async def test_parts_become_one_object(either_store: ObjectStore) -> None:
    uploads = either_store.multipart
    upload_id = await uploads.create(KEY, content_type="video/mp4", metadata={"owner": "alice"})
    assert await uploads.is_unfinished(KEY)
    assert not await uploads.is_unfinished(KEY[:-1])
    assert await uploads.parts(KEY, upload_id) == {}
    for part in reversed(PLAN.parts()):
        body = BODY[part.offset : part.offset + part.size_bytes]
        assert send(signed(either_store, upload_id, part.number), body) == 200
    parts = await uploads.parts(KEY, upload_id)
    assert {number: part.size_bytes for number, part in parts.items()} == {1: 5 * MEBIBYTE, 2: 3}

    await uploads.complete(KEY, upload_id, {number: part.etag for number, part in parts.items()})

    assert await either_store.read(KEY, max_bytes=len(BODY)) == BODY
    info = await either_store.head(KEY)
    assert (info.content_type, info.metadata["owner"]) == ("video/mp4", "alice")
    assert not await uploads.is_unfinished(KEY)
    with pytest.raises(UploadMissing):
        await uploads.parts(KEY, upload_id)


async def test_an_aborted_upload_is_missing(either_store: ObjectStore) -> None:
    uploads = either_store.multipart
    upload_id = await uploads.create(KEY, content_type="video/mp4", metadata={})
    assert send(signed(either_store, upload_id, 2), b"end") == 200
    parts = await uploads.parts(KEY, upload_id)

    await uploads.abort(KEY, upload_id)

    for call in (uploads.parts(KEY, upload_id), uploads.abort(KEY, upload_id)):
        with pytest.raises(UploadMissing):
            await call
    with pytest.raises((UploadMissing, Unavailable)):  # moto answers 500
        await uploads.complete(KEY, upload_id, {number: part.etag for number, part in parts.items()})
    assert [page async for page in uploads.unfinished("incoming/")] in ([], [[]])


async def test_unfinished_uploads_are_listed_in_pages(either_store: ObjectStore) -> None:
    names = [f"incoming/listed-{number}" for number in range(5)]
    for key in names:
        await either_store.multipart.create(key, content_type="video/mp4", metadata={})

    pages = [page async for page in either_store.multipart.unfinished("incoming/listed-", page_size=2)]

    assert [each.key for page in pages for each in page] == names


@pytest.mark.parametrize("body", [b"en", b"end!"], ids=["shorter", "longer"])
async def test_a_part_of_another_length_is_refused(store: ObjectStore, body: bytes) -> None:
    upload_id = await store.multipart.create(KEY, content_type="video/mp4", metadata={})
    async for (unfinished,) in store.multipart.unfinished(KEY):
        assert abs((datetime.now(UTC) - unfinished.started).total_seconds()) < 60

    assert send(signed(store, upload_id, 2), body) == 403
    url = signed(store, upload_id, 2)
    other_part = PresignedPut(url.url.replace("partNumber=2", "partNumber=1"), url.headers, url.expires_at)
    assert send(other_part, b"end") == 403
    assert await store.multipart.parts(KEY, upload_id) == {}


def sign_any_length(
    signer: Presigner, key: str, upload_id: str, number: int, _size_bytes: int, *, expires_s: int, now: datetime
) -> PresignedPut:
    guard = upload_guard("", deny_copy=True)
    query = f"&partNumber={number}&uploadId={quote(upload_id, safe='-_.~')}"
    url = signer.url("PUT", key, signed=guard, expires_s=expires_s, now=now, more_query=query)
    return PresignedPut(url, guard, now)


async def left_behind(store: ObjectStore) -> list[object]:
    listed: list[object] = [each for page in [page async for page in store.list("incoming/")] for each in page]
    return listed + [each for page in [page async for page in store.multipart.unfinished("incoming/")] for each in page]


async def test_part_urls_of_ceph_copy_nothing(store: ObjectStore) -> None:
    assert await examine_part_urls(store) == ""
    assert await left_behind(store) == []


async def test_a_store_that_obeys_unsigned_copies_is_found_out(
    s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ceph does, where the length is not signed; keys that can only write prevent it."""
    monkeypatch.setattr(Presigner, "part", sign_any_length)
    async with open_store(s3.config()) as store:
        assert "keys that can only write" in await examine_part_urls(store)
        assert await left_behind(store) == []
    profiles = tmp_path / "credentials"
    access = (s3.address.upload_access_key, s3.address.upload_secret_key)
    profiles.write_text("[uploads]\naws_access_key_id = {}\naws_secret_access_key = {}\n".format(*access))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles))
    async with open_store(s3.config(signing_profile="uploads")) as store:
        assert await examine_part_urls(store) == ""


async def test_a_store_that_checks_no_signature_protects_nothing(store_on_moto: ObjectStore) -> None:
    assert await examine_part_urls(store_on_moto) == ""


async def test_the_sweep_ends_unfinished_uploads_when_their_time_is_over(either_store: ObjectStore) -> None:
    """Ages are those of the ids where the store tells none (moto); what a copy of our own left is not waited for."""
    now = datetime.now(UTC)
    media_id = new_media_id(MP4, int(now.timestamp() * 1000))
    slot = ResourceSlot[ObjectStore](Dependency.STORE)
    slot.fill(either_store)
    for key in (keys.incoming(media_id), keys.original(media_id), "others/upload"):
        await either_store.multipart.create(key, content_type="video/mp4", metadata={})
    await either_store.put(f"{keys.EXAMINED_PREFIX}0", b"of a replica that was killed", content_type="text/plain")

    async def swept_after(hours: float, *, dry_run: bool = False) -> tuple[int, list[str]]:
        report = Report(dry_run)
        sweep = UnfinishedUploads(slot, RateLimiter(1000.0), Config(), lambda: now + timedelta(hours=hours))
        await sweep.sweep(report, dry_run=dry_run)
        assert report.warnings == []
        left = [page async for page in either_store.multipart.unfinished("")]
        count = report.done[SweepReason.UNFINISHED].media if report.done else 0
        return count, sorted(each.key for page in left for each in page)

    both = ["incoming/" + str(media_id), "others/upload"]
    assert await swept_after(0.9) == (0, sorted([*both, keys.original(media_id)]))
    assert await swept_after(1.1) == (2, both)
    assert [page async for page in either_store.list(keys.EXAMINED_PREFIX)] in ([], [[]])
    assert await swept_after(24.9) == (0, both)
    assert await swept_after(25.1, dry_run=True) == (1, both)
    assert await swept_after(25.1) == (1, ["others/upload"])
