"""The adapter closed and opened again, as when its supervised child is restarted: a short outage to its users."""

from __future__ import annotations

import pytest
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import PROCESSING_QUEUE, State, Status
from avion_media.items.state import StatusStore
from avion_media.items.state.status_store import status_channel, status_channels

FIELDS = {"media_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "type": "thumbnail"}


async def test_a_lease_in_hand_survives(redis_url: str) -> None:
    redis = Redis(redis_url)
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    async with redis.opened():
        await queue.enqueue(FIELDS)
        lease = await queue.take("a", block_s=1)
    assert lease is not None
    with pytest.raises(Unavailable):
        await lease.renew()
    assert not redis.available.up
    async with redis.opened():
        assert await queue.reclaim("a", idle_s=0) == 0  # it knows that it is still being worked on
        await lease.complete()
        assert (await queue.stats()).depth == 0


async def test_who_waits_in_a_blocking_read_hears_of_the_close(redis_url: str) -> None:
    redis = Redis(redis_url)
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            heard = trio.Event()

            async def read() -> None:
                with pytest.raises(Unavailable):
                    await queue.take("a", block_s=60)
                heard.set()

            async with redis.opened():
                await queue.enqueue(FIELDS)
                first = await queue.take("a", block_s=1)
                assert first is not None
                nursery.start_soon(read)
                while not await _somebody_blocks(redis):
                    await trio.lowlevel.checkpoint()
            await heard.wait()
        async with redis.opened():
            await first.complete()


async def _somebody_blocks(redis: Redis) -> bool:
    info: bytes = await redis.execute("INFO", "clients")
    return b"blocked_clients:0" not in info


async def test_a_listener_hears_again_and_is_told_to_look(redis_url: str) -> None:
    redis = Redis(redis_url)
    status_store = StatusStore(redis)
    told: list[str] = []
    news = trio.Event()

    def note(what: str) -> None:
        nonlocal news
        told.append(what)
        news.set()
        news = trio.Event()

    channels = status_channels(note)
    channels.add(status_channel("medium"))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(redis.keep_listening, channels)
            for round_number in (1, 3):
                async with redis.opened():
                    while len(told) < round_number:  # it may have changed before the subscription began
                        await news.wait()
                    await status_store.put(Status("medium", State.PROCESSING), ttl_s=60)
                    while len(told) < round_number + 1:
                        await news.wait()
            nursery.cancel_scope.cancel()


async def test_it_is_not_opened_twice_at_once(redis_url: str) -> None:
    redis = Redis(redis_url)
    async with redis.opened():
        with pytest.raises(RuntimeError):
            async with redis.opened():
                pass
        await redis.ping()
