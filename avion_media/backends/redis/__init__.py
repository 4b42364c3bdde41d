"""Redis, by trio_redis. Only this package converts the library's errors to the service's.

client     what this service adds to the library's `Redis`, and its errors
scripts    which of the service's scripts a full Redis runs
"""

from avion_media.backends.redis.client import (
    NEARLY_FULL,
    LockLost,
    Redis,
    RedisFull,
    RedisRefused,
    open_redis,
)
from avion_media.backends.redis.scripts import load_script
from trio_redis import Argument, Channels, Lock, Reply, Script, Seats, as_map, as_text
