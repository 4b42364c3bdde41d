"""What the sweeper remembers on Redis: where a pass stands, when the last one ended, and how far back Redis knows.

The hash ``media_sweep`` is lost with everything else when Redis loses its memory. That is its other use: from its
absence it follows that completed uploads may have been forgotten, and the next pass, which is due at once then, treats
what lay in the store before as such. What lost only the processing queue does the same: see `TaskQueue.loss`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from avion_media.domain.ids import AnyId, InvalidId, parse_any_id
from avion_media.domain.tasks import PROCESSING_QUEUE
from avion_media.queue import TaskQueue
from avion_media.redis import Redis
from avion_media.tasks.sweep.listing import Part

_KEY = "media_sweep"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a pass got: all of ``part`` up to the id ``after`` is done, and all parts before."""

    part: Part = Part.UPLOADS
    after: AnyId | None = None


START = Cursor()


class SweepState:
    """The hash. Every method raises `Unavailable` while Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def memory_since(self, now: datetime, *, remember: bool) -> datetime:
        """Since when Redis has not lost its memory: ``now`` if that is not known, which is written down then.

        When it has lost the tasks of uploads since this was last asked, a pass is due, from the start on. Without
        ``remember`` nothing is written.
        """
        redis = self._redis
        queue = TaskQueue(redis, PROCESSING_QUEUE)  # of no other queue does it hang what becomes of an upload
        loss = await queue.loss(remember=remember)
        if loss is not None and remember:
            await self._lose_memory(datetime.fromtimestamp(loss.at, UTC))
            await queue.forget(loss)
        if remember:
            await redis.execute("HSETNX", _KEY, "memory_since", f"{now.timestamp():.3f}")
        written = await redis.execute("HGET", _KEY, "memory_since")
        since = now.timestamp() if written is None else float(written)
        return datetime.fromtimestamp(since if loss is None else max(since, loss.at), UTC)

    async def _lose_memory(self, at: datetime) -> None:
        redis = self._redis
        known = await redis.execute("HGET", _KEY, "memory_since")
        since = max(at.timestamp(), float(known or 0))
        await redis.execute("HSET", _KEY, "memory_since", f"{since:.3f}")
        await redis.execute("HDEL", _KEY, "finished_at", "part", "after")

    async def finished_at(self) -> datetime | None:
        """When the last pass ended."""
        written = await self._redis.execute("HGET", _KEY, "finished_at")
        return None if written is None else datetime.fromtimestamp(float(written), UTC)

    async def owners_checked_until(self) -> datetime | None:
        """Until when the index objects of owners were looked at; None if they never were."""
        written = await self._redis.execute("HGET", _KEY, "owners_checked_until")
        return None if written is None else datetime.fromtimestamp(float(written), UTC)

    async def note_owners_checked(self, until: datetime) -> None:
        """All index objects of owners that are older were looked at."""
        await self._redis.execute("HSET", _KEY, "owners_checked_until", f"{until.timestamp():.3f}")

    async def stored(self) -> dict[str, tuple[int, int]]:
        """What the last whole sweep saw in the store: objects and bytes by kind. Empty before the first."""
        written = await self._redis.execute("HGET", _KEY, "stored")
        return {} if written is None else {kind: (each[0], each[1]) for kind, each in json.loads(written).items()}

    async def note_stored(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """A whole sweep saw this in the store."""
        await self._redis.execute("HSET", _KEY, "stored", json.dumps(stored))

    async def unfinished(self) -> Cursor | None:
        """How far the current sweep got; None when there is none."""
        part, after = await self._redis.execute("HMGET", _KEY, "part", "after")
        try:
            return Cursor(Part(part.decode()), parse_any_id(after.decode()) if after else None) if part else None
        except (ValueError, InvalidId):
            return START  # written by a later version

    async def save(self, cursor: Cursor) -> None:
        """The pass got this far."""
        await self._redis.execute("HSET", _KEY, "part", cursor.part, "after", str(cursor.after or ""))

    async def finish(self, now: datetime) -> None:
        """The pass is over."""
        await self.note_whole_pass(now)
        await self._redis.execute("HDEL", _KEY, "part", "after")

    async def note_whole_pass(self, now: datetime) -> None:
        """A pass from start to end is over, beside the one that may be in progress."""
        await self._redis.execute("HSET", _KEY, "finished_at", f"{now.timestamp():.3f}")
