"""The archive of an owner: made piece by piece, with a row for each media item, whatever happens to it meanwhile."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
import trio.testing

from avion_media.backends.store import ObjectInfo
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.media import MediaFacts
from avion_media.operations.owner_export import WINDOW_BYTES, Exported, export

FACTS = MediaFacts(JPEG, 7, 40, 30, "hash", "")


class Pages:
    """One page, which can be left anywhere."""

    def __init__(self, page: list[Any]) -> None:
        self._pages = [page]

    def __aiter__(self) -> Pages:
        return self

    async def __anext__(self) -> list[Any]:
        if not self._pages:
            raise StopAsyncIteration
        return self._pages.pop()


class Store:
    """Originals in memory. ``fault`` is asked before each read and can raise."""

    def __init__(self, originals: Mapping[MediaId, bytes], blocked: list[MediaId] | None = None) -> None:
        self.originals = {keys.original(each): content for each, content in originals.items()}
        self.blocked = blocked or []
        self.fault: Callable[[str, int], None] = lambda _key, _offset: None
        self.reads: list[tuple[str, int]] = []

    async def head(self, key: str) -> ObjectInfo:
        if key not in self.originals:
            raise ObjectMissing(key)
        size_bytes, metadata = len(self.originals[key]), FACTS.to_metadata()
        return ObjectInfo(key, size_bytes, "e", datetime.now(UTC), "image/jpeg", metadata)

    async def read(self, key: str, offset: int, length: int, *, max_bytes: int, if_match: str) -> bytes:
        assert (length, max_bytes, if_match) == (WINDOW_BYTES, WINDOW_BYTES, "e")
        self.reads.append((key, offset))
        self.fault(key, offset)
        if key not in self.originals:
            raise ObjectMissing(key)
        return self.originals[key][offset : offset + length]

    def list_keys(self, prefix: str) -> Pages:
        noted = prefix == keys.blocked_of("owner/alice")
        return Pages([f"{prefix}{each}" for each in self.blocked] if noted else [])


def runtime_of(store: Store, media: list[MediaId], deleted: MediaId | None = None) -> Any:
    def pages(_owner: str) -> Pages:
        return Pages([SimpleNamespace(media_id=each) for each in media])

    async def is_blocked(media_id: str) -> bool:
        return media_id in map(str, store.blocked)

    async def get_many(media_ids: list[str]) -> dict[str, Any]:
        return {each: SimpleNamespace(is_deleted=True) for each in media_ids if each == str(deleted)}

    return SimpleNamespace(
        items=SimpleNamespace(store=SimpleNamespace(get=lambda: store), owners=SimpleNamespace(media=pages)),
        moderation=SimpleNamespace(records=SimpleNamespace(is_blocked=is_blocked)),
        replay=SimpleNamespace(records=SimpleNamespace(get_many=get_many)),
    )


async def exported(store: Store, media: list[MediaId], deleted: MediaId | None = None) -> dict[str, Any]:
    """Return the archive: the contents by name, and the rows of its table by id."""
    async with aclosing(export(runtime_of(store, media, deleted), "alice", Exported(), lambda _: None)) as pieces:
        archive = zipfile.ZipFile(io.BytesIO(b"".join([piece async for piece in pieces])))
    assert archive.testzip() is None
    rows = json.loads(archive.read("media.json"))
    with archive.open("media.csv") as table:
        as_csv = list(csv.DictReader(io.TextIOWrapper(table, "utf-8")))
    assert as_csv == [{name: str(value) for name, value in row.items()} for row in rows]
    return {name: archive.read(name) for name in archive.namelist()} | {row["id"]: row for row in rows}


def ids(count: int) -> list[MediaId]:
    return [new_media_id(JPEG, 1_700_000_000_000 + number) for number in range(count)]


async def test_each_media_item_has_a_row_that_says_why_its_file_is_missing() -> None:
    kept, deleted, blocked, _gone, noted = media = ids(5)
    store = Store({each: str(each).encode() for each in (kept, deleted, blocked, noted)}, blocked=[blocked, noted])
    found = await exported(store, media[:4], deleted)
    files = [name for name in found if name.startswith("files/")]
    assert files == [f"files/{kept}.jpg"]
    assert found[files[0]] == str(kept).encode()
    assert [found[str(each)]["state"] for each in media] == ["published", "deleted", "blocked", "gone", "blocked"]
    assert found[str(kept)] == {
        "id": str(kept),
        "file": files[0],
        "type": "image/jpeg",
        "size": 26,
        "width": 40,
        "height": 30,
        "created": "2023-11-14T22:13:20+00:00",
        "visibility": "public",
        "sha256": sha256(str(kept).encode()).hexdigest(),
        "state": "published",
    }


async def test_an_owner_without_media_gets_an_empty_table() -> None:
    assert list(await exported(Store({}), [])) == ["media.csv", "media.json"]


@pytest.mark.parametrize("error", [ObjectMissing, PreconditionFailed])
async def test_a_media_item_that_is_removed_or_replaced_while_it_is_read_is_noted(error: type[Exception]) -> None:
    first, second = media = ids(2)
    store = Store({first: bytes(3 * WINDOW_BYTES), second: b"whole"})

    def fault(key: str, offset: int) -> None:
        if key == keys.original(first) and offset:
            raise error(key)

    store.fault = fault
    found = await exported(store, media)
    assert (found[str(first)]["state"], found[str(first)]["sha256"]) == ("incomplete", "")
    assert found[f"files/{first}.jpg"] == bytes(WINDOW_BYTES)
    assert found[f"files/{second}.jpg"] == b"whole"


async def test_one_file_that_the_store_does_not_return_stops_no_other(autojump_clock: trio.testing.MockClock) -> None:
    first, second = media = ids(2)
    store = Store({first: b"unreadable", second: b"whole"})

    def fault(key: str, _offset: int) -> None:
        if key == keys.original(first):
            raise Unavailable(Dependency.OBJECT)

    store.fault = fault
    found = await exported(store, media)
    assert found[str(first)]["state"] == "unreadable"
    assert found[str(second)]["state"] == "published"


async def test_a_store_that_answers_again_is_asked_for_the_rest(autojump_clock: trio.testing.MockClock) -> None:
    (media_id,) = media = ids(1)
    content = b"".join(bytes((number,)) * WINDOW_BYTES for number in range(3))
    store, failures = Store({media_id: content}), [Dependency.STORE, Dependency.STORE, Dependency.OBJECT]

    def fault(_key: str, offset: int) -> None:
        if offset == WINDOW_BYTES and failures:
            raise Unavailable(failures.pop())

    store.fault = fault
    found = await exported(store, media)
    assert found[f"files/{media_id}.jpg"] == content
    assert found[str(media_id)]["sha256"] == sha256(content).hexdigest()
    assert [offset // WINDOW_BYTES for _, offset in store.reads] == [0, 1, 1, 1, 1, 2]


async def test_a_store_that_stays_away_ends_the_export(autojump_clock: trio.testing.MockClock) -> None:
    (media_id,) = media = ids(1)
    store = Store({media_id: bytes(2 * WINDOW_BYTES)})

    def fault(_key: str, offset: int) -> None:
        if offset:
            raise Unavailable(Dependency.STORE)

    store.fault = fault
    with pytest.raises(Unavailable):
        await exported(store, media)


async def test_memory_is_bounded_by_a_window_and_a_kilobyte_for_each_media_item() -> None:
    large, *small = media = ids(5001)
    store = Store({large: bytes(64 << 20), **dict.fromkeys(small, b"x")})
    written_bytes = most_bytes = 0
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        async for piece in export(runtime_of(store, media), "alice", Exported(), lambda _: None):
            written_bytes += len(piece)
            most_bytes = max(most_bytes, len(piece))
            store.reads.clear()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written_bytes > 64 << 20
    assert most_bytes < WINDOW_BYTES + (64 << 10)
    assert peak - before < 6 * WINDOW_BYTES + 1024 * len(media)
