"""Objects written, read, copied, listed and deleted: the same on Ceph and on moto."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta

import pytest

from avion_media.backends.store import FileSource, ObjectStore, RangeNotSatisfiable, TooLarge
from avion_media.common.errors import ObjectMissing, PreconditionFailed

BLURHASH_PUNCTUATION = "LEHV6nWB2y#$%*+,-.:;=?@[]^_{|}~"


async def test_what_is_put_comes_back_with_type_metadata_and_etag(either_store: ObjectStore) -> None:
    etag = await either_store.put(
        "original/2026/01/02/a.jpg", b"pixels", content_type="image/jpeg", metadata={"blurhash": BLURHASH_PUNCTUATION}
    )

    info = await either_store.head("original/2026/01/02/a.jpg")

    assert info.key == "original/2026/01/02/a.jpg"
    assert (info.size_bytes, info.etag, info.content_type) == (6, etag, "image/jpeg")
    assert info.metadata == {"blurhash": BLURHASH_PUNCTUATION}
    assert info.last_modified.tzinfo is UTC
    assert abs(info.last_modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert await either_store.read(info.key, max_bytes=6) == b"pixels"


@pytest.mark.parametrize("key", ["incoming/plain", "with space", "plus+percent%20", "ä/ö~'()*!", "question?hash#"])
async def test_any_key_survives_the_way_there_and_back(either_store: ObjectStore, key: str) -> None:
    await either_store.put(key, key.encode(), content_type="text/plain")

    assert await either_store.read(key, max_bytes=100) == key.encode()
    assert [[each.key for each in page] async for page in either_store.list("")] == [[key]]


async def test_an_object_that_is_not_there_is_missing_to_every_read(either_store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        await either_store.head("nothing")
    with pytest.raises(ObjectMissing):
        await either_store.read("nothing", max_bytes=10)
    with tempfile.TemporaryFile() as file, pytest.raises(ObjectMissing):
        await either_store.download("nothing", file.fileno(), max_bytes=10)
    with pytest.raises(ObjectMissing):
        await either_store.copy("nothing", "copy", content_type="text/plain")


async def test_reads_stop_at_the_end_as_those_of_a_file_do(either_store: ObjectStore) -> None:
    await either_store.put("ten", b"0123456789", content_type="text/plain")
    await either_store.put("empty", b"", content_type="text/plain")

    assert await either_store.read("ten", 2, 3, max_bytes=3) == b"234"
    assert await either_store.read("ten", 8, 100, max_bytes=100) == b"89"
    assert await either_store.read("ten", 8, max_bytes=100) == b"89"
    assert await either_store.read("ten", 10, 5, max_bytes=100) == b""
    assert await either_store.read("ten", 3, 0, max_bytes=100) == b""
    assert await either_store.read("empty", 0, 5, max_bytes=100) == b""
    assert await either_store.read("empty", max_bytes=100) == b""


async def test_a_read_beyond_its_bound_hands_over_nothing(either_store: ObjectStore) -> None:
    await either_store.put("ten", b"0123456789", content_type="text/plain")

    with pytest.raises(TooLarge) as failure:
        await either_store.read("ten", max_bytes=9)
    assert (failure.value.size_bytes, failure.value.max_bytes) == (10, 9)
    with pytest.raises(TooLarge):
        await either_store.read("ten", 0, 10, max_bytes=9)


async def test_a_put_from_a_file_takes_its_part_and_leaves_its_position(either_store: ObjectStore) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"head" + b"b" * 3_000_000 + b"tail")
        file.seek(7)

        await either_store.put("part", FileSource(file.fileno(), 3_000_000, offset=4), content_type="video/mp4")

        assert file.tell() == 7
    assert await either_store.read("part", max_bytes=1 << 30) == b"b" * 3_000_000


async def test_only_if_absent_never_replaces(either_store: ObjectStore) -> None:
    await either_store.put("once", b"first", content_type="text/plain", only_if_absent=True)

    with pytest.raises(PreconditionFailed):
        await either_store.put("once", b"second", content_type="text/plain", only_if_absent=True)

    assert await either_store.read("once", max_bytes=10) == b"first"


async def test_a_put_with_if_match_replaces_only_that_version(either_store: ObjectStore) -> None:
    first = await either_store.put("changed", b"first", content_type="text/plain", only_if_absent=True)
    await either_store.put("changed", b"second", content_type="text/plain", if_match=first)

    for key in ("changed", "not there"):
        with pytest.raises(PreconditionFailed):
            await either_store.put(key, b"third", content_type="text/plain", if_match=first)

    assert await either_store.read("changed", max_bytes=10) == b"second"
    assert not await either_store.exists("not there")


async def test_a_copy_has_the_new_type_and_metadata(either_store: ObjectStore) -> None:
    etag = await either_store.put("source", b"bytes", content_type="text/plain", metadata={"old": "1"})

    await either_store.copy("source", "target", content_type="image/gif", metadata={"new": "2"}, source_etag=etag)

    info = await either_store.head("target")
    assert (info.content_type, info.metadata) == ("image/gif", {"new": "2"})
    assert await either_store.read("target", max_bytes=10) == b"bytes"


async def test_a_copy_of_a_source_that_changed_fails(store: ObjectStore) -> None:
    etag = await store.put("source", b"bytes", content_type="text/plain")
    await store.put("source", b"other", content_type="text/plain")

    with pytest.raises(PreconditionFailed):
        await store.copy("source", "target", content_type="text/plain", source_etag=etag)

    with pytest.raises(ObjectMissing):
        await store.head("target")


async def test_deleting_is_idempotent_and_takes_more_keys_than_one_request(either_store: ObjectStore) -> None:
    await either_store.put("a", b"a", content_type="text/plain")
    await either_store.put("b", b"b", content_type="text/plain")

    await either_store.delete(["a", *(f"missing/{number}" for number in range(1100)), "b"])
    await either_store.delete(["a", "b"])
    await either_store.delete([])

    assert [page async for page in either_store.list("")] == []


async def test_deleting_one_object_is_idempotent_too(either_store: ObjectStore) -> None:
    await either_store.put("a", b"a", content_type="text/plain")

    await either_store.delete(["a"])
    await either_store.delete(["a"])

    assert [page async for page in either_store.list("")] == []


async def test_a_listing_pages_in_order_and_resumes(either_store: ObjectStore) -> None:
    keys = [f"incoming/{number:02}" for number in range(7)]
    for key in reversed(keys):
        await either_store.put(key, key.encode(), content_type="text/plain")
    await either_store.put("original/other", b"", content_type="text/plain")

    pages = [[each.key for each in page] async for page in either_store.list("incoming/", page_size=3)]
    resumed = [[each.key for each in page] async for page in either_store.list("incoming/", keys[3], page_size=3)]

    assert pages == [keys[:3], keys[3:6], keys[6:]]
    assert resumed == [keys[4:]]
    async for page in either_store.list("incoming/", page_size=1):
        assert (page[0].size_bytes, page[0].last_modified.tzinfo) == (len(keys[0]), UTC)
        break


async def test_parts_of_every_kind_of_range(either_store: ObjectStore) -> None:
    await either_store.put("ten", b"0123456789", content_type="text/plain", metadata={"k": "v"})

    for byte_range, wanted, header in (
        (None, b"0123456789", None),
        ((2, 4), b"234", "bytes 2-4/10"),
        ((7, None), b"789", "bytes 7-9/10"),
        ((None, 4), b"6789", "bytes 6-9/10"),
        ((8, 99), b"89", "bytes 8-9/10"),
    ):
        part = await either_store.read_part("ten", byte_range, max_bytes=10)
        assert part.data == wanted
        assert part.content_range is None if header is None else str(part.content_range) == header
        assert (part.info.size_bytes, part.info.metadata) == (10, {"k": "v"})


async def test_a_part_that_is_larger_than_expected_is_not_read(either_store: ObjectStore) -> None:
    await either_store.put("ten", b"0123456789", content_type="text/plain")

    with pytest.raises(TooLarge):
        await either_store.read_part("ten", (0, 9), max_bytes=9)


async def test_a_range_behind_the_end_is_an_error_of_its_own(either_store: ObjectStore) -> None:
    await either_store.put("ten", b"0123456789", content_type="text/plain")

    with pytest.raises(RangeNotSatisfiable):
        await either_store.read_part("ten", (10, None), max_bytes=10)


async def test_a_part_of_another_etag_is_refused(either_store: ObjectStore) -> None:
    etag = await either_store.put("a", b"one", content_type="text/plain")
    assert (await either_store.read_part("a", max_bytes=3, if_match=etag)).data == b"one"

    await either_store.put("a", b"two", content_type="text/plain")

    with pytest.raises(PreconditionFailed):
        await either_store.read_part("a", max_bytes=3, if_match=etag)
    with pytest.raises(PreconditionFailed):
        await either_store.read("a", 0, 3, max_bytes=3, if_match=etag)


@pytest.mark.parametrize("byte_range", [(-1, 5), (5, 4), (None, None), (None, 0)])
async def test_a_range_that_names_nothing_is_the_callers_mistake(
    store: ObjectStore, byte_range: tuple[int | None, int | None]
) -> None:
    with pytest.raises(ValueError, match="range"):
        await store.read_part("a", byte_range, max_bytes=10)
