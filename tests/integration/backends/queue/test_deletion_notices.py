"""drop_deleted: the stream has no gap, the channel's gap is measured, and no event is fatal."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import NOTICES_GROUP, DeletionRecords, Notice, NoticeChannel, NoticeStream
from avion_media.items.deletion.channel import BACKLOG, write_heard
from avion_media.items.deletion.notices import HEARD
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
    assert await stream.remove_idle_consumers(idle_s=0) == 2
    assert [other.xinfo_consumers(each, NOTICES_GROUP) for each in (DROP_DELETED, HEARD)] == [[], []]


class Listener:
    """A replica that listens on the channel; what it reports."""

    def __init__(self, redis: Redis) -> None:
        self.channel = NoticeChannel(redis)
        self.gaps: list[float] = []
        self.lost = 0
        self.reported = trio.Event()

    def gap(self, seconds: float) -> None:
        self.gaps.append(seconds)
        self.reported.set()

    def lose(self) -> None:
        self.lost += 1

    async def listen(self) -> None:
        await self.channel.listen(gap=self.gap, lost=self.lose)


async def publish(other: Client, text: str) -> None:
    """As soon as somebody listens. Listeners of one process share a subscription."""
    with trio.fail_after(10):
        while not info(other, "clients", "pubsub_clients"):
            await trio.lowlevel.checkpoint()
    other.publish(DROP_DELETED, text)


async def heard(other: Client, count: int) -> list[dict[str, str]]:
    """Return the entries of the stream of the channel's notices, as soon as there are so many."""
    with trio.fail_after(10):
        while other.xlen(HEARD) < count:
            await trio.lowlevel.checkpoint()
    return [fields for _, fields in other.xrange(HEARD)]


async def test_notices_of_the_channel_know_the_last_undelete_before_them(
    redis: Redis, stream: NoticeStream, other: Client, media_id: str
) -> None:
    listener = Listener(redis)
    await stream.ensure_group()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen)
        nursery.start_soon(listener.channel.write)
        await publish(other, "nonsense")
        issued = await DeletionRecords(redis).issue_undelete()
        await publish(other, event(media_id))
        await heard(other, 2)
        nursery.cancel_scope.cancel()
    malformed, notice = await stream.take("a", block_s=0.01)
    assert (malformed.media_ids, bool(malformed.problem)) == ((), True)
    assert (notice.media_ids, notice.position) == ((media_id,), "")
    assert malformed.lower_bound_ms is not None
    assert malformed.lower_bound_ms < issued.at_ms
    assert notice.lower_bound_ms == issued.at_ms
    assert listener.gaps == []
    await stream.done(malformed, notice)
    assert other.xlen(HEARD) == 0
    assert other.xpending(HEARD, NOTICES_GROUP)["pending"] == 0


async def until_all_hear(other: Client, listeners: list[Listener]) -> None:
    """Wait until all of them receive messages. Leave none behind."""

    def received() -> list[int]:
        return [each.channel._received.statistics().current_buffer_used for each in listeners]

    published = 0
    with trio.fail_after(10):
        while not all(received()):
            await publish(other, "a probe")
            published += 1
            await trio.lowlevel.checkpoint()
        while max(received()) < published:
            await trio.lowlevel.checkpoint()
    for each in listeners:
        for _ in range(each.channel._received.statistics().current_buffer_used):
            each.channel._received.receive_nowait()


async def test_a_notice_that_several_replicas_hear_is_written_once_and_again_after_an_undelete(
    redis: Redis, other: Client, media_id: str
) -> None:
    """The second undelete comes while one of them has not written what it heard before."""
    listeners = [Listener(redis) for _ in range(3)]
    records = DeletionRecords(redis)
    async with trio.open_nursery() as nursery:
        for each in listeners:
            nursery.start_soon(each.listen)
        await until_all_hear(other, listeners)
        # Before it, each knows as a bound only when itself began.
        bounds = [str((await records.issue_undelete()).at_ms)]
        for each in listeners[:2]:
            nursery.start_soon(each.channel.write)
        for _ in range(3):
            await publish(other, event(media_id))
            await publish(other, event(media_id))
            written = await heard(other, len(bounds))
            assert written[-1]["lower_bound"] >= bounds[-1]
            bounds.append(str((await records.issue_undelete()).at_ms))
        nursery.start_soon(listeners[2].channel.write)
        await publish(other, "last")
        await heard(other, 4)
        with trio.fail_after(10):
            while any(each.channel._received.statistics().current_buffer_used for each in listeners):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await redis.ping()  # what was sent before is done
    entries = [fields for _, fields in other.xrange(HEARD)]
    assert [json.loads(each["event"])["media_ids"] for each in entries[:3]] == [[media_id]] * 3
    assert [each["lower_bound"] for each in entries] == bounds
    assert entries[3]["event"] == "last"
    assert len(entries) == 4


async def test_messages_with_the_same_lower_bound_are_one_notice(
    redis: Redis, stream: NoticeStream, other: Client
) -> None:
    media_ids = [new_media_id(JPEG, 1_700_000_000_000 + number).text for number in range(4)]
    await stream.ensure_group()
    first, second = (event(*media_ids[:2]).encode(), 5), (event(*media_ids[1:3]).encode(), 5)
    await write_heard(redis, [first, (b"nonsense", 5), second, (event(media_ids[3]).encode(), 6), first])
    found = await stream.take("a", block_s=0.01)
    assert [(each.media_ids, each.lower_bound_ms, len(each.heard_ids)) for each in found] == [
        (tuple(media_ids[:3]), 5, 2),
        ((), 5, 1),
        ((media_ids[3],), 6, 1),
    ]
    await stream.done(*found)
    assert other.xlen(HEARD) == 0


async def test_an_entry_that_this_version_cannot_read_is_skipped(stream: NoticeStream, other: Client) -> None:
    await stream.ensure_group()
    other.xadd(HEARD, {"event": "{}", "lower_bound": "soon"})
    (notice,) = await stream.take("a", block_s=0.01)
    assert (notice.media_ids, bool(notice.problem)) == ((), True)
    await stream.done(notice)
    assert other.xlen(HEARD) == 0


async def test_messages_beyond_the_backlog_are_counted(redis: Redis, other: Client, media_id: str) -> None:
    listener = Listener(redis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen)
        await publish(other, event(media_id))
        for _ in range(BACKLOG + 99):
            other.publish(DROP_DELETED, event(media_id))
        with trio.fail_after(20):
            while listener.lost < 100:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert listener.lost == 100


async def test_a_gap_in_the_subscription_is_measured(server: RedisServer) -> None:
    async with open_redis(server.url, timeout_s=2) as redis, trio.open_nursery() as nursery:
        listener = Listener(redis)
        nursery.start_soon(listener.listen)
        with trio.fail_after(10):
            while not await redis.execute("PUBLISH", DROP_DELETED, "x"):
                await trio.lowlevel.checkpoint()
            server.kill()
            server.start()
            while not listener.gaps:
                await listener.reported.wait()
                listener.reported = trio.Event()
        nursery.cancel_scope.cancel()
    assert len(listener.gaps) == 1
    assert 0 < listener.gaps[0] < 10
