"""Redis for Trio: one server, a master that Sentinels watch, or a cluster.

The URL leads to any of the servers. The library finds out what it leads to, and follows changes. All commands of the
process share *one* connection to each server: they travel as a pipeline, and a cancelled call disturbs no other one.
Blocking commands and subscriptions have connections of their own.

An outage is a state: calls raise `RedisUnavailable`, and later calls connect again, after a pause that grows. No call
is repeated, because only the caller knows whether it may run twice.

Connections and the protocol (RESP3) are those of coredis, whose pool is not used. Importing this library sets the level
of its logger ``coredis`` to CRITICAL: it logs a traceback for each failed connect, which is `Redis.available` here.

    connection, node    one connection and the errors of coredis; one server
    topology            the servers and their slots
    directory           finds the servers, and keeps track of changes
    client              the calls
    scripts             Lua scripts, as files of a package
    concurrency         calls that run at once; the pause between attempts
    lock                a lock among processes
    url, errors         where to begin; what calls raise
"""

from trio_redis.client import Redis, open_redis
from trio_redis.concurrency import Backoff, run_all
from trio_redis.connection import Argument, Channels, Reply, as_map, as_text
from trio_redis.directory import Availability
from trio_redis.errors import Errors, LockLost, RedisError, RedisFull, RedisRefused, RedisUnavailable
from trio_redis.lock import Lock, Seats
from trio_redis.scripts import Script, load_script
from trio_redis.topology import key_slot
from trio_redis.url import Address, Credentials, RedisTarget, read_redis_url

__all__ = [
    "Address",
    "Argument",
    "Availability",
    "Backoff",
    "Channels",
    "Credentials",
    "Errors",
    "Lock",
    "LockLost",
    "Redis",
    "RedisError",
    "RedisFull",
    "RedisRefused",
    "RedisTarget",
    "RedisUnavailable",
    "Reply",
    "Script",
    "Seats",
    "as_map",
    "as_text",
    "key_slot",
    "load_script",
    "open_redis",
    "read_redis_url",
    "run_all",
]
