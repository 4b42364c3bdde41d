"""A lock has one holder, stays with it while it lives, and is free soon after its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from trio_redis import Lock, LockLost, Redis, RedisUnavailable, Seats, open_redis

from .fixtures import Client
from .servers import RedisServer

KEY = "locked"


def lock(redis: Redis, ttl_s: float = 30.0) -> Lock:
    return Lock(redis, KEY, ttl_s=ttl_s)


async def hold(mine: Lock, body: Callable[[], Awaitable[None]]) -> None:
    assert await mine.acquire()
    async with mine.held():
        await body()


async def test_one_task_holds_it_until_the_end_of_its_body(redis: Redis, other: Client) -> None:
    one, two = lock(redis), lock(redis)
    assert await one.acquire()
    assert await one.acquire()
    assert not await two.acquire()
    async with two.held():  # which it does not hold
        pass
    assert not await two.acquire()
    async with one.held():
        assert not await two.acquire()
    assert await two.acquire()
    assert other.pttl(KEY) > 25_000


@pytest.mark.parametrize("error", [ValueError(), RedisUnavailable("x")])
async def test_the_error_of_a_body_releases_it_and_is_raised_as_it_is(redis: Redis, error: BaseException) -> None:
    async def body() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await hold(lock(redis), body)
    assert caught.value is error
    assert await lock(redis).acquire()


async def test_a_cancelled_body_releases_it(redis: Redis) -> None:
    one = lock(redis)
    assert await one.acquire()
    with trio.CancelScope() as scope:
        async with one.held():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await lock(redis).acquire()


async def test_those_that_wait_get_it_in_turn(redis: Redis) -> None:
    holders = most = 0

    async def work() -> None:
        nonlocal holders, most
        mine = lock(redis)
        await mine.wait()
        async with mine.held():
            holders += 1
            most = max(most, holders)
            await redis.ping()
            holders -= 1

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(work)
    assert most == 1


async def test_it_is_renewed_for_as_long_as_the_body_runs(redis: Redis, other: Client) -> None:
    async def body() -> None:
        for _ in range(3):
            before = other.pttl(KEY)
            while other.pttl(KEY) <= before:
                await trio.lowlevel.checkpoint()
                before = min(before, other.pttl(KEY))
        other.delete(KEY)  # Redis has lost it
        while not other.exists(KEY):
            await trio.lowlevel.checkpoint()
        assert not await lock(redis).acquire()

    with trio.fail_after(20):
        await hold(lock(redis, 0.6), body)


async def test_a_body_whose_lock_is_taken_is_cancelled(redis: Redis, other: Client) -> None:
    async def body() -> None:
        other.set(KEY, "another")
        await trio.sleep_forever()

    with trio.fail_after(10), pytest.raises(LockLost, match="another process holds locked"):
        await hold(lock(redis, 0.3), body)
    assert other.get(KEY) == "another"


@pytest.mark.parametrize("error", [ValueError(), RedisUnavailable("x")])
async def test_a_body_that_fails_when_its_lock_is_taken_raises_its_own_error(
    redis: Redis, other: Client, error: Exception
) -> None:
    async def body() -> None:
        other.set(KEY, "another")
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with trio.fail_after(10), pytest.raises(type(error)) as caught:
        await hold(lock(redis, 0.3), body)
    assert caught.value is error


async def test_a_body_that_fails_when_it_is_cancelled_raises_its_own_error(redis: Redis) -> None:
    error = RedisUnavailable("x")

    async def body() -> None:
        scope.cancel()
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with trio.CancelScope() as scope, pytest.raises(RedisUnavailable) as caught:
        await hold(lock(redis), body)
    assert caught.value is error
    assert await lock(redis).acquire()


async def test_a_body_whose_lock_cannot_be_renewed_ends_when_others_may_have_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        began = trio.current_time()

        async def body() -> None:
            server.kill()
            await trio.sleep_forever()

        async with open_redis(server.url) as redis:
            with trio.fail_after(20), pytest.raises(LockLost, match="could not be renewed in time"):
                await hold(lock(redis, 1.0), body)
        assert trio.current_time() - began >= 1.0
    finally:
        server.kill()


async def test_so_many_processes_have_a_seat(redis: Redis) -> None:
    seats = Seats(redis, "{s}:seat", 2, ttl_s=30.0)
    first, second = await seats.find(), await seats.find()
    assert first is not None
    assert second is not None
    async with second.held():
        async with first.held():
            assert await seats.find() is None
        assert await seats.find() is not None
        assert await seats.find() is None


async def test_the_next_one_waits_until_a_seat_is_empty(redis: Redis) -> None:
    await redis.execute("MSET", "{s}:seat:0", "another process", "{s}:seat:1", "another process")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with trio.fail_after(20):
                await Seats(redis, "{s}:seat", 2, ttl_s=0.2).wait()
            assert await redis.execute("GET", "{s}:seat:0") == b"another process"

        await trio.testing.wait_all_tasks_blocked()
        await redis.execute("DEL", "{s}:seat:1")


async def test_a_seat_is_found_after_an_outage(server: RedisServer) -> None:
    async with open_redis(server.url, timeout_s=2) as redis, trio.open_nursery() as nursery:
        await redis.ping()
        server.kill()
        with pytest.raises(RedisUnavailable):
            await redis.ping()
        found = trio.Event()

        async def find() -> None:
            assert await Seats(redis, "{s}:seat", 1, ttl_s=30.0).find() is not None
            found.set()

        nursery.start_soon(find)
        server.start()
        with trio.fail_after(20):
            await found.wait()
