"""Watchers are woken by what is said; what nobody says is seen by one look for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from avion_media.backends.redis import RedisRefused
from avion_media.common.errors import Dependency, MediaError, Unavailable
from avion_media.common.formats import BY_NAME
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import State, Status
from avion_media.items.deletion import JournalReplay
from avion_media.items.moderation import ModerationStatus
from avion_media.media.settings import UploadConfig
from avion_media.servers.api.statuses import Notifier, StatusResolver, Watchers

PENDING = Status("m", State.PENDING_UPLOAD)
PROCESSING = Status("m", State.PROCESSING)
READY = Status("m", State.READY)
POLL_S = 15.0


class FakeStatusStore:
    """What is written, and how often it was asked."""

    def __init__(self) -> None:
        self.written: dict[str, Status | None] = {}
        self.looks: list[Sequence[str]] = []
        self.trouble: MediaError | None = None

    async def get_many(self, media_ids: Sequence[str]) -> dict[str, Status | None]:
        await trio.lowlevel.checkpoint()
        self.looks.append(media_ids)
        if self.trouble is not None:
            raise self.trouble
        return {each: self.written.get(each) for each in media_ids}


async def woken_after(notifier: Notifier, told: Status, at_most_s: float = 3600.0) -> float:
    """For how long the watcher waited."""
    began = trio.current_time()
    await notifier.wait(told, at_most_s)
    return trio.current_time() - began


async def test_a_ring_wakes_those_who_watch_that_medium(autojump_clock: MockClock) -> None:
    watchers = Watchers()
    with watchers.watching("m") as first, watchers.watching("m") as second, watchers.watching("n") as other:
        watchers.notify("m")
        assert await woken_after(first, PENDING) == 0
        assert await woken_after(second, PENDING) == 0
        assert await woken_after(other, PENDING, at_most_s=60) == 60
        assert watchers.channels.names == {"media_status:m", "media_status:n"}
    assert not watchers.channels.names
    watchers.notify("m")  # nobody is there any more


@pytest.mark.parametrize(
    ("told", "written", "wakes"),
    [
        (PROCESSING, READY, True),
        (PROCESSING, None, True),  # it expired
        (PROCESSING, PROCESSING, False),
        (PENDING, PROCESSING, True),
        (PENDING, Status("m", State.DELETED), True),
        (PENDING, None, False),  # nothing is written of a pending upload
    ],
)
async def test_what_nobody_said_is_seen_by_the_next_look(
    autojump_clock: MockClock, told: Status, written: Status | None, wakes: bool
) -> None:
    status_store = FakeStatusStore()
    status_store.written["m"] = written
    watchers = Watchers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchers.keep_polling, status_store.get_many)
        with watchers.watching("m") as notifier:
            assert await woken_after(notifier, told, at_most_s=100) == (POLL_S if wakes else 100)
        nursery.cancel_scope.cancel()


async def test_one_look_is_for_all_watchers(autojump_clock: MockClock) -> None:
    status_store = FakeStatusStore()
    watchers = Watchers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchers.keep_polling, status_store.get_many)
        await trio.sleep(POLL_S * 2.5)
        assert status_store.looks == []  # nobody watches
        for number in range(1200):
            nursery.start_soon(_watch, watchers, f"m{number % 600}")
        await trio.sleep(POLL_S)
        assert [len(each) for each in status_store.looks] == [500, 100]
        nursery.cancel_scope.cancel()


async def _watch(watchers: Watchers, media_id: str) -> None:
    with watchers.watching(media_id) as notifier:
        await notifier.wait(PENDING)


@pytest.mark.parametrize("trouble", [Unavailable(Dependency.REDIS), RedisRefused("MGET", "NOPERM", "no permission")])
async def test_neither_an_outage_nor_a_refusal_ends_the_looking(autojump_clock: MockClock, trouble: MediaError) -> None:
    status_store = FakeStatusStore()
    status_store.trouble = trouble
    status_store.written["m"] = READY
    watchers = Watchers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watchers.keep_polling, status_store.get_many)
        with watchers.watching("m") as notifier:
            assert await woken_after(notifier, PROCESSING, at_most_s=POLL_S * 3.5) == POLL_S * 3.5
            status_store.trouble = None
            assert await woken_after(notifier, PROCESSING) == POLL_S * 0.5
        nursery.cancel_scope.cancel()


def test_only_a_pending_upload_ends_by_itself() -> None:
    statuses = StatusResolver(cast("JournalReplay", None), cast("ModerationStatus", None), UploadConfig())
    now = datetime(2026, 1, 1, tzinfo=UTC)
    media_id = new_media_id(BY_NAME["jpeg"], int(now.timestamp() * 1000))
    assert statuses.valid_for_s(media_id, PROCESSING, now) == float("inf")
    for age_s, valid_for_s in ((0, 900), (899, 1), (900, 900), (5000, 900)):
        after = now + timedelta(seconds=age_s)
        assert statuses.valid_for_s(media_id, PENDING, after) == pytest.approx(valid_for_s, abs=0.1)
        expired_at = after + timedelta(seconds=statuses.valid_for_s(media_id, PENDING, after))
        assert not statuses.url_lives(media_id, expired_at)
