"""Calls: outages are reported as such, refusals as such, and nothing of coredis gets out."""

from __future__ import annotations

import ssl
import time
from functools import partial
from pathlib import Path

import pytest
import redis as redis_py
import trio
import trio.testing
import trustme

import trio_redis.connection as connections
from trio_redis import Channels, Redis, RedisRefused, RedisUnavailable, Script, key_slot, open_redis

from .fixtures import Client, info, infos
from .outages import persistently
from .servers import RedisServer, free_port, open_proxy, redis_server

ECHO = Script("echo", "return KEYS[1]")


async def test_replies_come_as_they_are(redis: Redis) -> None:
    assert await redis.execute("SET", "k", b"\xff\x00") == b"OK"
    assert await redis.execute("GET", "k") == b"\xff\x00"
    assert await redis.execute("GET", "none") is None
    assert await redis.execute("INCRBY", "n", 7) == 7
    assert await redis.execute("ZADD", "z", 1.5, "m") == 1
    assert await redis.execute("ZSCORE", "z", "m") == 1.5


async def test_a_script_that_the_server_does_not_know_is_sent_once(redis: Redis, other: Client) -> None:
    def sent() -> int:
        return sum(calls["calls"] for calls in infos(other, "commandstats", "cmdstat_eval"))

    script = Script("double", "return {KEYS[1], ARGV[1] * 2}")
    before = sent()
    for number in (1, 2, 3):
        assert await redis.run(script, ("k",), (number,)) == [b"k", 2 * number]
    assert sent() == before + 1


async def test_a_script_runs_on_many_keys_in_groups_of_one_slot(redis: Redis) -> None:
    keys = [f"k{number}" for number in range(30)]
    script = Script(
        "add",
        """
        local replies = {}
        for number, key in ipairs(KEYS) do
          replies[number] = redis.call('INCRBY', key, ARGV[1] + ARGV[number + 1])
        end
        return replies
        """,
    )
    found = await redis.run_in_groups(script, keys, (1000,), of_each=lambda key: (key[1:],), most=7)
    assert found == {key: 1000 + int(key[1:]) for key in keys}
    groups = await redis.grouped(keys, 7)
    assert sorted(key for group in groups for key in group) == sorted(keys)
    assert max(map(len, groups)) <= 7
    if await redis.is_cluster():
        assert all(len({key_slot(key) for key in group}) == 1 for group in groups)
    else:
        assert len(groups) == 5
    assert await redis.get_many(["k1", "none"]) == [b"1001", None]
    assert await redis.get_many([]) == []


async def test_each_server_describes_itself(redis: Redis) -> None:
    found = await redis.info("server")
    assert len(found) == (3 if await redis.is_cluster() else 1)
    assert all(each["run_id"] for each in found.values())


async def test_loops_of_one_process_wake_together(autojump_clock: trio.testing.MockClock) -> None:
    redis = Redis("redis://127.0.0.1")
    for _ in range(20):
        tick_s = redis.next_tick_s(5.0)
        assert 0.5 < tick_s <= 5.5
        await trio.sleep(0.4)
        assert redis.next_tick_s(5.0) == pytest.approx(tick_s - 0.4 if tick_s > 0.9 else tick_s + 4.6)


async def test_a_script_learns_which_process_runs_it(server: RedisServer) -> None:
    script = Script("who", "return ARGV[#ARGV]", takes_process=True)
    seen = []
    with redis_py.Redis.from_url(server.url, decode_responses=True) as client:
        async with open_redis(server.url, timeout_s=2) as redis:
            for _ in range(2):
                found = await persistently(partial(redis.run, script, ("k",), ("a",)))
                seen.append(found.decode())
                assert seen[-1] == client.info("server")["run_id"]
                server.kill()
                server.start()
        assert len(set(seen)) == 2
        client.acl_setuser("default", enabled=True, nopass=True, keys="*", commands=["+@all", "-info"])
        async with open_redis(server.url) as redis:
            assert await redis.run(script, ("k",)) == b"unknown"


