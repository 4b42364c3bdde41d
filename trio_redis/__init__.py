"""Redis on Trio: a thin adapter over coredis's connections. Only this package converts its errors to ours.

The URL leads to one server, a master that Sentinels watch, or a cluster. The adapter finds out which, and follows
changes (docs/redis.md). All commands of the process share *one* connection to each server. That gives 2.5 times the
calls per second of coredis's pool, without the pool's bugs under cancellation (6.9: a cancelled waiter loses a wakeup;
a cancelled connect and a dropped blocking connection each lose a slot permanently).

An outage is a state: calls raise `Unavailable`, and later calls connect again, after a pause that grows.

    connection, node    one connection and the errors of coredis; one server
    topology            the servers and their slots
    directory           finds the servers, and keeps track of changes
    client              the calls
    scripts             Lua scripts, and which of them a full Redis runs
    lock                a lock among all replicas
"""

from trio_redis.client import NEARLY_FULL, Redis, open_redis
from trio_redis.connection import Argument, Channels, RedisRefused, Reply, as_map, as_text
from trio_redis.lock import Lock, LockLost, Seats
from trio_redis.scripts import Script, load_script
from trio_redis.url import read_redis_url

__all__ = [
    "NEARLY_FULL",
    "Argument",
    "Channels",
    "Lock",
    "LockLost",
    "Redis",
    "RedisRefused",
    "Reply",
    "Script",
    "Seats",
    "as_map",
    "as_text",
    "load_script",
    "open_redis",
    "read_redis_url",
]
