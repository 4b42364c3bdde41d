"""The sweep's state on Redis: its position, when the last sweep ended, and since when Redis has lost no data.

If Redis loses its data, the hash ``media_sweep`` is lost, too. A missing hash therefore means that Redis may have lost
tasks of completed uploads: a sweep is due at once, and processes the uploads that are older than the loss. The same
happens if only the processing queue has lost data (`TaskQueue.detect_data_loss`).
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
    """How far a sweep got: all parts before ``part`` are done, and ``part`` up to the id ``after``."""

    part: Part = Part.UPLOADS
    after: AnyId | None = None


START = Cursor()


class SweepState:
    """The hash. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def history_complete_since(self, now: datetime, *, remember: bool) -> datetime:
        """Return since when Redis has lost no data. If that is unknown, return ``now`` and write it down.

        If tasks of uploads were lost since the last call, a sweep from the start becomes due. Without ``remember``
        nothing is written.
        """
        redis = self._redis
        queue = TaskQueue(redis, PROCESSING_QUEUE)  # no upload depends on another queue
        loss = await queue.detect_data_loss(remember=remember)
        if loss is not None and remember:
            await self._note_data_loss(datetime.fromtimestamp(loss.at, UTC))
            await queue.clear_data_loss(loss)
        if remember:
            await redis.execute("HSETNX", _KEY, "memory_since", f"{now.timestamp():.3f}")
        written = await redis.execute("HGET", _KEY, "memory_since")
        since = now.timestamp() if written is None else float(written)
        return datetime.fromtimestamp(since if loss is None else max(since, loss.at), UTC)

    async def _note_data_loss(self, at: datetime) -> None:
        redis = self._redis
        known = await redis.execute("HGET", _KEY, "memory_since")
        since = max(at.timestamp(), float(known or 0))
        await redis.execute("HSET", _KEY, "memory_since", f"{since:.3f}")
        await redis.execute("HDEL", _KEY, "finished_at", "part", "after")

    async def finished_at(self) -> datetime | None:
        """Return when the last sweep ended."""
        written = await self._redis.execute("HGET", _KEY, "finished_at")
        return None if written is None else datetime.fromtimestamp(float(written), UTC)

    async def owners_checked_until(self) -> datetime | None:
        """Return up to which age the index objects of owners were checked; None if they never were."""
        written = await self._redis.execute("HGET", _KEY, "owners_checked_until")
        return None if written is None else datetime.fromtimestamp(float(written), UTC)

    async def note_owners_checked(self, until: datetime) -> None:
        """Record that all index objects of owners older than ``until`` were checked."""
        await self._redis.execute("HSET", _KEY, "owners_checked_until", f"{until.timestamp():.3f}")

    async def stored(self) -> dict[str, tuple[int, int]]:
        """Return objects and bytes by kind, as the last whole sweep counted them. Empty before the first one."""
        written = await self._redis.execute("HGET", _KEY, "stored")
        return {} if written is None else {kind: (each[0], each[1]) for kind, each in json.loads(written).items()}

    async def note_stored(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """Record the objects and bytes that a whole sweep counted."""
        await self._redis.execute("HSET", _KEY, "stored", json.dumps(stored))

    async def unfinished(self) -> Cursor | None:
        """Return how far the current sweep got; None if no sweep is in progress."""
        part, after = await self._redis.execute("HMGET", _KEY, "part", "after")
        try:
            return Cursor(Part(part.decode()), parse_any_id(after.decode()) if after else None) if part else None
        except (ValueError, InvalidId):
            return START  # written by a later version

    async def save(self, cursor: Cursor) -> None:
        """Record how far the current sweep got."""
        await self._redis.execute("HSET", _KEY, "part", cursor.part, "after", str(cursor.after or ""))

    async def finish(self, now: datetime) -> None:
        """Record that the current sweep has ended."""
        await self.note_whole_pass(now)
        await self._redis.execute("HDEL", _KEY, "part", "after")

    async def note_whole_pass(self, now: datetime) -> None:
        """Record that a whole sweep has ended, for example one that an operator ran beside the current one."""
        await self._redis.execute("HSET", _KEY, "finished_at", f"{now.timestamp():.3f}")
