"""A server at its `maxmemory`: new work is refused, what must run does, and the server counts as available."""

from __future__ import annotations

import pytest

from trio_redis import Lock, Redis, RedisFull, Script

from .fixtures import Memory

SETTING = "return redis.call('SET', KEYS[1], 'v')"


async def test_new_work_is_refused_and_changes_nothing(redis: Redis, memory: Memory) -> None:
    memory.fill()
    with pytest.raises(RedisFull, match="it is full") as caught:
        await redis.execute("SET", "k", "v")
    assert caught.value.retry_after_s == 10
    with pytest.raises(RedisFull):
        await redis.run(Script("set", f"#!lua\n{SETTING}"), ("k",))
    assert redis.available.up
    assert await redis.execute("GET", "k") is None


async def test_what_accepted_work_needs_is_done(redis: Redis, memory: Memory) -> None:
    memory.fill()
    assert await redis.execute("SET", "k", "v", when_full=True) == b"OK"
    assert await redis.run(Script("set", f"#!lua flags=allow-oom\n{SETTING}"), ("k",)) == b"OK"
    lock = Lock(redis, "lock", ttl_s=60)
    assert await lock.acquire()
    assert await lock.acquire()
    assert not await Lock(redis, "lock", ttl_s=60).acquire()
    await lock.release()
    assert await redis.execute("GET", "lock") is None


async def test_the_fullest_server_counts(redis: Redis, memory: Memory) -> None:
    assert await redis.memory_use() == 0.0
    memory.limit(1 << 40)
    assert 0 < await redis.memory_use() < 0.01
    memory.fill()
    assert await redis.memory_use() > 1
