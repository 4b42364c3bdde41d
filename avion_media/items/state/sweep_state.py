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
from enum import StrEnum
from typing import Annotated

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, as_text
from avion_media.common.formats import Family
from avion_media.common.ids import AnyId, InvalidId, parse_any_id
from avion_media.common.records import HashRecord, InJson
from trio_telemetry import get_logger

_KEY = "media_sweep"
_log = get_logger()


class SweepPart(StrEnum):
    """The parts of a sweep, in their order. The first looks only for uploads whose task was lost."""

    INCOMING = "incoming"
    UPLOADS = "uploads"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sweep got: all parts before ``part`` are done, and ``part`` up to the id ``after``.

    Uploads of the day ``before`` (yyyy/mm/dd) and later are done as well, because newer ones come first.
    """

    part: SweepPart = SweepPart.INCOMING
    after: AnyId | None = None
    before: str = ""


START = Cursor()


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """The hash. Times are Unix seconds; ``complete_since`` is None if it is unknown, others are 0.

    ``part``, ``after`` and ``before`` say how far the current sweep got: see `Cursor`. ``stored`` are the objects and
    bytes by kind that the last whole sweep counted. ``indexed_until``: the key of the last original whose index objects
    were checked; empty: check from the first one.
    """

    part: SweepPart | None = None
    after: str = ""
    before: str = ""
    finished_at: float = 0.0
    complete_since: float | None = None
    stored: Annotated[Mapping[str, tuple[int, int]], InJson] = field(default_factory=dict)
    indexed_until: str = ""

    @property
    def originals(self) -> int:
        """Number of published uploads that the last whole sweep counted."""
        return sum(self.stored.get(family, (0, 0))[0] for family in Family)

    @property
    def cursor(self) -> Cursor | None:
        """How far the current sweep got; None if no sweep is in progress."""
        if self.part is None:
            return None
        try:
            return Cursor(self.part, parse_any_id(self.after) if self.after else None, self.before)
        except InvalidId:
            return START  # of a format of a later version


SWEEP = HashRecord("sweep", SweepRecord, _KEY, "the sweep")


class SweepState:
    """The hash. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self) -> SweepRecord:
        """Return the record; an empty one if this version cannot read it, as after a loss of Redis."""
        return SWEEP.read_or_skip(as_text(await self._redis.execute("HGETALL", _KEY)), _KEY) or SweepRecord()

    async def history_complete_since(self, queue: TaskQueue, now: datetime, *, remember: bool) -> datetime:
        """Return since when Redis has lost no data. If that is unknown, return ``now`` and write it down.

        ``queue`` is that of uploads, which depend on no other. If it has lost tasks since the last call, a sweep from
        the start becomes due. Without ``remember`` nothing is written.
        """
        redis = self._redis
        loss = await queue.detect_data_loss(remember=remember)
        if loss is not None and remember:
            before = (await self.read()).complete_since
            if before is None:
                _log.info("sweep.redis_found_empty", at=loss.at)  # new, or without all that it had
            else:
                _log.warning("sweep.redis_data_lost", at=loss.at)
            since = max(loss.at, before or 0.0)
            await redis.execute("HSET", _KEY, "complete_since", f"{since:.3f}")
            await redis.execute("HDEL", _KEY, "finished_at", "part", "after", "before")
            await queue.clear_data_loss(loss)
        if remember:
            if SWEEP.read_or_skip(as_text(await redis.execute("HGETALL", _KEY)), _KEY) is None:
                await redis.execute("DEL", _KEY)  # else a sweep would be due again at once, and again
            await redis.execute("HSETNX", _KEY, "complete_since", f"{now.timestamp():.3f}")
        known = (await self.read()).complete_since
        since = now.timestamp() if known is None else known
        return datetime.fromtimestamp(since if loss is None else max(since, loss.at), UTC)

    async def note_indexed(self, until: str) -> None:
        """Record that the index objects of originals up to this key were checked; empty: of all."""
        await self._redis.execute("HSET", _KEY, "indexed_until", until)

    async def note_stored(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """Record the objects and bytes that a whole sweep counted."""
        await self._redis.execute("HSET", _KEY, "stored", json.dumps(stored))

    async def save(self, cursor: Cursor) -> None:
        """Record how far the current sweep got."""
        await self._redis.execute(
            "HSET", _KEY, "part", cursor.part, "after", str(cursor.after or ""), "before", cursor.before
        )

    async def finish(self, now: datetime) -> None:
        """Record that the current sweep has ended."""
        await self.note_whole_pass(now)
        await self._redis.execute("HDEL", _KEY, "part", "after", "before")

    async def note_whole_pass(self, now: datetime) -> None:
        """Record that a whole sweep has ended, for example one that an operator ran beside the current one."""
        await self._redis.execute("HSET", _KEY, "finished_at", f"{now.timestamp():.3f}")
