"""The tasks given up, for operators: look at them, put them back, drop them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from avion_media.queue import scripts
from avion_media.queue.entries import read_entry
from avion_media.queue.names import QueueKeys
from avion_media.redis import Redis, Reply

_ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One task that was given up. Times are Unix seconds."""

    entry_id: str
    task_id: str
    fields: dict[str, str]
    error: str
    attempts: int
    first_seen: float
    failed_at: float
    replays: int
    traceparent: str


class DeadLetters:
    """The dead letters of one queue. Every method raises `Unavailable` while Redis is away."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def newest(self, count: int = 100, before: str = "") -> list[DeadLetter]:
        """Up to ``count`` of them, newest first, before the one with the id ``before``."""
        start = f"({before}" if before else "+"
        rows = await self._redis.execute("XREVRANGE", self._keys.dead_letters, start, "-", "COUNT", count)
        return [_read(row) for row in rows]

    async def list(self, count: int = 100, after: str = "") -> list[DeadLetter]:
        """Up to ``count`` of them, oldest first, behind the one with the id ``after``."""
        start = f"({after}" if after else "-"
        rows = await self._redis.execute("XRANGE", self._keys.dead_letters, start, "+", "COUNT", count)
        return [_read(row) for row in rows]

    async def show(self, entry_id: str) -> DeadLetter | None:
        """One of them; None when there is none of that id."""
        if not _ENTRY_ID.fullmatch(entry_id):
            return None
        rows = await self._redis.execute("XRANGE", self._keys.dead_letters, entry_id, entry_id)
        return _read(rows[0]) if rows else None

    async def replay(self, entry_id: str) -> bool:
        """Queue it again, with all attempts and its history. False when there is none of that id."""
        if not _ENTRY_ID.fullmatch(entry_id):
            return False
        keys = (*self._keys.dispatch, self._keys.dead_letters)
        return bool(await self._redis.run(scripts.REPLAY, keys, (entry_id,)))

    async def drop(self, entry_id: str) -> bool:
        """Remove it for good. False when there is none of that id."""
        if not _ENTRY_ID.fullmatch(entry_id):
            return False
        return bool(await self._redis.execute("XDEL", self._keys.dead_letters, entry_id))


def _read(row: Reply) -> DeadLetter:
    entry = read_entry(row[0], row[1])
    return DeadLetter(
        entry_id=entry.entry_id,
        task_id=entry.task.task_id,
        fields=entry.task.fields,
        error=entry.error,
        attempts=entry.attempts,
        first_seen=entry.first_seen,
        failed_at=entry.failed_at,
        replays=entry.replays,
        traceparent=entry.task.traceparent,
    )
