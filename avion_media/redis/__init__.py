"""Redis on Trio: a thin adapter over coredis's connections, and the one place that turns its errors into ours.

Behind the URL is one server, a master that Sentinels watch, or a cluster: that is found out, and found out again when
it changes (docs/redis.md). Commands of the whole process share *one* connection to each server: 2.5 times the calls per
second of coredis's pool, and none of the pool's faults under cancellation (6.9: a cancelled waiter loses a wakeup, a
cancelled connect and a dropped blocking connection each lose a slot for good).

An outage is a state: calls say `Unavailable`, the next ones connect again, no more often than a growing pause allows.

    connection, node    one connection; one server
    slots               which slot of a cluster a command is for
    topology            which server has what
    locator, directory  who is in charge: found out, and kept up to date
    client              the calls
    replies             names and values that a call returned
"""

from avion_media.redis.client import Redis, Script, open_redis
from avion_media.redis.connection import Argument, Reply
from avion_media.redis.directory import Availability
from avion_media.redis.errors import RedisRefused
from avion_media.redis.replies import as_map, as_text

__all__ = ["Argument", "Availability", "Redis", "RedisRefused", "Reply", "Script", "as_map", "as_text", "open_redis"]
