"""Which server is the master, by its Sentinels: after a failover, before they agree, and where a URL leads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from trio_redis import RedisUnavailable, open_redis

from .outages import persistently
from .servers import MASTER, RedisServer, Sentinel, Watched, watched_redis


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watched_redis() as started:
        yield started


async def test_nobody_writes_to_a_master_that_comes_back(watched: Watched) -> None:
    """It takes itself for the master until the Sentinels get round to it."""
    async with open_redis(watched.url, timeout_s=2.0) as redis:
        await redis.execute("SET", "k", "before")
        watched.master.ask("WAIT", 1, 5000)
        watched.master.kill()
        await persistently(lambda: redis.execute("SET", "k", "after"))
        watched.master.start()
        async with open_redis(watched.url, timeout_s=2.0) as another:
            await persistently(lambda: another.execute("SET", "k", "later"))
        assert await redis.execute("GET", "k") == b"later"
    assert watched.replica.ask("GET", "k") == "later"


@pytest.mark.parametrize("first", [0, 1])
async def test_the_sentinel_that_knows_the_latest_failover_is_believed(tmp_path: Path, first: int) -> None:
    """The others have not heard of it yet, and a former master that came back takes itself for the master."""
    folders = [tmp_path / name for name in ("former", "present", "late", "informed")]
    for folder in folders:
        folder.mkdir()
    former, present = RedisServer(folders[0]), RedisServer(folders[1])
    # They never meet: each watches another server.
    sentinels = [Sentinel(folders[2], former, 1), Sentinel(folders[3], present, 1, epoch=7)]
    with ExitStack() as stack:
        servers: tuple[RedisServer | Sentinel, ...] = (former, present, *sentinels)
        for each in servers:
            stack.callback(each.kill)
            each.start()
        seeds = ",".join(f"127.0.0.1:{each.port}" for each in (sentinels[first], sentinels[1 - first]))
        async with open_redis(f"redis+sentinel://{seeds}/{MASTER}") as redis:
            await redis.execute("SET", "k", "v")
            await redis.ping()
            assert redis.available.up
        assert (former.ask("GET", "k"), present.ask("GET", "k")) == (None, "v")
        sentinels[1 - first].pause()
        async with open_redis(f"redis+sentinel://{seeds}/{MASTER}", timeout_s=2.0) as redis:
            await redis.execute("SET", "k", "after")
        assert (former, present)[first].ask("GET", "k") == "after"


async def test_a_master_that_is_cut_off_from_the_sentinels_is_left(watched: Watched) -> None:
    """Its connections stay open, and it answers as if nothing had happened."""
    async with open_redis(watched.url, timeout_s=2.0) as redis:
        await redis.execute("SET", "k", "before")
        watched.master.ask("WAIT", 1, 5000)
        for sentinel in watched.sentinels:
            sentinel.ask("SENTINEL", "REMOVE", MASTER)
        watched.replica.ask("REPLICAOF", "NO", "ONE")
        for sentinel in watched.sentinels:
            sentinel.ask("SENTINEL", "MONITOR", MASTER, "127.0.0.1", str(watched.replica.port), "2")
        await redis.execute("SET", "k", "lost")
        await redis.ping()
        assert not redis.available.up
        await persistently(lambda: redis.execute("APPEND", "k", ", and after"))
    assert watched.replica.ask("GET", "k") == "before, and after"


async def test_where_urls_lead(watched: Watched) -> None:
    """A plain one to a Sentinel's master; one with Sentinels that are gone to those that are there."""
    port = watched.sentinels[0].port
    for url in (f"redis://127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/{MASTER}/3"):
        async with open_redis(url) as redis:
            await redis.execute("SET", "k", url)
    assert watched.master.ask("GET", "k") == f"redis://127.0.0.1:{port}/0"
    assert watched.master.ask("INFO", "keyspace")["db3"]["keys"] == 1
    async with open_redis(f"redis+sentinel://127.0.0.1:{port}/nobody") as redis:
        with pytest.raises(RedisUnavailable, match="knows no master nobody"):
            await redis.ping()
        assert "nobody" in redis.available.detail
    for sentinel in watched.sentinels[:2]:
        sentinel.kill()
    async with open_redis(watched.url, timeout_s=2.0) as redis:
        assert await redis.execute("ECHO", "here") == b"here"


async def test_a_replica_that_sentinels_take_for_the_master_is_not_used(watched: Watched) -> None:
    watched.sentinels[0].ask("SENTINEL", "MONITOR", "other", "127.0.0.1", str(watched.replica.port), "1")
    async with open_redis(f"redis+sentinel://127.0.0.1:{watched.sentinels[0].port}/other") as redis:
        with pytest.raises(RedisUnavailable, match="is not the master of other"):
            await redis.execute("GET", "k")
    async with open_redis(f"redis+sentinel://127.0.0.1:{watched.sentinels[0].port}") as redis:
        with pytest.raises(RedisUnavailable, match=r"watches media, other: the URL must name one"):
            await redis.ping()
