"""Notifies replicas of each other's blocks through Redis. The bucket is the source of truth.

A block writes its record and its entries to the bucket, then changes the generation, and then removes the media item
and lists the bucket for copies. A worker reads the generation, checks the media item, writes its original, and reads
the generation again. So one of them sees what the other wrote: either the block finds the original, or the worker
finds another generation, and checks the media item again.
"""

from __future__ import annotations

from uuid import uuid4

from avion_media.backends.redis import Redis

CHANNEL = "media_blocks"
"""Channel: the id of a media item whose block begins or ends, or nothing where only a list changed."""
_GENERATION = "media_blocks:changes"


class Changes:
    """Raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, media_id: str = "") -> None:
        """Make all replicas read the bucket again. They answer 451 for this media item from now on."""
        await self._redis.execute("SET", _GENERATION, uuid4().hex, when_full=True)
        await self._redis.execute("PUBLISH", CHANNEL, media_id)

    async def generation(self) -> bytes:
        """Return a value that differs after each `note`, and after a loss of Redis. No value comes twice."""
        while not (found := await self._redis.execute("GET", _GENERATION)):
            await self._redis.execute("SET", _GENERATION, uuid4().hex, "NX", when_full=True)
        return bytes(found)