async def test_a_refusal_is_no_outage(redis: Redis) -> None:
    await redis.execute("SET", "k", "v")
    for command, code in (
        (("XLEN", "k"), "WRONGTYPE"),
        (("NONSENSE",), "ERR"),
        (("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"), "NOGROUP"),
        (("EVALSHA", "0" * 40, 0), "NOSCRIPT"),
        (("EVAL", "return redis.error_reply('MINE is mine')", 0), "MINE"),
    ):
        with pytest.raises(RedisRefused) as caught:
            await redis.execute(*command)
        assert caught.value.code == code
    assert redis.available.up


@pytest.mark.parametrize("reply", ["MISCONF cannot persist", "BUSY running a script"])
async def test_what_the_server_cannot_do_just_now_is_an_outage(redis: Redis, reply: str) -> None:
    with pytest.raises(RedisUnavailable, match=reply):
        await redis.execute("EVAL", f"return redis.error_reply('{reply}')", 0)
    await redis.ping()
    assert redis.available.up


async def test_a_replica_that_refuses_writes_is_an_outage_and_heals(server: RedisServer) -> None:
    with redis_py.Redis.from_url(server.url) as other:
        async with open_redis(server.url) as redis:
            await redis.execute("SET", "k", "v")
            other.replicaof("127.0.0.1", free_port())
            with pytest.raises(RedisUnavailable):
                await redis.execute("SET", "k", "v")
            other.replicaof("NO", "ONE")
            await persistently(redis.ping)
            await redis.execute("SET", "k", "v")


async def test_nobody_there_is_a_state_from_the_start() -> None:
    began = time.time()
    async with open_redis(f"redis://127.0.0.1:{free_port()}/0") as redis:
        assert not redis.available.up
        for _ in range(3):
            with trio.fail_after(20), pytest.raises(RedisUnavailable) as caught:
                await redis.ping()
            assert caught.value.retry_after_s == 1
        assert redis.available.detail
        assert redis.available.since >= began


async def test_a_crowd_that_meets_an_outage_does_not_dial_one_by_one(server: RedisServer) -> None:
    async with open_proxy(server.url) as proxy, open_redis(proxy.url) as redis:
        proxy.refuse = True

        async def call() -> None:
            with pytest.raises(RedisUnavailable):
                await redis.ping()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(500):
                    nursery.start_soon(call)
        assert proxy.connections < 10
        proxy.refuse = False
        await persistently(redis.ping)


async def test_a_connection_that_goes_silent_is_given_up(server: RedisServer) -> None:
    async with open_proxy(server.url) as proxy, open_redis(proxy.url, timeout_s=0.5) as redis:
        await persistently(redis.ping)
        before = proxy.connections
        proxy.mute = True
        with trio.fail_after(5), pytest.raises(RedisUnavailable, match="no answer in time"):
            await redis.ping()
        proxy.mute = False
        await persistently(redis.ping)
        assert proxy.connections > before


async def test_a_process_that_stood_still_finds_the_replies_that_came(server: RedisServer) -> None:
    """Its time was up before it could read them. That is no outage."""
    async with open_redis(server.url, timeout_s=0.2) as redis:
        await persistently(redis.ping)
        await persistently(lambda: redis.execute_blocking("ECHO", "first", block_s=0.01))  # its connection stays
        await persistently(lambda: redis.run(ECHO, ("first",)))
        replies: list[object] = []

        async def call() -> None:
            replies.append(await redis.execute("ECHO", "x"))

        async def call_blocking() -> None:
            replies.append(await redis.execute_blocking("ECHO", "y", block_s=0.01))

        async def call_within() -> None:
            replies.append(await redis.run(ECHO, ("z",), within_s=0.1))

        server.ask("CLIENT", "PAUSE", 100, "ALL")  # so that replies come while this process stands still
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call_blocking)
            nursery.start_soon(call_within)
            await trio.testing.wait_all_tasks_blocked()
            time.sleep(0.5)  # noqa: ASYNC251 - as SIGSTOP does
        assert set(replies) == {b"x", b"y", b"z"}
        assert redis.available.up


async def test_a_caller_with_less_time_than_the_timeout_gives_up_alone(server: RedisServer) -> None:
    """For the others it is no outage, and their replies still come."""
    async with open_proxy(server.url) as proxy, open_redis(proxy.url, timeout_s=5) as redis:
        await redis.run(ECHO, ("x",))
        before = proxy.connections
        server.ask("CLIENT", "PAUSE", 400, "ALL")
        with pytest.raises(RedisUnavailable, match="no reply within"):
            await redis.run(ECHO, ("x",), within_s=0.05)
        assert redis.available.up
        assert await redis.run(ECHO, ("y",)) == b"y"
        assert proxy.connections == before


