"""When media were deleted, as their tombstones say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from avion_media.redis import Redis, RedisRefused


async def tombstones_of(redis: Redis, media_ids: Sequence[str]) -> dict[str, datetime]:
    """The time of deletion (UTC) of those that are deleted. One round trip. Raises `Unavailable`."""
    if not media_ids:
        return {}
    keys = [f"media_tombstone:{{{each}}}" for each in media_ids]
    try:
        values = await redis.execute("MGET", *keys)
    except RedisRefused as refused:
        if refused.code != "CROSSSLOT":  # a cluster answers for one slot at a time
            raise
        values = [await redis.execute("GET", key) for key in keys]
    return {
        media_id: datetime.fromtimestamp(float(value), UTC)
        for media_id, value in zip(media_ids, values, strict=True)
        if value is not None
    }
