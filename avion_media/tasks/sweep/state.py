"""The sweep's state on Redis: its position, when the last sweep ended, and since when Redis has lost no data.

If Redis loses its data, the hash ``media_sweep`` is lost, too. A missing hash therefore means that Redis may have lost
tasks of completed uploads: a sweep is due at once, and processes the uploads that are older than the loss. The same
happens if only the processing queue has lost data (`TaskQueue.detect_data_loss`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from avion_media.domain.ids import AnyId, InvalidId, parse_any_id
from avion_media.domain.tasks import PROCESSING_QUEUE
from avion_media.queue import TaskQueue
from avion_media.records import HashRecord, InJson
from avion_media.redis import Redis, as_text
from avion_media.tasks.sweep.listing import Part

_KEY = "media_sweep"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sweep got: all parts before ``part`` are done, and ``part`` up to the id ``after``."""

    part: Part = Part.UPLOADS
    after: AnyId | None = None


START = Cursor()


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """The hash. Times are Unix seconds, 0 if there is none. ``after`` is an id, and ``stored`` the objects and bytes by
    kind."""

    part: Part | None = None
    after: str = ""
    finished_at: float = 0.0
    complete_since: float = 0.0
    stored: Annotated[Mapping[str, tuple[int, int]], InJson] = field(default_factory=dict)
    owners_checked_until: float = 0.0


SWEEP = HashRecord("sweep", SweepRecord, _KEY, "the sweep")


class SweepState:
    """The hash. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def _read(self) -> SweepRecord:
        """Return the record; an empty one if this version cannot read it, as after a loss of Redis."""
        return SWEEP.read_or_skip(as_text(await self._redis.execute("HGETALL", _KEY)), _KEY) or SweepRecord()

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
            await redis.execute("HSETNX", _KEY, "complete_since", f"{now.timestamp():.3f}")
        since = (await self._read()).complete_since or now.timestamp()
        return datetime.fromtimestamp(since if loss is None else max(since, loss.at), UTC)

    async def _note_data_loss(self, at: datetime) -> None:
        redis = self._redis
        since = max(at.timestamp(), (await self._read()).complete_since)
        await redis.execute("HSET", _KEY, "complete_since", f"{since:.3f}")
        await redis.execute("HDEL", _KEY, "finished_at", "part", "after")

    async def finished_at(self) -> datetime | None:
        """Return when the last sweep ended."""
        return _time((await self._read()).finished_at)

    async def owners_checked_until(self) -> datetime | None:
        """Return up to which age the index objects of owners were checked; None if they never were."""
        return _time((await self._read()).owners_checked_until)

    async def note_owners_checked(self, until: datetime) -> None:
        """Record that all index objects of owners older than ``until`` were checked."""
        await self._redis.execute("HSET", _KEY, "owners_checked_until", f"{until.timestamp():.3f}")

    async def stored(self) -> dict[str, tuple[int, int]]:
        """Return objects and bytes by kind, as the last whole sweep counted them. Empty before the first one."""
        return dict((await self._read()).stored)

    async def note_stored(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """Record the objects and bytes that a whole sweep counted."""
        await self._redis.execute("HSET", _KEY, "stored", json.dumps(stored))

    async def unfinished(self) -> Cursor | None:
        """Return how far the current sweep got; None if no sweep is in progress."""
        found = await self._read()
        try:
            return (
                None if found.part is None else Cursor(found.part, parse_any_id(found.after) if found.after else None)
            )
        except InvalidId:
            return START  # of a format of a later version

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


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