async def test_a_silent_subscription_is_given_up(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_QUIET_S", 0.1)
    async with open_proxy(server.url) as proxy, open_redis(proxy.url, timeout_s=0.2) as redis:

        def subscribed(_channel: str) -> None:
            proxy.mute = True

        with trio.fail_after(5), pytest.raises(RedisUnavailable):
            await redis.listen(Channels("c", heard=lambda channel, message: None, subscribed=subscribed))


async def test_the_end_of_a_subscription_does_not_hide_the_cause(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_QUIET_S", 0.1)
    ear = Ear("c")
    async with open_proxy(server.url) as proxy, open_redis(proxy.url, timeout_s=0.3) as redis:

        async def listen() -> None:
            with pytest.raises(RedisUnavailable):
                await redis.listen(ear.channels)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await ear.until(0, begun=1)
                proxy.mute = True
                with pytest.raises(RedisUnavailable):
                    await redis.ping()
        assert redis.available.detail == "no answer in time"


async def test_a_server_that_cannot_save_is_one_outage_and_its_messages_still_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a full disk: it refuses writes and PING, and answers reads."""
    monkeypatch.setattr(connections, "_QUIET_S", 0.02)
    ear = Ear("c")

    def save() -> str:
        other.bgsave()
        while (found := other.info("persistence"))["rdb_bgsave_in_progress"]:
            pass
        return str(found["rdb_last_bgsave_status"])

    with (
        redis_server("--save", "3600 1", "--enable-protected-configs", "yes") as url,
        redis_py.Redis.from_url(url) as other,
    ):
        directory = other.config_get("dir")["dir"]
        async with open_redis(url) as redis, trio.open_nursery() as nursery:
            nursery.start_soon(redis.keep_listening, ear.channels)
            await ear.until(0, begun=1)
            other.config_set("dir", "/proc")
            assert save() == "err"
            with pytest.raises(RedisUnavailable, match="MISCONF"):
                await redis.ping()
            with trio.fail_after(10):
                while other.info("commandstats")["cmdstat_ping"]["rejected_calls"] < 4:  # of the subscription, too
                    assert await redis.execute("GET", "k") is None
            outage = redis.available
            assert not outage.up
            assert "MISCONF" in outage.detail
            other.publish("c", "x")
            await ear.until(1, begun=1)
            other.config_set("dir", directory)
            assert save() == "ok"
            await redis.ping()
            assert redis.available.up
            nursery.cancel_scope.cancel()
    assert ear.begun == ["c"]


class Ear:
    """A listener, and what it was called with."""

    def __init__(self, *names: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.begun: list[str] = []
        self.channels = Channels(*names, heard=self._hear, subscribed=self.begun.append)

    def _hear(self, channel: str, message: bytes) -> None:
        self.heard.append((channel, message))

    async def until(self, heard: int, begun: int) -> None:
        with trio.fail_after(10):
            while len(self.heard) < heard or len(self.begun) < begun:
                await trio.lowlevel.checkpoint()


async def test_all_listeners_share_one_connection_and_change_their_channels(redis: Redis, other: Client) -> None:
    one, two = Ear("a"), Ear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(redis.keep_listening, one.channels)
        nursery.start_soon(redis.keep_listening, two.channels)
        await one.until(0, begun=1)
        two.channels.add("a")
        two.channels.add("b")
        await two.until(0, begun=2)
        assert info(other, "clients", "pubsub_clients") == 1
        for channel in ("a", "b"):
            other.publish(channel, "x")
        await one.until(1, begun=1)
        await two.until(2, begun=2)
        two.channels.discard("a")  # of which the other one still receives messages
        two.channels.discard("b")
        two.channels.add("c")
        await two.until(2, begun=3)
        for channel in ("a", "b", "c"):
            other.publish(channel, "y")
        await one.until(2, begun=1)
        await two.until(3, begun=3)
        nursery.cancel_scope.cancel()
    assert one.heard == [("a", b"x"), ("a", b"y")]
    assert sorted(two.heard) == [("a", b"x"), ("b", b"x"), ("c", b"y")]
    with trio.fail_after(10):
        while other.pubsub_channels():
            await trio.lowlevel.checkpoint()


async def test_a_cut_fails_the_calls_in_flight_and_no_later_ones(server: RedisServer) -> None:
    async with open_proxy(server.url) as proxy, open_redis(proxy.url) as redis:
        await redis.ping()
        failed = 0

        async def call() -> None:
            nonlocal failed
            try:
                await redis.ping()
            except RedisUnavailable:
                failed += 1

        proxy.mute = True
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked(0.02)
                proxy.cut()
        assert failed == 50
        proxy.mute = False
        await persistently(redis.ping)


async def test_a_cancelled_call_leaves_the_others_their_answers(redis: Redis) -> None:
    await redis.ping()
    with trio.move_on_after(0) as scope:
        await redis.execute("ECHO", "cancelled")
    assert scope.cancelled_caught
    assert await redis.execute("ECHO", "mine") == b"mine"


async def test_closing_while_calls_run_ends_them(server: RedisServer) -> None:
    async def wait(redis: Redis) -> None:
        with pytest.raises(RedisUnavailable):
            await redis.execute_blocking("BLPOP", "list", 30, block_s=30)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, open_redis(server.url) as redis:
            nursery.start_soon(wait, redis)
            await persistently(redis.ping)
            await trio.testing.wait_all_tasks_blocked(0.02)


async def test_an_error_in_the_block_comes_out_as_it_is(redis_url: str) -> None:
    async def fail() -> None:
        async with open_redis(redis_url) as redis:
            await redis.ping()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_too_many_blocking_reads_wait_and_none_is_lost(redis_url: str, other: Client) -> None:
    async with open_redis(redis_url, connections=4) as redis, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: redis.execute_blocking("BLPOP", "list", 30, block_s=30))
        with trio.fail_after(20):
            while info(other, "clients", "blocked_clients") < 2:
                await trio.lowlevel.checkpoint()
        assert await redis.execute_blocking("BLPOP", "list", 0.05, block_s=0.05) is None
        await redis.ping()  # commands never wait for them
        nursery.cancel_scope.cancel()


async def test_credentials_and_database_of_the_url_are_used() -> None:
    with redis_server("--requirepass", "p@ss/word") as url:
        address = url.removeprefix("redis://").removesuffix("/0")
        async with open_redis(f"redis://:p%40ss%2Fword@{address}/3") as redis:
            await redis.execute("SET", "k", "v")
        with redis_py.Redis.from_url(f"redis://:p%40ss%2Fword@{address}/3") as other:
            assert other.get("k") == b"v"
        for wrong in (f"redis://:wrong@{address}", f"redis://{address}"):
            async with open_redis(wrong) as redis:
                with pytest.raises(RedisUnavailable) as caught:
                    await redis.ping()
                assert "wrong@" not in str(caught.value)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = made.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    return tmp_path


async def test_tls_checks_the_server(authority: Path) -> None:
    port = free_port()
    arguments = (
        "--tls-port", str(port), "--tls-cert-file", str(authority / "server.pem"),
        "--tls-key-file", str(authority / "server.pem"), "--tls-ca-cert-file", str(authority / "ca.pem"),
        "--tls-auth-clients", "no",
    )  # fmt: skip
    with redis_server(*arguments):
        async with open_redis(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority / 'ca.pem'}") as redis:
            await redis.ping()
        async with open_redis(f"rediss://127.0.0.1:{port}/0") as redis:
            with pytest.raises(RedisUnavailable) as caught:
                await redis.ping()
            assert isinstance(caught.value.__cause__, Exception)
            assert "certificate" in caught.value.detail.lower() or ssl.SSLError.__name__ in caught.value.detail


@pytest.mark.parametrize("url", ["", "127.0.0.1:6379", "http://127.0.0.1", "redis://", "unix:///tmp/redis.sock"])
async def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis://"):
        async with open_redis(url):
            raise AssertionError("opened")


async def test_too_few_connections_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        async with open_redis("redis://127.0.0.1", connections=3):
            raise AssertionError("opened")
