"""The pages of own entries: what they cost, and what a change of one leaves as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from avion_media.common.errors import Unavailable
from avion_media.items.moderation import Entry, HashType
from avion_media.items.moderation.entries import PAGES, OwnEntries, page_of
from tests.crash.stage import Stage, Steps, open_stages


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with open_stages(redis_url) as new:
        yield new()


def entry(number: int, media_id: str = "") -> Entry:
    return Entry(HashType.SHA256, sha256(b"%d" % number).digest(), media_id=media_id or f"item {number}")


async def test_20_000_entries_are_read_by_few_requests_and_a_change_reads_one_page_again(stage: Stage) -> None:
    pages: dict[str, list[str]] = {}
    for number in range(20_000):
        pages.setdefault(page_of(entry(number)), []).append(f"{entry(number)}\n")
    for key, lines in pages.items():
        stage.write(key, "".join(lines).encode())
    steps = Steps()
    lists = stage.moderation(steps).lists
    await lists.refresh()
    assert len(lists.own_entries()) == 20_000
    assert sum(name.startswith("before read") for name in steps.names) == PAGES
    assert sum(name.startswith(("before read", "before list")) for name in steps.names) <= 20

    await stage.moderation().lists.add_own(entry(20_000))
    steps.names.clear()
    await lists.refresh()
    assert len(lists.own_entries()) == 20_001
    assert sum(name.startswith("before read") for name in steps.names) == 1


async def test_a_change_leaves_the_lines_that_it_is_not_about(stage: Stage) -> None:
    first, same = entry(1, "a"), Entry(HashType.SHA256, entry(1).hash, "of an operator", "a")
    stage.write(page_of(first), f"crc32,00,tomorrow's\n{first}\n".encode())
    own = OwnEntries(stage.items().store)
    await own.add([same])
    await own.remove([entry(2, "a")])
    assert stage.objects[page_of(first)].data == f"crc32,00,tomorrow's\n{first}\n".encode()
    lists = stage.moderation().lists
    await lists.refresh()
    assert lists.own_entries() == [first]
    await own.remove([same])
    assert stage.objects[page_of(first)].data == b"crc32,00,tomorrow's\n"


async def test_an_entry_that_an_operator_removed_does_not_come_back(stage: Stage) -> None:
    """Not by the look at its block either."""
    stage.moderated = True
    await stage.process()
    await stage.block()
    lists = stage.moderation().lists
    await lists.refresh()
    (own,) = lists.own_entries()
    assert await lists.remove_own(own)
    assert not await lists.remove_own(own)
    await stage.resume_blocks()
    await lists.refresh()
    assert lists.own_entries() == []


async def test_a_page_that_others_always_change_first_is_tried_a_bounded_number_of_times(stage: Stage) -> None:
    page, one = page_of(entry(1)), entry(1)
    count = 0

    async def change() -> None:
        nonlocal count
        count += 1
        stage.write(page, f"md5,{count:032x},\n".encode())

    own = OwnEntries(stage.items(Steps({f"before put {page}": change})).store)
    with pytest.raises(Unavailable, match="again and again"):
        await own.add([one])
    assert count == 20
