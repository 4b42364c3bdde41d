"""How far the listeners of ``drop_deleted`` are behind."""

from __future__ import annotations

import time

import pytest

from avion_media.backends.redis import Redis
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import NoticeStream
from avion_media.items.deletion.notices import notice_backlog
from tests.integration.backends.queue.conftest import Client

EVENT = {"event": '{"media_ids": ["01ARZ3NDEKTSV4RRFFQ69G5FAV"]}'}


async def test_notices_that_nobody_has_handled_are_counted_and_have_an_age(redis: Redis, other: Client) -> None:
    assert (await notice_backlog(redis)).depth == 0
    stream = NoticeStream(redis)
    await stream.ensure_group()
    old_ms = int(time.time() * 1000) - 90_000
    for number in range(5):
        other.xadd(DROP_DELETED, EVENT, id=f"{old_ms + number * 1000}-0")
    first, second = await stream.take("c", block_s=0.1, count=2)
    stats = await notice_backlog(redis)
    assert (stats.depth, stats.lag, stats.pending) == (5, 3, 2)
    assert stats.oldest_age_s == pytest.approx(90, abs=20)
    await stream.done(first, second)
    other.xdel(DROP_DELETED, f"{old_ms + 3000}-0")  # Redis does not know the lag after this
    stats = await notice_backlog(redis)
    assert (stats.depth, stats.lag, stats.pending) == (2, 2, 0)
    assert stats.oldest_age_s == pytest.approx(88, abs=20)
