"""The consumer group of a stream. Plain commands read it: a script takes five times as much of the server's time."""

from __future__ import annotations

from avion_media.backends.queue import scripts
from avion_media.backends.redis import Redis, RedisRefused, Reply, as_map

_REMOVED = 100  # by one script


async def ensure_group(redis: Redis, stream: str, group: str, first: str = "0") -> bool:
    """Create stream and group if they are missing. Return whether they were. Raises `Unavailable`.

    ``first``: the id behind which the group gets entries; ``$``: those from now on.
    """
    try:
        await redis.execute("XGROUP", "CREATE", stream, group, first, "MKSTREAM")
    except RedisRefused as refused:
        if refused.code != "BUSYGROUP":
            raise
        return False
    return True


async def read_consumers(redis: Redis, stream: str, group: str) -> list[dict[bytes, Reply]]:
    """Return ``name``, ``pending`` and ``idle`` (ms) of all consumers; none without the group. Raises `Unavailable`."""
    try:
        return list(map(as_map, await redis.execute("XINFO", "CONSUMERS", stream, group)))
    except RedisRefused:
        return []  # the next reader creates it, and records the loss


async def remove_idle_consumers(redis: Redis, stream: str, group: str, idle_s: float) -> int:
    """Remove some consumers that have no entry and did not read for ``idle_s``. Return how many."""
    rows = await read_consumers(redis, stream, group)
    idle = [row[b"name"] for row in rows if not row[b"pending"] and row[b"idle"] >= idle_s * 1000]
    removed: int = await redis.run(scripts.REMOVE_IDLE_CONSUMERS, (stream,), (group, *idle[:_REMOVED]))
    return removed
