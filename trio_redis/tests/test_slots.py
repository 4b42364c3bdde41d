"""Which slot a command is for: our list against what the server says of itself."""

from __future__ import annotations

from contextlib import suppress

import pytest
import redis as redis_py

from trio_redis.topology import key_slot, slot_of

from .servers import RedisCluster

COMMANDS: list[tuple[str | int, ...]] = [
    ("GET", "k"),
    ("SET", "k", "v", "NX", "PX", 5),
    ("MGET", "k", "{k}:2"),
    ("EXISTS", "k"),
    ("DEL", "k"),
    ("HSETNX", "k", "f", "v"),
    ("HMGET", "k", "f", "g"),
    ("XADD", "k", "MAXLEN", "~", 5, "*", "f", "v"),
    ("XLEN", "k"),
    ("XRANGE", "k", "-", "+"),
    ("XACK", "k", "g", "1-1"),
    ("XPENDING", "k", "g"),
    ("XAUTOCLAIM", "k", "g", "c", 5, "0"),
    ("XGROUP", "CREATE", "k", "g", "0", "MKSTREAM"),
    ("xinfo", "STREAM", "k"),
    ("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 5, "STREAMS", "k", ">"),
    ("xread", "count", 1, "streams", "k", "0"),
    ("ZADD", "k", "NX", 1, "m"),
    ("ZSCAN", "k", 0, "MATCH", "*"),
    ("EVALSHA", "0" * 40, 2, "k", "{k}:2", "argument"),
    ("BLPOP", "k", 1),
    ("MEMORY", "USAGE", "k"),
]
WITHOUT_KEY: list[tuple[str | int, ...]] = [
    ("PING",), ("ECHO", "k"), ("TIME",), ("INFO", "clients"), ("CONFIG", "GET", "save"), ("CLIENT", "UNBLOCK", 5),
    ("PUBLISH", "k", "m"), ("EVAL", "return 1", 0), ("SCRIPT", "EXISTS", "k"), ("WAIT", 1, 5),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_commands_with_keys(cluster_of_process: RedisCluster, command: tuple[str | int, ...]) -> None:
    with redis_py.Redis.from_url(cluster_of_process.url, decode_responses=True) as client:
        first, *_ = client.execute_command("COMMAND GETKEYS", *command)
        assert slot_of(command) == client.execute_command("CLUSTER", "KEYSLOT", first)


@pytest.mark.parametrize("command", WITHOUT_KEY, ids=lambda command: str(command[0]))
def test_commands_without(cluster_of_process: RedisCluster, command: tuple[str | int, ...]) -> None:
    assert slot_of(command) is None
    # The refusal: "The command has no key arguments".
    with redis_py.Redis.from_url(cluster_of_process.url) as client, suppress(redis_py.ResponseError):
        assert client.execute_command("COMMAND GETKEYS", *command) == []


@pytest.mark.parametrize(
    "key", ["k", "", "{k}", "a{k}b", "{}k", "{k", "k}", "{{k}}", "a{k}{b}", "media_status:{é}", "}{"]
)
def test_what_stands_between_the_first_braces_counts(cluster_of_process: RedisCluster, key: str) -> None:
    with redis_py.Redis.from_url(cluster_of_process.url) as client:
        assert key_slot(key) == client.execute_command("CLUSTER", "KEYSLOT", key)
