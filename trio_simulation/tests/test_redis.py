"""The model answers as a real server: each question is asked of both, in both versions of the protocol."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_simulation import Fault, Simulation, attempt, run
from trio_simulation.redis import RedisModel

from .resp_client import Client

Open = Callable[[], Awaitable[Client]]
Question = Callable[[Open], Awaitable[object]]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis."""
    program = shutil.which("redis-server")
    assert program is not None, "these tests compare the model with redis-server: install it"
    folder: Path = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    arguments = ["--port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as server:
        try:
            _wait_until_up(number)
            yield number
        finally:
            server.terminate()


def _wait_until_up(port: int) -> None:
    ends_at = time.monotonic() + 30
    while time.monotonic() < ends_at:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError("redis-server did not start")


def real_answer(port: int, question: Question) -> object:
    return trio.run(_ask, "127.0.0.1", port, question)


async def _ask(host: str, port: int, question: Question) -> object:
    async with AsyncExitStack() as stack:

        async def open_client() -> Client:
            return Client(await stack.enter_async_context(await trio.open_tcp_stream(host, port)))

        await (await open_client())("FLUSHALL")
        with trio.fail_after(30):
            return await question(open_client)


def model_answer(question: Question) -> object:
    async def scenario(simulation: Simulation) -> object:
        simulation.node("redis").start(RedisModel().serve)
        await trio.sleep(0.1)
        return await _ask("redis", 6379, question)

    return run(scenario, seed=1, limit_s=60)


CASES: dict[str, list[str]] = {
    "strings": [
        *("SET a 1", "GET a", "GET none", "INCRBY a 5", "INCRBYFLOAT a 0.5", "APPEND a x", "STRLEN a", "GETDEL a"),
        *("SET a 1 NX", "SET a 2 NX", "SET a 3 XX GET", "SETRANGE a 2 zz", "MSET b 1 c 2", "MGET a b none", "INCR a"),
        *("SET a 1 PX 0", "SET a 1 EX", "GETEX a", "EXISTS a b none", "TYPE a", "DEL a b none", "NOSUCH a b", "GET"),
    ],
    "expiry": [
        *(
            "SET a 1 EX 100",
            "TTL a",
            "PERSIST a",
            "TTL a",
            "PTTL none",
            "PEXPIREAT a 1",
            "EXISTS a",
            "SET a 1 PX 50000",
        ),
        *(
            "EXPIRE a 10 NX",
            "EXPIRE a 10 XX",
            "EXPIRE a 5 GT",
            "TTL a",
            "SET a 1 KEEPTTL",
            "TTL a",
            "EXPIRE a -1",
            "GET a",
        ),
    ],
    "hashes": [
        *("HSET h a 1 b 2", "HGET h a", "HGETALL h", "HMGET h a none", "HINCRBY h a 4", "HDEL h a none", "HLEN h"),
        *("HSETNX h b 9", "HEXISTS h b", "HKEYS h", "HVALS h", "HGETALL none", "HSET h a", "HGET none a", "LPUSH h 1"),
    ],
    "lists": [
        *("RPUSH l a b c", "LPUSH l z", "LRANGE l 0 -1", "LPOP l", "RPOP l 2", "LLEN l", "LPOP none", "LPOP none 2"),
        *("RPUSH l a b a", "LREM l 1 a", "LINDEX l 0", "LTRIM l 0 0", "LMOVE l m LEFT RIGHT", "LRANGE m 0 -1"),
    ],
    "sets": [
        *("SADD s c a b", "SMEMBERS s", "SISMEMBER s a", "SMISMEMBER s a x", "SREM s a x", "SCARD s", "SADD t b d"),
        *("SINTER s t", "SUNION s t", "SDIFF s t", "SMEMBERS none", "SPOP none", "SMOVE s t c", "SMEMBERS t"),
    ],
    "sorted sets": [
        *("ZADD z 1 a 2 b 3.5 c", "ZSCORE z c", "ZRANGE z 0 -1", "ZRANGE z 0 -1 WITHSCORES", "ZADD z GT CH 1 b 5 a"),
        *(
            "ZRANGEBYSCORE z 2 +inf LIMIT 0 1",
            "ZCOUNT z -inf (5",
            "ZRANK z b",
            "ZREM z a x",
            "ZINCRBY z 2 b",
            "ZCARD z",
        ),
        *("ZPOPMIN z", "ZRANGE z 0 inf BYSCORE", "ZREMRANGEBYSCORE z -inf +inf", "ZRANGE none 0 -1", "ZSCORE none a"),
        *("ZADD z 1 a", "ZADD z x b", "ZMSCORE z a none", "ZRANGEBYSCORE z 1 1 WITHSCORES", "ZPOPMIN none"),
    ],
    "streams": [
        *(
            "XADD s 1-1 a 1",
            "XADD s 2-1 a 2 b 3",
            "XADD s 1-0 a 1",
            "XLEN s",
            "XRANGE s - +",
            "XRANGE s (1-1 + COUNT 1",
        ),
        *("XREVRANGE s + - COUNT 1", "XREAD COUNT 1 STREAMS s 0", "XREAD STREAMS s 9", "XREAD STREAMS none 0"),
        *("XDEL s 1-1 9-9", "XTRIM s MAXLEN 0", "XADD none NOMKSTREAM 1-1 a 1", "XADD s 3-1 a 1", "XADD s 3-* a 1"),
    ],
    "groups": [
        *(
            "XGROUP CREATE s g 0",
            "XGROUP CREATE s g 0 MKSTREAM",
            "XGROUP CREATE s g 0",
            "XADD s 1-1 a 1",
            "XADD s 1-2 a 2",
        ),
        *("XREADGROUP GROUP g one COUNT 1 STREAMS s >", "XREADGROUP GROUP g one STREAMS s 0", "XPENDING s g"),
        *("XREADGROUP GROUP g two STREAMS s >", "XREADGROUP GROUP g two STREAMS s >", "XACK s g 1-1 9-9"),
        *("XREADGROUP GROUP none one STREAMS s >", "XREADGROUP GROUP g one STREAMS none >", "XCLAIM s g three 0 1-2"),
        *("XAUTOCLAIM s g four 0 0", "XPENDING s g - + 10 two", "XPENDING s none", "XGROUP DELCONSUMER s g four"),
        *("XGROUP CREATECONSUMER s g five", "XDEL s 1-2", "XGROUP DESTROY s g", "XREADGROUP GROUP g one STREAMS s >"),
    ],
    "transactions": [
        *(
            "MULTI",
            "SET a 1",
            "INCR a",
            "EXEC",
            "MULTI",
            "NOSUCH",
            "EXEC",
            "EXEC",
            "MULTI",
            "LPUSH a x",
            "INCR a",
            "EXEC",
        ),
        *("WATCH a", "MULTI", "GET a", "DISCARD", "DISCARD"),
    ],
    "the server": [
        *("PING", "PING hello", "ECHO x", "SELECT 1", "SELECT 99", "SET a 1", "DBSIZE", "FLUSHDB", "DBSIZE", "ROLE"),
        *("CONFIG GET maxmemory", "CONFIG GET nosuch", "CLIENT SETNAME me", "CLIENT GETNAME", "QUIT"),
    ],
    "subscriptions": ["SUBSCRIBE a", "PSUBSCRIBE b*", "UNSUBSCRIBE a", "PUNSUBSCRIBE b*", "PUBLISH a x"],
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_same_replies(case: str, protocol: int, port: int) -> None:
    async def question(open_client: Open) -> list[tuple[str, Any]]:
        client = await open_client()
        await client("HELLO", protocol)
        replies = [(command, await client(*command.split())) for command in CASES[case]]
        # The order of a set is nobody's promise.
        unordered = ("SMEMBERS", "SINTER", "SUNION", "SDIFF")
        return [(command, sorted(reply) if command.startswith(unordered) else reply) for command, reply in replies]

    assert model_answer(question) == real_answer(port, question)


SCRIPTS = {
    "numbers": "return {1, 2.9, true, false, 'text', {3}, nil, 4}",
    "status": "return redis.status_reply('FINE')",
    "error": "return redis.error_reply('CODE sentence')",
    "err field": "return {err = 'CODE sentence'}",
    "call": "redis.call('SET', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), redis.call('SET', KEYS[1], 'x')}",
    "nil": "return redis.call('GET', 'none') == false",
    "pcall": "local r = redis.pcall('LPUSH', KEYS[1]) return {type(r), r.err}",
    "pcall wrong type": "redis.call('SET', KEYS[1], 1) return redis.pcall('LPUSH', KEYS[1], 1)['err']",
    "hash": "redis.call('HSET', KEYS[1], 'a', 1, 'b', 2) return redis.call('HGETALL', KEYS[1])",
    "score": "redis.call('ZADD', KEYS[1], 1.5, 'a') return redis.call('ZSCORE', KEYS[1], 'a')",
    "set": "redis.call('SADD', KEYS[1], 'a') return redis.call('SMEMBERS', KEYS[1])",
    "group": "redis.call('XGROUP', 'CREATE', KEYS[1], 'g', 0, 'MKSTREAM') redis.call('XADD', KEYS[1], '1-1', 'a', 1) "
    "return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>')",
    "empty group": "redis.call('XGROUP', 'CREATE', KEYS[1], 'g', 0, 'MKSTREAM') "
    "return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>') == false",
    "flags": "#!lua flags=allow-oom\nreturn redis.call('INCR', KEYS[1])",
    "cjson": 'return cjson.encode(cjson.decode(\'[1, "a", {"b": null}]\'))',
    "sha1": "return redis.sha1hex('abc')",
    "unpack": "return {unpack({1, 2, 3})}",
    "time": "return #redis.call('TIME')",
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_results_of_scripts(name: str, protocol: int, port: int) -> None:
    async def question(open_client: Open) -> list[Any]:
        client = await open_client()
        await client("HELLO", protocol)
        digest = await client("SCRIPT", "LOAD", SCRIPTS[name])
        return [
            digest,
            await client("EVALSHA", digest, 1, "key", "argument"),
            await client("FLUSHALL"),
            await client("EVAL", SCRIPTS[name], 1, "key", "argument"),
            await client("EVALSHA", "0" * 40, 0),
        ]

    assert model_answer(question) == real_answer(port, question)


@pytest.mark.parametrize("protocol", [2, 3])
def test_hello_keeps_or_changes_the_protocol(protocol: int, port: int) -> None:
    async def question(open_client: Open) -> list[Any]:
        client = await open_client()
        first = await client("HELLO", protocol)
        again = await client("HELLO")
        found = [_hello(first), _hello(again), await client("HELLO", 4), await client("HGETALL", "none")]
        info = (await client("INFO", "server")).decode()
        return [*found, "redis_version:" in info, "run_id:" in info]

    def _hello(reply: Any) -> Any:
        fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return fields[b"server"], fields[b"proto"], fields[b"mode"], fields[b"role"], list(fields)

    assert model_answer(question) == real_answer(port, question)


def test_the_same_order_of_clients_that_wait(port: int) -> None:
    async def question(open_client: Open) -> list[Any]:
        one, two, other = await open_client(), await open_client(), await open_client()
        await other("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
        for client, name in ((one, "one"), (two, "two")):
            await client.send("XREADGROUP", "GROUP", "g", name, "COUNT", 1, "BLOCK", 20_000, "STREAMS", "s", ">")
            await client.send("PING")
            await trio.sleep(0.05)  # the server must know that it waits
        await other("XADD", "s", "1-1", "a", 1)
        first = await one.receive(), await one.receive()
        await other("XADD", "s", "1-2", "a", 2)
        second = await two.receive(), await two.receive()
        identity = await one("CLIENT", "ID")
        await one.send("BLPOP", "list", 0)
        await trio.sleep(0.05)
        ended = await other("CLIENT", "UNBLOCK", identity), await one.receive()
        await one.send("BLPOP", "list", 0)
        await trio.sleep(0.05)
        refused = await other("CLIENT", "UNBLOCK", identity, "ERROR"), await one.receive()
        late = await one("XREAD", "BLOCK", 30, "STREAMS", "s", "$"), await one("BLPOP", "list", "0.02")
        await one.send("BLPOP", "list", 5)
        await trio.sleep(0.05)
        pushed = await other("RPUSH", "list", "x", "y"), await one.receive(), await other("LRANGE", "list", 0, -1)
        await one.send("XREADGROUP", "GROUP", "g", "one", "BLOCK", 0, "STREAMS", "s", ">")
        await trio.sleep(0.05)
        gone = await other("DEL", "s"), await one.receive()
        return [first, second, ended, refused, late, pushed, gone]

    assert model_answer(question) == real_answer(port, question)


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_same_messages(protocol: int, port: int) -> None:
    async def question(open_client: Open) -> list[Any]:
        reader, writer = await open_client(), await open_client()
        await reader("HELLO", protocol)
        found = [await reader("SUBSCRIBE", "a"), await reader("PSUBSCRIBE", "b*")]
        found += [await writer("PUBLISH", channel, "text") for channel in ("a", "bb", "c")]
        found += [await reader.receive(), await reader.receive()]
        found.append(await reader("GET", "x"))
        found += [await reader("UNSUBSCRIBE"), await reader("PING")]
        return found

    assert model_answer(question) == real_answer(port, question)


def test_keys_expire_by_virtual_time() -> None:
    async def question(open_client: Open) -> list[Any]:
        client = await open_client()
        await client("SET", "day", 1, "EX", 86400)
        await trio.sleep(86399)
        before = await client("TTL", "day")
        await trio.sleep(2)
        return [before, await client("GET", "day")]

    async def scenario(simulation: Simulation) -> object:
        simulation.node("redis").start(RedisModel().serve)
        await trio.sleep(0.1)

        async def open_client() -> Client:
            return Client(await trio.open_tcp_stream("redis", 6379))

        return await question(open_client)

    assert run(scenario, seed=1, limit_s=100_000) == [1, None]


def test_a_standby_lacks_the_newest_seconds() -> None:
    async def scenario(simulation: Simulation) -> None:
        model = RedisModel()
        redis = simulation.node("redis")
        redis.start(model.serve)
        simulation.fault_kinds["failover"] = model.failover_fault(max_lost_s=2.0)
        await trio.sleep(0.1)
        client = Client(await trio.open_tcp_stream("redis", 6379))
        await client("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
        kept_id = await client("XADD", "s", "*", "a", 1)
        await client("EVAL", "return redis.call('INCR', 'n')", 0)
        await client("SADD", "set", "a", "b", "c")
        popped = await client("SPOP", "set")
        await client("SET", "short", "x", "EX", 60)
        await client.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", 5000, "STREAMS", "s", ">")
        await client.receive()
        await trio.sleep(5)
        await client("SET", "lost", 1)
        await simulation.until_faults_are_over()
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await client("PING")
        await trio.sleep(0.1)
        client = Client(await trio.open_tcp_stream("redis", 6379))
        assert await client("GET", "lost") is None
        assert await client("GET", "n") == b"1"
        assert popped not in await client("SMEMBERS", "set")
        assert (await client("XRANGE", "s", "-", "+"))[0][0] == kept_id
        assert (await client("XPENDING", "s", "g"))[0] == 1
        assert 0 < await client("TTL", "short") < 60
        assert (await client("EVALSHA", "0" * 40, 0)).startswith("NOSCRIPT")
        assert model.call("GET", "n") == b"1"
        with pytest.raises(ValueError, match="WRONGTYPE"):
            model.call("LPUSH", "n", 1)

    faults = [Fault("failover", 6.0, 1.0, ("redis",), amount=1.0)]
    runs = [attempt(scenario, seed=1, faults=faults) for _ in range(2)]
    assert [each.error for each in runs] == [None, None]
    assert runs[0].digest == runs[1].digest
