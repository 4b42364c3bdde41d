"""Block lists: their lines, lookups by bytes and by likeness, and what they cost."""

from __future__ import annotations

import random
from typing import cast

import pytest

from avion_media.backends.store import ObjectStore
from avion_media.common.errors import Dependency
from avion_media.common.resources import ResourceSlot
from avion_media.config import Config
from avion_media.items.moderation.entries import Entry, HashType, InvalidEntry, parse_entry, parse_list
from avion_media.items.moderation.lists import MAX_DISTANCE, Blocklists, Changes, DigestSet, Likenesses
from tests.bench.moderation import likeness, measure
from tests.crash.stage import MemoryStore, Steps, Stored

SHA = "ab" * 32
MD5 = "0f" * 16


def test_a_list_is_read_line_by_line_and_what_is_no_entry_is_named_by_its_number() -> None:
    lines = [
        "type,hash,label",
        "# ours",
        "",
        f"sha256,{SHA},a label",
        f"MD5, {MD5.upper()}",
        "md5,abcd",
        "crc,00,",
        "x",
    ]
    *entries, short, unknown, fields = parse_list(lines)
    assert entries == [Entry(HashType.SHA256, bytes.fromhex(SHA), "a label"), Entry(HashType.MD5, bytes.fromhex(MD5))]
    numbers = [each[0] for each in (short, unknown, fields) if not isinstance(each, Entry)]
    assert numbers == [6, 7, 8]


def test_an_entry_is_written_as_it_is_read() -> None:
    for label in ("", "with, a comma", 'a "quote"'):
        entry = Entry(HashType.PDQ, bytes(32), label)
        assert parse_entry(str(entry)) == entry
    with pytest.raises(InvalidEntry, match="32 hex digits"):
        parse_entry(f"md5,{SHA}")


def test_lookups_by_bytes_and_by_likeness_against_a_plain_search() -> None:
    source = random.Random(2)
    digests = [source.randbytes(16) for _ in range(3000)]
    exact = DigestSet([*digests, *digests[:10]], 16)
    assert len(exact) == 3000
    assert all(each in exact for each in digests)
    assert not any(source.randbytes(16) in exact for _ in range(3000))
    assert bytes(16) not in DigestSet([], 16)

    likenesses = Likenesses.of(source.randbytes(32) for _ in range(100))
    for distance in (0, 1, MAX_DISTANCE, MAX_DISTANCE + 1):
        changed = sum(1 << bit for bit in source.sample(range(256), distance))
        near = likenesses.nearest((likenesses.hashes[7] ^ changed).to_bytes(32))
        expected = (distance, likenesses.hashes[7].to_bytes(32)) if distance <= MAX_DISTANCE else None
        assert near == expected


def test_lookups_stay_within_their_bounds() -> None:
    """The bounds of the whole sizes, at a tenth of them: what is looked up grows no faster than the list."""
    costs = measure(100_000, 10_000)
    assert costs["exact_hit_ms"] < 0.5
    assert costs["exact_miss_ms"] < 0.5
    assert costs["pdq_ms"] < 5
    assert costs["exact_memory_mb"] < 4


def test_what_likeness_means_is_set_by_list() -> None:
    policy = Config.model_validate({"moderation": {"likeness": "hold,ncmec:refuse,own:ignore"}}).moderation.likeness
    assert [policy.of(name) for name in ("ncmec", "own", "others")] == ["refuse", "ignore", "hold"]
    for wrong in ("", "block", "hold,:refuse", "hold,a:b"):
        with pytest.raises(ValueError, match="expected hold, refuse or ignore"):
            Config.model_validate({"moderation": {"likeness": wrong}})


def test_altered_copies_are_found_and_innocent_pictures_are_not() -> None:
    names = ("gif-animated.gif", "jpeg-gray.jpg", "jpeg-orientation-3.jpg", "jpeg-portrait-orientation-6.jpg")
    found, false = likeness(names, ["half the size", "blurred", "gray"])
    assert false == []
    for alteration, (count, total) in found.items():
        assert count >= total - 1 == 3, (alteration, count, total)


async def test_a_match_names_the_label_of_an_imported_entry() -> None:
    """For a moderator the label is all that is known of it."""
    objects: dict[str, Stored] = {}
    slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    slot.fill(cast("ObjectStore", store := MemoryStore(objects, Steps())))
    entries = [Entry(HashType.PDQ, bytes(32), "scam1"), Entry(HashType.PDQ, b"\xff" * 32)]
    await store.put("blocklist/theirs.csv", "".join(f"{each}\n" for each in entries).encode(), content_type="text/csv")
    lists = Blocklists(slot, cast("Changes", _Unchanged()))
    await lists.reload()

    for digest, label in ((bytes(31) + b"\x01", "scam1"), (b"\xff" * 32, "")):
        [match] = await lists.alike(digest)
        assert (match.list, match.label) == ("theirs", label)


class _Unchanged:
    """Nothing changes."""

    async def generation(self) -> bytes:
        return b"1"
