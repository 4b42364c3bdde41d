"""Copies with some bytes replaced, made inside the store."""

from __future__ import annotations

import random

import pytest
import trio

from avion_media.backends.store import ObjectStore, patch_copy
from avion_media.common.errors import ObjectMissing, PreconditionFailed, SourceReplaced
from tests.conftest import S3Bucket

MEBIBYTE = 1 << 20
CONTENT = random.Random(2).randbytes(24 * MEBIBYTE + 17)


def with_patches(content: bytes, patches: list[tuple[int, bytes]]) -> bytes:
    result = bytearray(content)
    for offset, data in patches:
        result[offset : offset + len(data)] = data
    return bytes(result)


async def copy(
    store: ObjectStore, etag: str, patches: list[tuple[int, bytes]], *, only_if_absent: bool = False
) -> None:
    """Copy `CONTENT` from "a" to "b"."""
    await patch_copy(
        store,
        "a",
        "b",
        size_bytes=len(CONTENT),
        source_etag=etag,
        patches=patches,
        content_type="video/mp4",
        only_if_absent=only_if_absent,
    )


@pytest.mark.parametrize(
    "patches",
    [
        [],
        [(0, b"first")],
        [(len(CONTENT) - 4, b"last")],
        [(12 * MEBIBYTE, b"middle" * 1000)],
        [(6 * MEBIBYTE, b"a" * 7 * MEBIBYTE)],
        [(3, b"x"), (11 * MEBIBYTE, b"y"), (23 * MEBIBYTE, b"z")],
    ],
    ids=["none", "start", "end", "middle", "large", "several"],
)
async def test_the_copy_is_the_source_with_the_patches(
    either_store: ObjectStore, either_s3: S3Bucket, patches: list[tuple[int, bytes]]
) -> None:
    etag = await either_store.put("incoming/a", CONTENT, content_type="application/octet-stream")

    await patch_copy(
        either_store,
        "incoming/a",
        "original/a.mp4",
        size_bytes=len(CONTENT),
        source_etag=etag,
        patches=patches,
        content_type="video/mp4",
        metadata={"format": "mp4"},
    )

    info = await either_store.head("original/a.mp4")
    assert (info.content_type, info.metadata) == ("video/mp4", {"format": "mp4"})
    assert await either_store.read("original/a.mp4", max_bytes=1 << 30) == with_patches(CONTENT, patches)
    assert open_uploads(either_s3) == []


async def test_a_small_object_is_patched_by_a_plain_put(either_store: ObjectStore) -> None:
    etag = await either_store.put("a", b"0123456789", content_type="text/plain")

    await patch_copy(
        either_store, "a", "b", size_bytes=10, source_etag=etag, patches=[(3, b"xyz")], content_type="text/plain"
    )

    assert await either_store.read("b", max_bytes=10) == b"012xyz6789"


@pytest.mark.parametrize(
    "patches", [[], [(9 << 20, b"x")], [(0, bytes(24 << 20))]], ids=["none", "parts", "all but the last bytes"]
)
async def test_a_source_that_changed_since_is_never_half_copied(
    store: ObjectStore, s3: S3Bucket, patches: list[tuple[int, bytes]]
) -> None:
    etag = await store.put("a", CONTENT, content_type="video/mp4")
    await store.put("a", CONTENT[::-1], content_type="video/mp4")

    with pytest.raises(SourceReplaced):
        await copy(store, etag, patches, only_if_absent=True)

    with pytest.raises(ObjectMissing):
        await store.head("b")
    assert open_uploads(s3) == []


@pytest.mark.parametrize("patches", [[], [(9 << 20, b"x")], [(0, b"x")]], ids=["none", "parts", "start"])
async def test_a_target_that_is_there_can_be_left_as_it_is(
    store: ObjectStore, s3: S3Bucket, patches: list[tuple[int, bytes]]
) -> None:
    etag = await store.put("a", CONTENT, content_type="video/mp4")
    await store.put("b", b"first", content_type="video/mp4")

    with pytest.raises(PreconditionFailed) as refused:
        await copy(store, etag, patches, only_if_absent=True)

    assert not isinstance(refused.value, SourceReplaced)
    assert await store.read("b", max_bytes=10) == b"first"
    assert open_uploads(s3) == []


async def test_a_cancel_in_the_middle_leaves_neither_object_nor_upload(store: ObjectStore, s3: S3Bucket) -> None:
    etag = await store.put("a", CONTENT, content_type="video/mp4")

    async def patch(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await copy(store, etag, [(9 << 20, b"x")])

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(patch)
            while not await trio.to_thread.run_sync(open_uploads, s3):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    with pytest.raises(ObjectMissing):
        await store.head("b")
    assert open_uploads(s3) == []


def open_uploads(s3: S3Bucket) -> list[str]:
    response = s3.client.list_multipart_uploads(Bucket=s3.bucket)
    return [upload["Key"] for upload in response.get("Uploads", ())]
