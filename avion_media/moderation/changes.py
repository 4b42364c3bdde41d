"""Notifies replicas of each other's blocks through Redis: that there is one, and which process works on it. The bucket
is the source of truth.

A block writes its entries to the bucket, then increments the counter, and then lists the bucket for copies. A worker
writes an original, and then reads the counter. So one of them sees what the other wrote: the listing finds the
original, or the worker reads the entries again and finds its media item among them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from avion_media.domain.errors import Unavailable
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


class Claims:
    """The blocks that some process works on. A claim expires ``claim_s`` after it was last renewed."""

    def __init__(self, redis: Redis, claim_s: float) -> None:
        self._redis = redis
        self._claim_s = claim_s
        self._claim_ms = round(claim_s * 1000)

    async def claim(self, media_id: str) -> bool:
        """Claim this media item's block. Return whether no other process works on it.

        Raises `Unavailable` while Redis is unavailable.
        """
        return bool(await self._redis.execute("SET", _claim_key(media_id), "1", "NX", "PX", self._claim_ms))

    @asynccontextmanager
    async def held(self, media_id: str) -> AsyncIterator[None]:
        """Take over a claim, and renew it while the body runs, however long one step of it takes.

        While Redis is unavailable, the body runs without a claim.
        """
        await self._renew(media_id)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep, media_id)
                yield
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The nursery wraps what the body raises.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def _keep(self, media_id: str) -> None:
        """Renew a claim three times before it would expire."""
        while True:
            await trio.sleep(self._claim_s / 4)
            await self._renew(media_id)

    async def _renew(self, media_id: str) -> None:
        with suppress(Unavailable):
            await self._redis.execute("SET", _claim_key(media_id), "1", "PX", self._claim_ms)


def _claim_key(media_id: str) -> str:
    return f"media_block_claim:{media_id}"
