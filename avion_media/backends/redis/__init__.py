"""Redis, by trio_redis."""

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
    load_script,
    open_redis,
)
