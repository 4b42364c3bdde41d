"""Redis, by trio_redis."""

from avion_media.backends.redis.scripts import load_script
from trio_redis import (
    NEARLY_FULL,
    Argument,
    Channels,
    Lock,
    LockLost,
    Redis,
    RedisRefused,
    Reply,
    Script,
    Seats,
    as_map,
    as_text,
    open_redis,
)
