"""How replicas notice a block at once: a counter and a channel on Redis. The truth is in the bucket.

A block writes its entries to the bucket, then raises the counter, and only then lists the bucket for copies. A worker
writes an original, and only then reads the counter. So one of both sees what the other wrote: either the listing finds
the original, or the worker reads the entries again and finds its media item among them.
"""

from __future__ import annotations

from avion_media.redis import Redis

CHANNEL = "media_blocks"
"""Channel: the id of a media item whose block begins or ends, or nothing where only a list changed."""
_COUNTER = "media_blocks:changes"
_CLAIM_MS = 30_000


class Changes:
    """Raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, media_id: str = "") -> None:
        """Have all replicas look at the bucket again; they answer 451 for this media item from now on."""
        await self._redis.execute("INCR", _COUNTER)
        await self._redis.execute("PUBLISH", CHANNEL, media_id)

    async def generation(self) -> bytes:
        """Return what differs after each `note`, and after a loss of Redis."""
        return await self._redis.execute("GET", _COUNTER) or b""

    async def claim(self, media_id: str) -> bool:
        """Return whether no other process works on this media item's block. The claim ends by itself."""
        key = f"media_block_claim:{media_id}"
        return bool(await self._redis.execute("SET", key, "1", "NX", "PX", _CLAIM_MS))

    async def renew(self, media_id: str) -> None:
        """Keep a claim."""
        await self._redis.execute("SET", f"media_block_claim:{media_id}", "1", "PX", _CLAIM_MS)
