"""When media were deleted, as their tombstones say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from avion_media.queue.board import tombstone_key
from avion_media.redis import Redis


async def tombstones_of(redis: Redis, media_ids: Sequence[str]) -> dict[str, datetime]:
    """The time of deletion (UTC) of those that are deleted. One round trip. Raises `Unavailable`."""
    values = await redis.get_many([tombstone_key(each) for each in media_ids])
    return {
        media_id: datetime.fromtimestamp(float(value), UTC)
        for media_id, value in zip(media_ids, values, strict=True)
        if value is not None
    }
