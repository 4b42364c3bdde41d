"""What is replaced while it is published, or deleted: what is told of it, and what of it stays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from avion_media.domain import keys
from avion_media.domain.errors import Dependency, ObjectMissing, PreconditionFailed, SourceReplaced
from avion_media.domain.formats import MP4
from avion_media.domain.ids import new_media_id
from avion_media.domain.media import MediaFacts, ThumbnailSize
from avion_media.queue import StatusBoard
from avion_media.queue.board import TAKING_BACK_S
from avion_media.resources import Slot
from avion_media.store import ObjectInfo, ObjectStore
from avion_media.tasks.publish import Publisher, WriteOriginal
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
    """Nothing was deleted, until somebody says so."""

    def __init__(self) -> None:
        self.deleted = False
        self.answers_after_s = [0.0, 0.0]

    async def is_tombstoned(self, _media_id: str) -> bool:
        return self.deleted

    async def is_being_removed(self, _media_id: str) -> bool:
        return False

    async def begin_taking_back(self, _media_id: str) -> bool:
        """Whoever has to wait for long finds that it was undone meanwhile."""
        deleted, pause_s = self.deleted, self.answers_after_s.pop(0)
        self.deleted = deleted and not pause_s
        await trio.sleep(pause_s)
        return deleted

    async def end_taking_back(self, _media_id: str) -> None:
        pass


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def board() -> FakeBoard:
    return FakeBoard()


@pytest.fixture
def publisher(store: FakeStore, board: FakeBoard) -> Publisher:
    store_slot: Slot[ObjectStore] = Slot(Dependency.STORE)
    store_slot.fill(cast("ObjectStore", store))
    statuses = cast("StatusBoard", board)
    return Publisher(
        store_slot, statuses, (ThumbnailSize("small", 400),), NO_TELEMETRY, status_ttl_s=1.0, processing_ttl_s=1.0
    )


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


def deleted_after_its_write(board: FakeBoard) -> WriteOriginal:
    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        await store.put(key, b"original", content_type=content_type)
        board.deleted = True

    return write


async def test_what_was_made_after_a_deletion_is_taken_back(
    publisher: Publisher, store: FakeStore, board: FakeBoard
) -> None:
    assert await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, deleted_after_its_write(board)) is None
    assert store.keys == set()


async def test_what_replaced_a_public_copy_stays_until_the_removal(
    publisher: Publisher, store: FakeStore, board: FakeBoard
) -> None:
    """It is all that is left of what an undoing is to bring back."""
    store.keys = whole = {keys.original(MEDIUM), keys.thumbnail(MEDIUM, "small")}
    write = deleted_after_its_write(board)
    assert await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, write, replaced=FACTS) == FACTS
    assert store.keys == whole


async def test_whoever_stood_still_takes_nothing_back_of_what_was_undone_meanwhile(
    publisher: Publisher, store: FakeStore, board: FakeBoard, autojump_clock: MockClock
) -> None:
    board.answers_after_s = [TAKING_BACK_S + 1, 0.0]
    assert await publisher.publish(MEDIUM, FACTS, {"small": b"jpeg"}, deleted_after_its_write(board)) == FACTS
    assert store.keys == {keys.original(MEDIUM), keys.thumbnail(MEDIUM, "small")}
