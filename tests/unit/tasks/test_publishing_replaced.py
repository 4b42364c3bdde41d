"""An upload that is replaced while it is published: nothing is told of it, and nothing of it stays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from avion_media.domain import keys
from avion_media.domain.errors import Dependency, ObjectMissing, PreconditionFailed, SourceReplaced
from avion_media.domain.formats import MP4
from avion_media.domain.ids import new_media_id
from avion_media.domain.media import MediaFacts, ThumbnailSize
from avion_media.queue import StatusBoard
from avion_media.resources import Slot
from avion_media.store import ObjectInfo, ObjectStore
from avion_media.tasks.publish import Publisher
from avion_media.telemetry import NO_TELEMETRY

MEDIUM = new_media_id(MP4, 1_700_000_000_000)
FACTS = MediaFacts(MP4, 10, 320, 240, "hash", "")


class FakeStore:
    """Keys only."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    async def put(self, key: str, _data: bytes, **_headers: Any) -> str:
        self.keys.add(key)
        return "etag"

    async def head(self, key: str) -> ObjectInfo:
        if key not in self.keys:
            raise ObjectMissing(key)
        return ObjectInfo(key, 10, "etag", datetime.now(UTC), "video/mp4")

    async def delete(self, doomed: list[str]) -> None:
        self.keys -= set(doomed)


class FakeBoard:
    """Nothing was deleted."""

    async def is_tombstoned(self, _media_id: str) -> bool:
        return False


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def publisher(store: FakeStore) -> Publisher:
    store_slot: Slot[ObjectStore] = Slot(Dependency.STORE)
    store_slot.fill(cast("ObjectStore", store))
    board_slot: Slot[StatusBoard] = Slot(Dependency.REDIS)
    board_slot.fill(cast("StatusBoard", FakeBoard()))
    return Publisher(store_slot, board_slot, (ThumbnailSize("small", 400),), NO_TELEMETRY, status_ttl_s=1.0)


async def test_a_source_that_was_replaced_is_not_an_original_that_is_there(publisher: Publisher) -> None:
    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        raise SourceReplaced("incoming/a")

    with pytest.raises(SourceReplaced):
        await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write)


async def test_an_original_that_is_there_is_as_good_as_written(publisher: Publisher) -> None:
    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        raise PreconditionFailed(key)

    assert await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write) == FACTS


async def test_thumbnails_without_an_original_are_removed(publisher: Publisher, store: FakeStore) -> None:
    store.keys = {keys.thumbnail(MEDIUM, "small"), keys.incoming(MEDIUM)}
    await publisher.remove_unpublished(MEDIUM)
    assert store.keys == {keys.incoming(MEDIUM)}


async def test_thumbnails_of_an_original_stay(publisher: Publisher, store: FakeStore) -> None:
    store.keys = {keys.thumbnail(MEDIUM, "small"), keys.original(MEDIUM)}
    await publisher.remove_unpublished(MEDIUM)
    assert store.keys == {keys.thumbnail(MEDIUM, "small"), keys.original(MEDIUM)}
