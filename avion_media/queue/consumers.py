"""The consumers of a stream's group.

A plain command reads them: a script that reads thousands holds up the server five times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.queue import scripts
from avion_media.redis import Redis, RedisRefused, as_map

_REMOVED = 100  # by one script


@dataclass(frozen=True, slots=True)
class GroupConsumer:
    """One consumer. ``pending``: entries that it has; ``idle_s``: how long it has sent no command."""

    name: str
    pending: int
    idle_s: float


async def read_consumers(redis: Redis, stream: str, group: str) -> list[GroupConsumer]:
    """Return all consumers; none if there is no stream or no group. Raises `Unavailable`."""
    try:
        rows = map(as_map, await redis.execute("XINFO", "CONSUMERS", stream, group))
        return [GroupConsumer(row[b"name"].decode(), row[b"pending"], row[b"idle"] / 1000) for row in rows]
    except RedisRefused:
        return []  # the next reader creates it, and records the loss


async def remove_idle_consumers(redis: Redis, stream: str, group: str, idle_s: float) -> int:
    """Remove consumers that have no entry and did not read for ``idle_s``, some at a time. Return how many.

    Raises `Unavailable`.
    """
    idle = [
        each.name for each in await read_consumers(redis, stream, group) if not each.pending and each.idle_s >= idle_s
    ]
    removed: int = await redis.run(scripts.REMOVE_IDLE_CONSUMERS, (stream,), (group, *idle[:_REMOVED])) if idle else 0
    return removed
