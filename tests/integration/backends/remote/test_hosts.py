"""Slots and the breaker per host, as several replicas share them on a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import redis as redis_py
import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.remote import HostLimiter, HostLimits, RemoteGone, ServerError, breaker_state
from avion_media.backends.remote.errors import ResolverTrouble
from avion_media.common.errors import Deferred, Dependency, Reason, Rejected, Unavailable
from guarded_fetch import AddressRefused, parse_remote_url

URL = parse_remote_url("https://remote.example/a.png")
POLICY = HostLimits(slots=2, breaker_failures=3, first_pause_s=30.0, longest_pause_s=100.0)
DOWN = Unavailable(Dependency.REMOTE, "cannot connect")
SERVER, SLOTS = "remote_server:{remote.example}:443", "remote_slots:{remote.example}"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as redis:
        yield redis


@pytest.fixture
def hosts(redis: Redis) -> HostLimiter:
    return HostLimiter(lambda: redis, POLICY)


@pytest.fixture
def other(redis_url: str) -> Any:
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def soon() -> float:
    return trio.current_time() + 60


async def fetch(hosts: HostLimiter, outcome: BaseException | None = None, url: str = str(URL)) -> None:
    """One fetch that ends like that."""
    with suppress(*([] if outcome is None else [type(outcome)])):
        async with hosts.admitted(parse_remote_url(url), soon()):
            if outcome is not None:
                raise outcome


async def refusal(hosts: HostLimiter) -> Deferred:
    with pytest.raises(Deferred) as caught:
        await fetch(hosts)
    return caught.value


def end_of_pause(other: Any) -> None:
    """What the time does."""
    other.hset(SERVER, "paused_until", f"{time.time() - 1:.3f}")


async def test_a_host_has_its_slots_in_all_replicas_together(redis: Redis, hosts: HostLimiter, other: Any) -> None:
    replica = HostLimiter(lambda: redis, POLICY)
    async with AsyncExitStack() as fetches:
        await fetches.enter_async_context(hosts.admitted(URL, soon()))
        await fetches.enter_async_context(replica.admitted(parse_remote_url("http://remote.example/b"), soon()))
        for each in (hosts, replica):
            refused = await refusal(each)
            assert (refused.expires, refused.whole_tenant, refused.retry_after_s) == (False, True, 1.0)
        await fetch(hosts, url="https://other.example/")
        assert other.zcard(SLOTS) == 2
        assert 60_000 < other.pttl(SLOTS) <= 70_000
    await fetch(hosts)
    assert other.zcard(SLOTS) == 0


async def test_a_task_that_another_server_sent_here_waits_by_itself(hosts: HostLimiter) -> None:
    async with hosts.admitted(URL, soon()), hosts.admitted(URL, soon()):
        with pytest.raises(Deferred) as caught:
            async with hosts.admitted(URL, soon(), redirected=True):
                pass
    assert not caught.value.whole_tenant


async def test_the_slot_of_a_dead_process_is_free_again(hosts: HostLimiter, other: Any) -> None:
    other.zadd(SLOTS, {"dead": time.time() - 0.001, "alive": time.time() + 60})
    await fetch(hosts)
    assert other.zrange(SLOTS, 0, -1) == ["alive"]


async def test_a_cancelled_fetch_leaves_no_slot_taken_and_says_nothing(hosts: HostLimiter, other: Any) -> None:
    for _ in range(5):
        with trio.CancelScope() as scope:
            async with hosts.admitted(URL, soon()):
                scope.cancel()
                await trio.sleep_forever()
    assert other.zcard(SLOTS) == 0
    assert not other.exists(SERVER)


async def test_failures_in_a_row_open_the_breaker_of_a_server(redis: Redis, hosts: HostLimiter, other: Any) -> None:
    for _ in range(2):
        await fetch(hosts, DOWN)
    await fetch(hosts, Rejected(Reason.TOO_LARGE))  # an answer: the row is broken
    for _ in range(3):
        await fetch(hosts, DOWN)
    refused = await refusal(hosts)
    assert refused.expires
    assert 29 < refused.retry_after_s <= 30
    trouble = await breaker_state(redis, URL.server)
    assert trouble is not None
    assert (trouble.failures, trouble.cause) == (3, "cannot connect")
    await fetch(hosts, url="https://remote.example:444/")  # another server on that host
    assert other.zcard(SLOTS) == 0
    assert other.ttl(SERVER) <= 3630


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        Rejected(Reason.REMOTE_STATUS),
        RemoteGone(Reason.REMOTE_STATUS, "HTTP 404"),
        ServerError(500, of_host=False, asked_pause_s=None),
        ServerError(500, of_host=False, asked_pause_s=50.0),
    ],
)
async def test_any_answer_ends_the_row(hosts: HostLimiter, other: Any, outcome: BaseException | None) -> None:
    for _ in range(2):
        await fetch(hosts, DOWN)
    await fetch(hosts, outcome)
    assert not other.exists(SERVER)


@pytest.mark.parametrize(
    "outcome",
    [
        Unavailable(Dependency.STORE),
        Unavailable(Dependency.REDIS),
        Unavailable(Dependency.DISK),
        AddressRefused("10.0.0.1"),
        ResolverTrouble("the resolver did not answer in time"),
        Deferred("too many lookups never got an answer", 10.0),
        OSError(),
    ],
)
async def test_what_fails_on_our_side_is_not_counted_against_a_server(
    hosts: HostLimiter, other: Any, outcome: BaseException
) -> None:
    for _ in range(2):
        await fetch(hosts, DOWN)
    for _ in range(5):
        await fetch(hosts, outcome)
    assert other.hget(SERVER, "failures") == "2"
    await fetch(hosts)


async def test_after_the_pause_one_probe_decides(hosts: HostLimiter, other: Any) -> None:
    for _ in range(3):
        await fetch(hosts, DOWN)

    async def probe() -> None:
        async with hosts.admitted(URL, soon()):
            refused = await refusal(hosts)
            assert refused.expires
            assert refused.retry_after_s < 10  # it may be over soon
            raise DOWN

    for pause_s in (60, 100, 100):  # doubled, up to the longest
        end_of_pause(other)
        with pytest.raises(Unavailable):
            await probe()
        assert pause_s - 1 < (await refusal(hosts)).retry_after_s <= pause_s
    end_of_pause(other)
    await fetch(hosts)
    async with hosts.admitted(URL, soon()), hosts.admitted(URL, soon()):
        pass
    assert not other.exists(SERVER)


async def test_a_probe_that_is_cancelled_leaves_the_next_one_to_decide(hosts: HostLimiter, other: Any) -> None:
    for _ in range(3):
        await fetch(hosts, DOWN)
    end_of_pause(other)
    with trio.CancelScope() as scope:
        async with hosts.admitted(URL, soon()):
            scope.cancel()
            await trio.sleep_forever()
    async with hosts.admitted(URL, soon()):
        await refusal(hosts)


async def test_a_pause_that_was_asked_for_is_kept(hosts: HostLimiter, other: Any) -> None:
    async with hosts.admitted(URL, soon()):  # answers well, but only after another was told to wait
        await fetch(hosts, ServerError(429, of_host=True, asked_pause_s=120.0))
        await fetch_refused(hosts, 120)
    await fetch_refused(hosts, 120)
    assert 3600 < other.ttl(SERVER) <= 3720


async def fetch_refused(hosts: HostLimiter, seconds: float) -> None:
    assert seconds - 2 < (await refusal(hosts)).retry_after_s <= seconds


async def use_up_the_time(hosts: HostLimiter, *, redirected: bool = False) -> None:
    """One fetch that is still running when its time is over."""
    with trio.CancelScope() as scope:
        async with hosts.admitted(URL, deadline=trio.current_time(), redirected=redirected):
            scope.cancel()
            await trio.lowlevel.checkpoint()


async def test_a_server_that_takes_all_the_time_there_is_has_failed(hosts: HostLimiter, other: Any) -> None:
    for _ in range(3):
        await use_up_the_time(hosts)
    assert other.hmget(SERVER, "failures", "cause") == ["3", "too slow"]
    await refusal(hosts)


async def test_time_that_was_used_up_on_the_way_is_not_held_against_the_target_of_a_redirect(
    hosts: HostLimiter, other: Any
) -> None:
    for _ in range(3):
        await use_up_the_time(hosts, redirected=True)
    await fetch(hosts)
    assert not other.exists(SERVER)


async def test_without_redis_nobody_is_asked_and_no_answer_is_lost(redis: Redis) -> None:
    def away() -> Redis:
        raise Unavailable(Dependency.REDIS)

    with pytest.raises(Unavailable) as caught:
        async with HostLimiter(away, POLICY).admitted(URL, soon()):
            raise AssertionError
    assert caught.value.dependency == "redis"

    once = [redis]
    async with HostLimiter(lambda: once.pop() if once else away(), POLICY).admitted(URL, soon()):
        answer = "kept"
    assert answer == "kept"


async def test_nothing_is_remembered_of_a_server_that_is_well(redis: Redis, hosts: HostLimiter, other: Any) -> None:
    assert await breaker_state(redis, URL.server) is None
    await fetch(hosts)
    assert await breaker_state(redis, URL.server) is None
    assert other.keys("remote_*") == []
