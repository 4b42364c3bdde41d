"""The lists of the console on a real Redis: pages, filters and cursors over all queues at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
import redis as redis_py

from avion_media.backends.queue import TaskQueue
from avion_media.backends.queue.task_scan import find_tasks
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.operations.dead_letters import (
    MAX_EXAMINED,
    PAGE_ROWS,
    Selection,
    count_newer,
    find_matching,
    read_causes,
    read_folded,
    read_page,
)
from avion_media.servers.console.media_list import MediaFilter, read_media, read_unfinished
from avion_media.servers.console.questions import DeadLetterQuery

Fields: TypeAlias = Any  # redis-py's types are wider than what any call here takes
POISONED = DeadLetterQuery(reason="poison").selection()
MEDIA_IDS = [f"01M88C0SJ305C5J3D3BYCKGC{number:02d}" for number in range(40)]


@pytest.fixture
def other(redis_of_process: str) -> redis_py.Redis:
    """An independent client of an empty Redis."""
    client = redis_py.Redis.from_url(redis_of_process, decode_responses=True)
    client.flushall()
    return client


@pytest.fixture
async def redis(redis_of_process: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_of_process) as redis:
        yield redis


def add_dead_letter(other: redis_py.Redis, queue: str, entry_id: str, error: str = "internal: x", **fields: str) -> str:
    """A dead letter; its key in the console."""
    dead_letter: Fields = {
        "task_id": f"t-{entry_id}",
        "error": error,
        "attempts": "5",
        "failed_at": "1795616000.5",
        **fields,
    }
    other.xadd(f"{{{queue}}}:dlq", dead_letter, id=entry_id)
    return f"{queue}/{entry_id}"


def add_dead_letters_everywhere(other: redis_py.Redis, count: int) -> list[str]:
    """Dead letters of three queues, some with equal ids; their keys, newest first."""
    queues = (PROCESSING_QUEUE, CACHE_QUEUE, DELETE_QUEUE)
    return [add_dead_letter(other, queues[index % 3], f"{1000 + index // 3}-{index % 2}") for index in range(count)][
        ::-1
    ]


async def test_pages_follow_each_other_in_both_directions_without_gap_or_repetition(
    redis: Redis, other: redis_py.Redis
) -> None:
    keys = set(add_dead_letters_everywhere(other, 3 * PAGE_ROWS + 7))
    pages = [await read_page(redis, Selection())]
    while pages[-1].older:
        pages.append(await read_page(redis, Selection(), before=pages[-1].older))
    seen = [row.newest.key for page in pages for row in page.rows]
    assert len(seen) == len(set(seen)) == len(keys)
    assert set(seen) == keys
    assert [len(page.rows) for page in pages] == [25, 25, 25, 7]
    ids = [tuple(map(int, key.partition("/")[2].split("-"))) for key in seen]
    assert ids == sorted(ids, reverse=True)

    back = await read_page(redis, Selection(), after=pages[2].newer)
    assert [row.newest.key for row in back.rows] == [row.newest.key for row in pages[1].rows]
    assert pages[0].newer == ""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (DeadLetterQuery(text="heron.EXAMPLE"), ["c"]),
        (DeadLetterQuery(text="t-1-0"), ["a"]),
        (DeadLetterQuery(text="@mara"), ["b"]),
        (DeadLetterQuery(queue=CACHE_QUEUE), ["c"]),
        (DeadLetterQuery(reason="poison"), ["b"]),
        (DeadLetterQuery(age="1h"), []),
        (DeadLetterQuery(reason="internal", queue=PROCESSING_QUEUE), ["a"]),
    ],
)
async def test_filters_find_by_id_url_owner_queue_reason_and_age(
    redis: Redis, other: redis_py.Redis, wanted: DeadLetterQuery, found: list[str]
) -> None:
    names = {
        add_dead_letter(other, PROCESSING_QUEUE, "1-0", media_id=MEDIA_IDS[0]): "a",
        add_dead_letter(
            other, PROCESSING_QUEUE, "2-0", "poison: 3 processes", media_id=MEDIA_IDS[1], owner="@mara"
        ): "b",
        add_dead_letter(other, CACHE_QUEUE, "3-0", remote_url="https://heron.example/a.png"): "c",
    }
    page = await read_page(redis, wanted.selection())
    assert [names[row.newest.key] for row in page.rows] == found


async def test_a_search_says_what_it_did_not_look_at(redis: Redis, other: redis_py.Redis) -> None:
    wanted = add_dead_letter(other, PROCESSING_QUEUE, "1-0", "poison: x")
    pipeline = other.pipeline()
    for number in range(MAX_EXAMINED):
        pipeline.xadd(f"{{{PROCESSING_QUEUE}}}:dlq", {"task_id": "t", "error": "internal: x"}, id=f"2-{number}")
    pipeline.execute()
    first = await read_page(redis, POISONED)
    assert (first.rows, first.examined) == ((), MAX_EXAMINED)
    second = await read_page(redis, POISONED, before=first.older)
    assert [row.newest.key for row in second.rows] == [wanted]
    assert second.older == ""
    assert (await find_matching(redis, POISONED))[::2] == ([], True)
    assert await find_matching(redis, POISONED, first.older) == ([wanted], first.older, False)
    causes, examined = await read_causes(redis)
    assert [(cause.newest.reason, cause.count) for cause in causes] == [("internal", examined)]


async def test_equal_errors_of_a_queue_are_one_row_and_the_same_condition_finds_them(
    redis: Redis, other: redis_py.Redis
) -> None:
    for number in range(3):
        add_dead_letter(other, PROCESSING_QUEUE, f"1-{number}", "internal: KeyError: 'colr'")
    longer = add_dead_letter(other, PROCESSING_QUEUE, "2-0", "internal: KeyError: 'colr' again")
    elsewhere = add_dead_letter(other, CACHE_QUEUE, "3-0", "internal: KeyError: 'colr'")
    page = await read_folded(redis, Selection())
    rows = [(row.newest.key, row.count) for row in page.rows]
    assert rows == [(elsewhere, 1), (longer, 1), (f"{PROCESSING_QUEUE}/1-2", 3)]
    assert (page.older, page.examined) == ("", 5)
    same = DeadLetterQuery(queue=PROCESSING_QUEUE, error=page.rows[2].newest.folded_error)
    keys, _, _ = await find_matching(redis, same.selection())
    assert keys == [f"{PROCESSING_QUEUE}/1-{number}" for number in (2, 1, 0)]

    for number in range(PAGE_ROWS):
        add_dead_letter(other, DELETE_QUEUE, f"4-{number}", f"internal: {number}")
    page = await read_folded(redis, Selection())
    assert [row.count for row in page.rows] == [1] * PAGE_ROWS
    rest = await read_folded(redis, Selection(), page.older)
    assert [(row.newest.key, row.count) for row in rest.rows] == rows


async def test_what_fails_after_the_question_is_not_touched(redis: Redis, other: redis_py.Redis) -> None:
    keys = add_dead_letters_everywhere(other, 7)
    matching, until, has_more = await find_matching(redis, Selection())
    assert (set(matching), has_more) == (set(keys), False)
    assert until == matching[0]
    new = add_dead_letter(other, DELETE_QUEUE, "1002-9")
    assert (await find_matching(redis, Selection(), until))[0] == matching
    assert (await find_matching(redis, Selection()))[0] == [new, *matching]
    assert await count_newer(redis, Selection(), until) == 1


async def test_media_are_listed_once_with_what_happened_last(redis: Redis, other: redis_py.Redis) -> None:
    def publish(kind: str, media_id: str, **details: str) -> None:
        other.xadd("media_events", {"event": json.dumps({"type": kind, "media_id": media_id, **details})})

    for media_id in MEDIA_IDS[:30]:
        publish("media.ready", media_id)
    publish("media.failed", MEDIA_IDS[30], reason="corrupt")
    publish("media.deleted", MEDIA_IDS[0])
    other.xadd("media_events", {"event": "not JSON"})
    other.xadd(PROCESSING_QUEUE, {"task_id": "t", "media_id": MEDIA_IDS[31]})
    first = await read_media(redis, MediaFilter(), "small")
    assert [(tile.media_id, tile.state) for tile in first.tiles[:3]] == [
        (MEDIA_IDS[31], "processing"),
        (MEDIA_IDS[0], "deleted"),
        (MEDIA_IDS[30], "failed"),
    ]
    second = await read_media(redis, MediaFilter(), "small", first.older)
    assert {tile.media_id for tile in (*first.tiles, *second.tiles)} == set(MEDIA_IDS[:32])
    assert second.older == ""
    failed = await read_media(redis, MediaFilter(state="failed"), "small")
    assert [(tile.media_id, tile.reason) for tile in failed.tiles] == [(MEDIA_IDS[30], "corrupt")]


async def test_uploads_that_wait_are_among_those_in_progress(redis: Redis, other: redis_py.Redis) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    for number, owner in ((1, "ada"), (2, "bob")):
        fields = {"media_id": MEDIA_IDS[number], "type": "thumbnail", "owner": owner}
        assert await queue.enqueue(fields, tenant=f"image/{owner}")
    other.xadd(PROCESSING_QUEUE, {"task_id": "t", "media_id": MEDIA_IDS[3]})
    other.xadd(PROCESSING_QUEUE, {"task_id": "u", "media_id": "none"})
    page = await read_unfinished(redis, MediaFilter(state="processing"))
    assert {tile.media_id for tile in page.tiles} == {MEDIA_IDS[number] for number in (1, 2, 3)}
    (tile,) = (await read_unfinished(redis, MediaFilter(text=MEDIA_IDS[2], state="processing"))).tiles
    assert (tile.media_id, tile.state) == (MEDIA_IDS[2], "processing")
    (task,) = await find_tasks(redis, PROCESSING_QUEUE, lambda task: task.entry.tenant == "image/bob", 9)
    assert task.entry.task.subject == MEDIA_IDS[2]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (MediaFilter(), [4, 3, 2, 1]),
        (MediaFilter(kind="video"), [3]),
        (MediaFilter(kind="image"), [4, 2, 1]),  # of a failure, as declared
        (MediaFilter(larger="10"), [3, 2]),
        (MediaFilter(kind="image", larger="10"), [2]),
        (MediaFilter(since="2026-11-26"), [4, 3]),
        (MediaFilter(until="2026-11-25"), [2, 1]),
        (MediaFilter(since="2026-11-25", until="2026-11-26"), [3, 2]),
        (MediaFilter.from_query({"since": "yesterday", "kind": "text", "larger": "x"}), [4, 3, 2, 1]),
    ],
)
async def test_media_are_filtered_by_type_size_and_day(
    redis: Redis, other: redis_py.Redis, wanted: MediaFilter, found: list[int]
) -> None:
    known = {1: ("image/png", 1 << 20), 2: ("image/jpeg", 12 << 20), 3: ("video/mp4", 90 << 20)}
    for number, day in ((1, 24), (2, 25), (3, 26), (4, 27)):
        facts = dict(zip(("content_type", "size"), known.get(number, ()), strict=False))
        kind = "media.ready" if facts else "media.failed"
        event = {"type": kind, "media_id": MEDIA_IDS[number], "width": 1, "height": 1, **facts}
        at_ms = round(datetime(2026, 11, day, 12, tzinfo=UTC).timestamp() * 1000)
        other.xadd("media_events", {"event": json.dumps(event)}, id=f"{at_ms}-0")
    page = await read_media(redis, wanted, "small")
    assert [MEDIA_IDS.index(tile.media_id) for tile in page.tiles] == found
