"""`avion-media init`: create what is missing in the store and on Redis. Safe to repeat."""

from __future__ import annotations

from avion_media.config import Config
from avion_media.domain.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.queue import TaskQueue
from avion_media.redis import Redis, open_redis
from avion_media.store import open_store

QUEUES = (PROCESSING_QUEUE, CACHE_QUEUE, DELETE_QUEUE)


async def prepare(config: Config) -> tuple[list[str], list[str]]:
    """Create bucket, CORS and lifecycle rules, and the consumer groups.

    Returns what was created, and warnings about Redis. Raises `Unavailable` when the store or Redis is away; what was
    created until then stays, and the next call goes on from there.
    """
    async with open_store(config.s3) as store:
        created = await store.ensure_bucket()
    async with open_redis(config.redis.url, timeout_s=config.redis.timeout) as redis:
        for name in QUEUES:
            if await TaskQueue(redis, name).ensure_group():
                created.append(f"consumer group of {name}")
        return created, await redis_warnings(redis)


async def redis_warnings(redis: Redis) -> list[str]:
    """Settings under which Redis may lose tasks; empty when all is well or it does not tell."""
    warnings = []
    policy = await _setting(redis, "maxmemory-policy")
    if policy and policy != "noeviction":
        warnings.append(f"Redis may evict tasks: maxmemory-policy is {policy}, should be noeviction")
    if await _setting(redis, "appendonly") == "no" and not await _setting(redis, "save"):
        warnings.append("Redis keeps nothing over a restart: neither appendonly nor save is set")
    return warnings


async def _setting(redis: Redis, name: str) -> str:
    from avion_media.redis import RedisRefused

    try:
        reply = await redis.execute("CONFIG", "GET", name)
    except RedisRefused:  # managed services forbid CONFIG
        return ""
    value = dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply
    found = value.get(name.encode(), value.get(name, b""))
    return found.decode() if isinstance(found, bytes) else str(found)
