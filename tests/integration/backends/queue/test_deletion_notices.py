"""drop_deleted: the stream has no gap, the channel's gap is measured, and no event is fatal."""

from __future__ import annotations

import json

import pytest
import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import NOTICES_GROUP, DeletionRecords, Notice, NoticeChannel, NoticeStream
from tests.integration.backends.queue.conftest import Client, info
from tests.services import RedisServer

REMOTE = "ab" * 32


def event(*media_ids: str) -> str:
    return json.dumps({"media_ids": list(media_ids)})


@pytest.fixture
def stream(redis: Redis) -> NoticeStream:
    return NoticeStream(redis)


@pytest.fixture
def media_id() -> str:
    return new_media_id(JPEG, 1_700_000_000_000).text


async def test_what_was_written_before_we_came_is_read(stream: NoticeStream, other: Client, media_id: str) -> None:
    other.xadd(DROP_DELETED, {"event": event(media_id, REMOTE)})
    assert await stream.ensure_group()
    assert not await stream.ensure_group()
    (notice,) = await stream.take("a", block_s=0.01)
    assert (notice.media_ids, notice.problem) == ((media_id, REMOTE), "")
    await stream.done(notice)
    assert other.xpending(DROP_DELETED, NOTICES_GROUP)["pending"] == 0
    assert other.xlen(DROP_DELETED) == 1  # the producer's stream is not ours to trim


async def test_a_reader_waits_for_events_and_for_the_stream(stream: NoticeStream, other: Client, media_id: str) -> None:
    found: list[Notice] = []

    async def read() -> None:
        with trio.fail_after(10):
            while not found:
                found.extend(await stream.take("a", block_s=5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.fail_after(20):
            while info(other, "clients", "blocked_clients") == 0:
                await trio.lowlevel.checkpoint()
        other.flushall()
        other.xadd(DROP_DELETED, {"event": event(media_id)})
    assert found[0].media_ids == (media_id,)


async def test_what_a_dead_reader_left_is_read_again(redis: Redis, other: Client, media_id: str) -> None:
    other.xadd(DROP_DELETED, {"event": event(media_id)})
    await NoticeStream(redis).ensure_group()
    (left,) = await NoticeStream(redis).take("dead", block_s=0.01)
    assert await NoticeStream(redis).take("b", block_s=0.01) == []
    assert await NoticeStream(redis, claim_after_s=0).take("b", block_s=0.01) == [left]


async def test_events_that_cannot_be_read_say_why_and_can_be_done(
    stream: NoticeStream, other: Client, media_id: str
) -> None:
    other.xadd(DROP_DELETED, {"Event": "x"})
    other.xadd(DROP_DELETED, {"event": b"\xff{"})
    other.xadd(DROP_DELETED, {"event": event("nonsense", media_id)})
    await stream.ensure_group()
    notices = await stream.take("a", block_s=0.01)
    assert [(notice.media_ids, bool(notice.problem)) for notice in notices] == [
        ((), True),
        ((), True),
        ((media_id,), True),
    ]
    await stream.done(*notices)
    await stream.done()
    assert other.xpending(DROP_DELETED, NOTICES_GROUP)["pending"] == 0


async def test_readers_that_are_gone_are_forgotten(stream: NoticeStream, other: Client) -> None:
    await stream.ensure_group()
    await stream.take("gone", block_s=0.01)
    assert await stream.remove_idle_consumers(idle_s=0) == 1
    assert other.xinfo_consumers(DROP_DELETED, NOTICES_GROUP) == []


class Post:
    """Plays the handler of `NoticeChannel.listen`."""

    def __init__(self) -> None:
        self.handled: list[Notice] = []
        self.gaps: list[float] = []
        self.lost = 0
        self.arrived = trio.Event()

    async def handle(self, notice: Notice) -> None:
        self.handled.append(notice)
        self.arrived.set()

    def gap(self, seconds: float) -> None:
        self.gaps.append(seconds)
        self.arrived.set()

    def lose(self) -> None:
        self.lost += 1

    async def listen(self, redis: Redis) -> None:
        await NoticeChannel(redis).listen(self.handle, gap=self.gap, lost=self.lose)


async def publish(other: Client, text: str) -> None:
    """As soon as somebody listens."""
    with trio.fail_after(10):
        while not info(other, "clients", "pubsub_clients"):
            await trio.lowlevel.checkpoint()
    other.publish(DROP_DELETED, text)


async def test_notices_of_the_channel_know_the_last_undelete_before_them(
    redis: Redis, other: Client, media_id: str
) -> None:
    post = Post()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(post.listen, redis)
        await publish(other, "nonsense")
        issued = await DeletionRecords(redis).issue_undelete()
        await publish(other, event(media_id))
        with trio.fail_after(10):
            while len(post.handled) < 2:
                await post.arrived.wait()
                post.arrived = trio.Event()
        nursery.cancel_scope.cancel()
    assert [notice.media_ids for notice in post.handled] == [(), (media_id,)]
    before, after = (notice.lower_bound_ms for notice in post.handled)
    assert before is not None
    assert before < issued.at_ms
    assert after == issued.at_ms
    assert post.gaps == []


async def test_events_beyond_the_backlog_are_counted(redis: Redis, other: Client, media_id: str) -> None:
    post = Post()
    stuck = trio.Event()

    async def never(_drop: Notice) -> None:
        stuck.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: NoticeChannel(redis).listen(never, gap=post.gap, lost=post.lose))
        await publish(other, event(media_id))
        with trio.fail_after(20):
            await stuck.wait()
        for _ in range(300):
            other.publish(DROP_DELETED, event(media_id))
        with trio.fail_after(20):
            while post.lost < 300 - 256:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert post.lost == 300 - 256


async def test_a_gap_in_the_subscription_is_measured(server: RedisServer) -> None:
    post = Post()
    async with open_redis(server.url, timeout_s=2) as redis, trio.open_nursery() as nursery:
        nursery.start_soon(post.listen, redis)
        with trio.fail_after(10):
            while not await redis.execute("PUBLISH", DROP_DELETED, "x"):
                await trio.lowlevel.checkpoint()
            server.kill()
            server.start()
            while not post.gaps:
                await post.arrived.wait()
                post.arrived = trio.Event()
        nursery.cancel_scope.cancel()
    assert len(post.gaps) == 1
    assert 0 < post.gaps[0] < 10
