"""What is replaced while it is published, or deleted: what is told of it, and what of it stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from avion_media.backends.redis import Redis
from avion_media.backends.store import ObjectInfo, ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, SourceReplaced
from avion_media.common.formats import MP4
from avion_media.common.ids import new_media_id
from avion_media.common.media import MediaFacts
from avion_media.common.resources import ResourceSlot
from avion_media.items.item import Items, WriteOriginal
from avion_media.items.state import StatusStore
from mediathumbs import ThumbnailSize

MEDIUM = new_media_id(MP4, 1_700_000_000_000)
FACTS = MediaFacts(MP4, 10, 320, 240, "hash", "")
PUBLIC = {keys.original(MEDIUM), keys.thumbnail(MEDIUM, "small"), keys.same_file("", 10, MEDIUM)}


class FakeStore:
    """Keys only, and metadata that a test sets."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.metadata: dict[str, dict[str, str]] = {}

    async def put(self, key: str, _data: bytes, **_headers: Any) -> str:
        self.keys.add(key)
        return "etag"

    async def head(self, key: str) -> ObjectInfo:
        if key not in self.keys:
            raise ObjectMissing(key)
        return ObjectInfo(key, 10, "etag", datetime.now(UTC), "video/mp4", self.metadata.get(key, {}))

    async def delete(self, to_delete: list[str]) -> None:
        self.keys -= set(to_delete)

    def list(self, _prefix: str, _after: str | None = None, **_more: Any) -> AsyncIterator[tuple[()]]:
        return _NoPages()


class _NoPages:
    def __aiter__(self) -> _NoPages:
        return self

    async def __anext__(self) -> tuple[()]:
        raise StopAsyncIteration


class FakeStatusStore:
    """Nothing was deleted, until somebody says so."""

    def __init__(self) -> None:
        self.state = ""

    async def deletion_state(self, _media_id: str) -> str:
        return self.state

    async def is_deleted(self, _media_id: str) -> bool:
        return self.state not in ("", "undeleted")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def status_store() -> FakeStatusStore:
    return FakeStatusStore()


@pytest.fixture
def publisher(store: FakeStore, status_store: FakeStatusStore) -> Items:
    store_slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    store_slot.fill(cast("ObjectStore", store))
    items = Items(store_slot, cast("Redis", _NoRedis()), (ThumbnailSize("small", 400),))
    items.statuses = cast("StatusStore", status_store)
    return items


class _NoRedis:
    state = None


async def test_a_source_that_was_replaced_is_not_an_original_that_is_there(publisher: Items) -> None:
    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        raise SourceReplaced("incoming/a")

    with pytest.raises(SourceReplaced):
        await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write)


async def test_an_original_that_is_there_is_as_good_as_written(publisher: Items) -> None:
    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        raise PreconditionFailed(key)

    assert await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write) == FACTS


async def test_thumbnails_without_an_original_are_removed(publisher: Items, store: FakeStore) -> None:
    store.keys = {keys.thumbnail(MEDIUM, "small"), keys.incoming(MEDIUM)}
    await publisher.remove_unpublished(MEDIUM)
    assert store.keys == {keys.incoming(MEDIUM)}


async def test_thumbnails_of_an_original_stay(publisher: Items, store: FakeStore) -> None:
    store.keys = {keys.thumbnail(MEDIUM, "small"), keys.original(MEDIUM)}
    await publisher.remove_unpublished(MEDIUM)
    assert store.keys == {keys.thumbnail(MEDIUM, "small"), keys.original(MEDIUM)}


def deleted_after_its_write(status_store: FakeStatusStore, state: str) -> WriteOriginal:
    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        await store.put(key, b"original", content_type=content_type)
        status_store.state = state

    return write


@pytest.mark.parametrize("replaced", [None, FACTS], ids=["new", "replaced"])
async def test_what_was_made_after_a_mark_is_left_to_the_removal(
    publisher: Items, store: FakeStore, status_store: FakeStatusStore, replaced: MediaFacts | None
) -> None:
    write = deleted_after_its_write(status_store, "marked")
    await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write, replaced=replaced)
    assert store.keys == PUBLIC


@pytest.mark.parametrize("state", ["removing", "removed"])
async def test_what_was_made_after_the_removal_is_removed(
    publisher: Items, store: FakeStore, status_store: FakeStatusStore, state: str
) -> None:
    write = deleted_after_its_write(status_store, state)
    await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write)
    assert store.keys == set()


async def test_what_was_undeleted_meanwhile_stands(
    publisher: Items, store: FakeStore, status_store: FakeStatusStore
) -> None:
    write = deleted_after_its_write(status_store, "undeleted")
    assert await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write) == FACTS
    assert store.keys == PUBLIC


async def test_the_index_of_copies_has_the_file_that_is_served(publisher: Items, store: FakeStore) -> None:
    first, second = (replace(FACTS, sha256=each * 64) for each in "ab")

    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        await store.put(key, b"original", content_type=content_type)

    async def lose(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        raise PreconditionFailed(key)

    for facts, write_original, replaced in ((first, write, None), (second, write, first), (first, lose, None)):
        await publisher.publish(MEDIUM, facts, {}, write_original, replaced=replaced)
        served = second if facts is second or write_original is lose else first
        store.metadata[keys.original(MEDIUM)] = served.to_metadata()
        assert store.keys == {keys.original(MEDIUM), keys.same_file(served.sha256, 10, MEDIUM)}
