"""An application has its own errors raised, and learns of outages by a callback."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from trio_redis import (
    Availability,
    Errors,
    Lock,
    LockLost,
    Redis,
    RedisFull,
    RedisRefused,
    RedisUnavailable,
    open_redis,
)

from .fixtures import Client, Memory
from .outages import persistently
from .servers import RedisServer, free_port


class AppError(Exception):
    """Of an application."""


class AppUnavailable(RedisUnavailable, AppError):
    """With an argument that the library does not know."""

    def __init__(self, detail: str, retry_after_s: float = 1.0, *, setting: str = "") -> None:
        super().__init__(detail, retry_after_s)
        self.setting = setting


class AppFull(RedisFull, AppUnavailable):
    """Also unavailable."""


class AppLockLost(LockLost, AppUnavailable):
    """Also unavailable."""


class AppRefused(RedisRefused, AppError):
    """Not an outage."""


ERRORS = Errors(partial(AppUnavailable, setting="REDIS_URL"), AppFull, AppLockLost, AppRefused)


async def lose(lock: Lock, other: Client) -> None:
    assert await lock.acquire()
    async with lock.held():
        other.set("lock", "another")
        await trio.sleep_forever()


async def test_the_errors_are_those_of_the_application(redis_url: str, other: Client, memory: Memory) -> None:
    async with open_redis(redis_url, errors=ERRORS) as redis:
        with pytest.raises(AppRefused) as refused:
            await redis.execute("NONSENSE")
        assert refused.value.code == "ERR"
        with trio.fail_after(10), pytest.raises(AppLockLost, match="another process holds lock"):
            await lose(Lock(redis, "lock", ttl_s=0.3), other)
        memory.fill()
        with pytest.raises(AppFull) as full:
            await redis.execute("SET", "k", "v")
        assert (full.value.retry_after_s, full.value.setting) == (10.0, "")
    with pytest.raises(AppUnavailable) as closed:
        await redis.ping()
    assert (str(closed.value), closed.value.setting) == ("Redis is not available: closed", "REDIS_URL")


async def test_each_failure_and_each_end_of_an_outage_is_reported(server: RedisServer) -> None:
    seen: list[Availability] = []
    async with open_redis(server.url, timeout_s=2.0, label="second: ", on_availability=seen.append) as redis:
        await redis.ping()
        assert [each.up for each in seen] == [True]
        await redis.ping()
        assert len(seen) == 1
        server.kill()
        for _ in range(2):
            with pytest.raises(RedisUnavailable):
                await redis.ping()
        assert [each.up for each in seen[:3]] == [True, False, False]
        assert seen[1].detail.startswith("second: ")
        assert seen[-1] == redis.available
        server.start()
        await persistently(redis.ping)
        assert seen[-1].up
        assert seen[-1] == redis.available
        before = len(seen)
    assert len(seen) == before  # it was closed: that is not an outage
    assert not redis.available.up


async def test_it_can_be_opened_again_but_not_twice_at_once() -> None:
    redis = Redis(f"redis://127.0.0.1:{free_port()}")
    for _ in range(2):
        async with redis.opened():
            with pytest.raises(RedisUnavailable):
                await redis.ping()
            with pytest.raises(RuntimeError, match="opened already"):
                async with redis.opened():
                    pass
