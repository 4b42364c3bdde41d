"""Redis gone, Redis emptied, replies lost, callers cancelled: no task lost, none left with nobody."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio

from avion_media.backends.queue import DataLoss, Lease, QueueKeys, TaskQueue
from avion_media.backends.queue.entries import UNCONFIRMED
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import LeaseLost, Unavailable
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE
from tests.integration.backends.queue.conftest import Client, blocked, info, infos
from trio_redis.tests.outages import persistently
from trio_redis.tests.servers import Proxy, RedisServer

FIELDS = {"media_id": "01HZX", "type": "thumbnail"}


async def taken(queue: TaskQueue, consumer: str = "a", block_s: float = 5) -> Lease:
    """A lease, through as many empty reads and outages as it takes."""
    with trio.fail_after(20):
        while True:
            lease = await persistently(lambda: queue.take(consumer, block_s))
            if lease is not None:
                return lease


EMPTYINGS: dict[str, Callable[[Client], object]] = {
    "FLUSHALL": lambda other: other.flushall(),
    "DEL": lambda other: other.delete(PROCESSING_QUEUE),
    "XGROUP DESTROY": lambda other: other.xgroup_destroy(PROCESSING_QUEUE, CONSUMER_GROUP),
}


@pytest.mark.parametrize("emptying", EMPTYINGS)
async def test_a_blocked_reader_survives_the_loss_of_its_group(queue: TaskQueue, other: Client, emptying: str) -> None:
    found: list[Lease] = []

    async def read() -> None:
        found.append(await taken(queue, block_s=10))

    await queue.ensure_group()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await blocked(other)
        EMPTYINGS[emptying](other)
        other.xadd(PROCESSING_QUEUE, FIELDS)  # comes while there is no group: a group made at the end would miss it
    assert found[0].task.fields == FIELDS


async def test_a_group_that_is_lost_begins_again_with_all_that_has_not_ended(queue: TaskQueue, other: Client) -> None:
    for number in range(3):
        await queue.enqueue({"media_id": f"m{number}"})
    await (await taken(queue)).complete()
    held = await taken(queue)
    other.xgroup_destroy(PROCESSING_QUEUE, CONSUMER_GROUP)
    again = [(await taken(queue, "b")).task.fields["media_id"] for _ in range(2)]
    assert again == ["m1", "m2"]
    with pytest.raises(LeaseLost):
        await held.complete()


def is_up(redis: Redis) -> bool:
    return redis.available.up


async def test_the_server_dies_and_comes_back(server: RedisServer) -> None:
    async with open_redis(server.url, timeout_s=2.0) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        ids = {await queue.enqueue(FIELDS) for _ in range(3)}
        held = await taken(queue)
        assert is_up(redis)
        server.kill()
        for call in (queue.stats, held.renew, lambda: queue.take("a", 1.0), lambda: queue.enqueue(FIELDS)):
            with trio.fail_after(20), pytest.raises(Unavailable) as caught:
                await call()
            assert caught.value.dependency == "redis"
        assert not is_up(redis)
        server.start()
        await persistently(redis.ping)
        assert is_up(redis)
        await held.complete()
        rest = [await taken(queue) for _ in range(2)]
        assert {held.task.task_id, *(lease.task.task_id for lease in rest)} == ids


async def test_a_blocked_reader_lives_through_a_restart(server: RedisServer) -> None:
    async with open_redis(server.url, timeout_s=2.0) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        found: list[Lease] = []

        async def read() -> None:
            found.append(await taken(queue))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with trio.fail_after(20):
                while (await redis.execute("INFO", "clients")).find(b"blocked_clients:1") < 0:
                    await trio.lowlevel.checkpoint()
            server.kill()
            with pytest.raises(Unavailable):
                await redis.ping()
            server.start()
            task_id = await persistently(lambda: queue.enqueue(FIELDS, dedup_key="k"))
        assert found[0].task.task_id == task_id


async def test_a_server_that_hangs_is_unavailable_in_time_and_nothing_is_lost(server: RedisServer) -> None:
    async with open_redis(server.url, timeout_s=0.3) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await persistently(lambda: queue.enqueue(FIELDS, dedup_key="before"))  # 0.3 s can pass on a busy machine too
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with trio.fail_after(8):
                with pytest.raises(Unavailable):
                    await queue.enqueue(FIELDS, dedup_key="k")  # ambiguous: the server reads it when it wakes up
                with pytest.raises(Unavailable):
                    await queue.take("a", block_s=0.1)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await persistently(lambda: queue.enqueue(FIELDS, dedup_key="k"))
        assert (await persistently(queue.stats)).depth == 2


async def test_a_lost_reply_to_enqueue_makes_no_second_task(proxy: Proxy, other: Client) -> None:
    async with open_redis(proxy.url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "warm"})  # the script is known, the connection is open
        proxy.lose_reply_to = b"EVALSHA"
        with pytest.raises(Unavailable):
            await queue.enqueue(FIELDS, task_id="first", dedup_key="k")
        proxy.lose_reply_to = None
        assert proxy.lost == 1
        repeated = await persistently(lambda: queue.enqueue(FIELDS, task_id="second", dedup_key="k"))
        assert repeated == "first"
    assert [fields["task_id"] for _, fields in other.xrange(PROCESSING_QUEUE)][1:] == ["first"]


@pytest.mark.parametrize("ending", ["complete", "retry", "dead_letter", "release"])
async def test_a_lost_reply_to_an_ending_can_be_repeated(proxy: Proxy, other: Client, ending: str) -> None:
    endings: dict[str, Callable[[Lease], Awaitable[None]]] = {
        "complete": lambda lease: lease.complete(),
        "retry": lambda lease: lease.retry(30.0, "failed"),
        "dead_letter": lambda lease: lease.dead_letter("failed"),
        "release": lambda lease: lease.release(),
    }
    async with open_redis(proxy.url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        for _ in range(2):
            await queue.enqueue(FIELDS)
        await endings[ending](await taken(queue))
        lease = await taken(queue)
        proxy.lose_reply_to = b"EVALSHA"
        with pytest.raises(Unavailable):
            await endings[ending](lease)
        proxy.lose_reply_to = None
        with pytest.raises(LeaseLost):
            await persistently(lambda: endings[ending](lease))
    keys = QueueKeys(PROCESSING_QUEUE)
    ended = other.zcard(keys.delayed) + other.xlen(keys.dead_letters) + other.xlen(PROCESSING_QUEUE)
    assert ended == {"complete": 0, "retry": 2, "dead_letter": 2, "release": 2}[ending]


@pytest.mark.parametrize("command", [b"EVALSHA", b"XREADGROUP"])
async def test_a_task_whose_delivery_was_lost_is_found_again(proxy: Proxy, other: Client, command: bytes) -> None:
    async with open_redis(proxy.url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        assert await queue.take("a", block_s=0.01) is None  # scripts are known, both connections are open
        proxy.lose_reply_to = command
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_until_unavailable, queue)
            if command == b"XREADGROUP":
                await blocked(other)
            other.xadd(PROCESSING_QUEUE, FIELDS)
        proxy.lose_reply_to = None
        with trio.fail_after(20):
            while other.xpending(PROCESSING_QUEUE, CONSUMER_GROUP)["pending"] == 0:
                await trio.lowlevel.checkpoint()
        (row,) = other.xpending_range(PROCESSING_QUEUE, CONSUMER_GROUP, "-", "+", 10)
        owner = {b"EVALSHA": "a", b"XREADGROUP": UNCONFIRMED}[command]
        assert row["consumer"] == owner
        other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, owner, 0, [row["message_id"]], idle=2000, justid=True)
        lease = await persistently(lambda: queue.take("a", block_s=0))
        assert lease is not None
        assert (lease.attempt, lease.deaths) == (1, 0)


async def test_a_task_that_was_lost_with_the_end_of_another_is_found_again(proxy: Proxy, other: Client) -> None:
    async with open_redis(proxy.url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue(FIELDS)
        await queue.enqueue(FIELDS)
        lost = await queue.enqueue(FIELDS)
        first = await queue.take("a", block_s=0)
        assert first is not None
        lease = await queue.exchange(first, "a")  # the server knows the script now
        assert lease is not None
        proxy.lose_reply_to = b"EVALSHA"
        with pytest.raises(Unavailable):
            await queue.exchange(lease, "a")
        proxy.lose_reply_to = None
        with pytest.raises(LeaseLost):
            await persistently(lambda: queue.exchange(lease, "a"))  # it was done
        (row,) = other.xpending_range(PROCESSING_QUEUE, CONSUMER_GROUP, "-", "+", 10)
        other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, "a", 0, [row["message_id"]], idle=2000, justid=True)
        found = await persistently(lambda: queue.take("a", block_s=0))
        assert found is not None
        assert (found.task.task_id, found.attempt, found.deaths) == (lost, 1, 0)


async def read_until_unavailable(queue: TaskQueue) -> None:
    with suppress(Unavailable):
        while True:
            assert await queue.take("a", block_s=5) is None


async def test_a_cancelled_reader_leaves_nothing_behind(queue: TaskQueue, other: Client) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.take, "a", 30)
        await blocked(other)
        nursery.cancel_scope.cancel()
    await blocked(other, readers=0)
    other.xadd(PROCESSING_QUEUE, FIELDS)
    assert other.xpending(PROCESSING_QUEUE, CONSUMER_GROUP)["pending"] == 0


async def test_an_entry_that_crosses_the_cancel_on_the_wire_is_released(queue: TaskQueue, other: Client) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.take, "a", 30)
        await blocked(other)
        other.xadd(PROCESSING_QUEUE, FIELDS)  # given to the reader, whose task has not run since
        nursery.cancel_scope.cancel()
    lease = await queue.take("b", 0)
    assert lease is not None
    assert (lease.task.fields, lease.attempt, lease.deaths) == (FIELDS, 1, 0)


async def test_whatever_the_moment_of_a_cancel_no_task_is_left_with_nobody(queue: TaskQueue, other: Client) -> None:
    returned: list[Lease] = []

    async def read() -> None:
        lease = await queue.take("a", 0)
        if lease is not None:
            returned.append(lease)

    for moment in range(60):
        await queue.enqueue(FIELDS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        if not returned:  # then the next reader gets it
            returned.append(await taken(queue, "b", block_s=0.01))
        (lease,) = returned
        assert lease.attempt == 1
        await lease.complete()
        returned.clear()


async def test_cancels_under_contention_lose_no_connection(redis: Redis, queue: TaskQueue, other: Client) -> None:
    """Hundreds of calls and blocked readers, most of them cancelled midway: all capacity is there afterwards."""
    dice = random.Random(11)
    nodes = len(infos(other, "clients", "connected_clients"))

    def connected() -> int:
        return info(other, "clients", "connected_clients")

    others = connected()  # earlier tests may have left some to this server

    async def call() -> None:
        with trio.move_on_after(dice.random() * 0.02):
            await redis.execute("ECHO", "x" * dice.randrange(2000))

    async def read(number: int) -> None:
        with trio.move_on_after(dice.random() * 0.1):
            await queue.take(f"c{number}", block_s=0.05)

    with trio.fail_after(30):
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(call)
                    if number % 4 == 0:
                        nursery.start_soon(read, number)
        replies: list[bytes] = []

        async def echo(number: int) -> None:
            replies.append(await redis.execute("ECHO", str(number)))

        async with trio.open_nursery() as nursery:
            for number in range(2000):
                nursery.start_soon(echo, number)
        assert sorted(map(int, replies)) == list(range(2000))  # and no answer went to another call
        async with trio.open_nursery() as nursery:
            for number in range(22):  # all the blocking connections that there are
                nursery.start_soon(queue.take, f"d{number}", 20)
            await blocked(other, readers=22)
            nursery.cancel_scope.cancel()
        await blocked(other, readers=0)
        # 22 for blocking reads, and for each node the shared one and at most one of a subscription. A server forgets a
        # closed connection when it comes round to it.
        while connected() > others + 22 + 2 * nodes:  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.parametrize("emptying", EMPTYINGS)
async def test_the_loss_of_the_group_is_noted_until_it_is_dealt_with(
    queue: TaskQueue, other: Client, emptying: str
) -> None:
    await queue.ensure_group()
    assert await queue.take("a", 0) is None
    assert await queue.detect_data_loss() is None
    EMPTYINGS[emptying](other)
    await (queue.take("a", 0) if emptying == "DEL" else queue.reclaim("a", 60))
    first = await queue.detect_data_loss()
    assert first is not None
    EMPTYINGS[emptying](other)
    assert await queue.take("a", 0) is None
    second = await queue.detect_data_loss()
    assert second is not None
    await queue.clear_data_loss(DataLoss(first.at - 1, b"another"))
    assert await queue.detect_data_loss() == second
    await queue.clear_data_loss(second)
    assert await queue.detect_data_loss() is None


async def test_a_queue_whose_server_was_started_anew_may_have_lost_its_last_tasks(server: RedisServer) -> None:
    """Its stream and its group are there again; nobody can tell what was not on disk yet."""
    async with open_redis(server.url, timeout_s=2) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.ensure_group()
        assert await queue.detect_data_loss() is None
        server.kill()
        server.start()
        unremembered = await persistently(lambda: queue.detect_data_loss(remember=False))
        assert unremembered is not None
        noted = await queue.detect_data_loss()
        assert noted is not None
        assert noted.at >= unremembered.at
        assert await queue.detect_data_loss() == noted
        await queue.clear_data_loss(noted)
        assert await queue.detect_data_loss() is None


async def test_a_task_that_is_known_to_be_lost_does_not_stand_in_for_another(queue: TaskQueue, other: Client) -> None:
    lost = await queue.enqueue(FIELDS, dedup_key="k")
    other.delete(PROCESSING_QUEUE)
    other.pexpire(QueueKeys(PROCESSING_QUEUE).dedup_marker("k"), 30 * 86_400_000 - 5000)  # that was five seconds ago
    assert await queue.enqueue(FIELDS, dedup_key="k", lost_if_older_s=60) == lost
    assert other.xlen(PROCESSING_QUEUE) == 0
    found = await queue.enqueue(FIELDS, dedup_key="k", lost_if_older_s=1)
    assert found != lost
    assert await queue.enqueue(FIELDS, dedup_key="k", lost_if_older_s=1) == found
    assert other.xlen(PROCESSING_QUEUE) == 1
