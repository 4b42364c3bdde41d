"""Finds the cluster slot of a command, out of 16384 (Redis Cluster specification, "Key distribution model")."""

from __future__ import annotations

from binascii import crc_hqx

from avion_media.backends.redis.connection import Argument

SLOTS = 16384

# Commands that any node can run. A test compares the list with the server's own.
_WITHOUT_KEY = frozenset(
    {
        "ACL", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "ECHO", "FLUSHALL",
        "FLUSHDB", "HELLO", "INFO", "KEYS", "LASTSAVE", "LATENCY", "PING", "PUBLISH", "PUBSUB", "RANDOMKEY", "ROLE",
        "SAVE", "SCAN", "SCRIPT", "SHUTDOWN", "SLOWLOG", "SUBSCRIBE", "TIME", "WAIT", "WAITAOF",
    }
)  # fmt: skip
_WITH_SUBCOMMAND = frozenset({"XGROUP", "XINFO", "OBJECT", "MEMORY"})
_WITH_NUMBER_OF_KEYS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})


def slot_of(command: tuple[Argument, ...]) -> int | None:
    """Return the slot of a command's first key; None without a key. The server checks that the others share it."""
    name = str(command[0]).upper()
    if name in _WITHOUT_KEY:
        return None
    if name in _WITH_NUMBER_OF_KEYS:
        return key_slot(command[3]) if len(command) > 3 and int(command[2]) else None
    if name in ("XREAD", "XREADGROUP"):
        return key_slot(command[[str(each).upper() for each in command].index("STREAMS") + 1])
    first = 2 if name in _WITH_SUBCOMMAND else 1
    return key_slot(command[first]) if len(command) > first else None


def key_slot(key: Argument) -> int:
    """Return the slot of a key: of the text between its first braces, if there is any."""
    raw = key if isinstance(key, bytes) else str(key).encode()
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:
            raw = raw[start + 1 : end]
    return crc_hqx(raw, 0) % SLOTS
