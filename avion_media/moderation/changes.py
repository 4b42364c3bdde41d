"""Notifies replicas of each other's blocks through Redis. The bucket is the source of truth.

A block writes its entries to the bucket, then increments the counter, and then lists the bucket for copies. A worker
writes an original, and then reads the counter. So one of them sees what the other wrote: either the listing finds the
original, or the worker finds a new counter, reads the entries again, and finds one that matches its media item.
"""

from __future__ import annotations

from avion_media.redis import Redis

CHANNEL = "media_blocks"
"""Channel: the id of a media item whose block begins or ends, or nothing where only a list changed."""
_COUNTER = "media_blocks:changes"


class Changes:
    """Raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, media_id: str = "") -> None:
        """Make all replicas read the bucket again. They answer 451 for this media item from now on."""
        await self._redis.execute("INCR", _COUNTER)
        await self._redis.execute("PUBLISH", CHANNEL, media_id)

    async def generation(self) -> bytes:
        """Return a value that differs after each `note`, and after a loss of Redis."""
        return await self._redis.execute("GET", _COUNTER) or b""
