"""Reads every task of a queue that has not ended: in its stream, backlog and delayed set. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from avion_media.backends.queue.entries import DELAYED, WAITING, QueueEntry, read_entry
from avion_media.backends.queue.names import QueueKeys
from avion_media.backends.redis import Redis, RedisRefused
from avion_media.backends.remote import InvalidUrl, parse_remote_url
from avion_media.common.ids import InvalidId, parse_any_id, remote_id_for
from avion_media.common.tasks import CACHE_QUEUE, CONSUMER_GROUP

_NAMED_BYTES = 80
_PAGE = 200  # read in 3 ms: other work in this process does not wait longer than that


class TaskLocation(StrEnum):
    """Where a task is stored."""

    STREAM = "stream"
    WAITING = "waiting"
    DELAYED = "delayed"
    DEAD_LETTERS = "dead letters"


@dataclass(frozen=True, slots=True)
class FoundTask:
    """One task. Only a delayed task has ``due_at`` (Unix seconds), and only entries of streams have an id."""

    queue: str
    location: TaskLocation
    entry: QueueEntry
    due_at: float | None = None

    @property
    def subject(self) -> str | None:
        """The id of its media item; None if it has none."""
        fields = self.entry.task.fields
        try:
            if self.queue == CACHE_QUEUE:
                return str(remote_id_for(str(parse_remote_url(fields.get("remote_url", "")))))
            return str(parse_any_id(fields.get("media_id", "")))
        except (InvalidId, InvalidUrl):
            return None


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """Which worker has an entry."""

    consumer: str
    idle_s: float
    deliveries: int


Visit = Callable[[FoundTask], bool]
"""Called with each task. Returns whether to continue."""


async def scan_tasks(redis: Redis, queue: str, visit: Visit) -> bool:
    """Call ``visit`` with all tasks of a queue that have not ended. Return whether it was called with the last one.

    Tasks that move during the scan may be visited twice. The locations that a task can come from or move to are read
    before and after the stream, so a task is missed only if it leaves the stream and comes back during the scan.
    Raises `Unavailable`.
    """
    return (
        await _each_delayed(redis, queue, visit)
        and await _each_waiting(redis, queue, visit)
        and await _each_entry(redis, queue, visit)
        and await _each_waiting(redis, queue, visit)
        and await _each_delayed(redis, queue, visit)
    )


async def lease_info(redis: Redis, queue: str, entry_id: str) -> LeaseInfo | None:
    """Return the lease of an entry of the stream; None if no worker has taken it yet. Raises `Unavailable`."""
    try:
        rows = await redis.execute("XPENDING", queue, CONSUMER_GROUP, entry_id, entry_id, 1)
    except RedisRefused as refused:
        if refused.code != "NOGROUP":
            raise
        return None
    if not rows:
        return None
    _, consumer, idle_ms, deliveries = rows[0]
    return LeaseInfo(consumer.decode(errors="replace"), idle_ms / 1000, deliveries)


async def _each_entry(redis: Redis, queue: str, visit: Visit) -> bool:
    start = "-"
    while True:
        rows = await redis.execute("XRANGE", queue, start, "+", "COUNT", _PAGE)
        for row in rows:
            if not visit(FoundTask(queue, TaskLocation.STREAM, read_entry(row[0], row[1]))):
                return False
        if len(rows) < _PAGE:
            return True
        start = f"({rows[-1][0].decode()}"


async def _each_waiting(redis: Redis, queue: str, visit: Visit) -> bool:
    key, start = QueueKeys(queue).waiting, b"-"
    while True:
        members = await redis.execute("ZRANGE", key, start, "+", "BYLEX", "LIMIT", 0, _PAGE)
        for member in members:
            # The empty member only keeps the key in existence.
            entry = WAITING.read_or_skip(member, f"{key} {_named(member)}") if member else None
            if entry is not None and not visit(FoundTask(queue, TaskLocation.WAITING, entry)):
                return False
        if len(members) < _PAGE:
            return True
        start = b"(" + members[-1]


async def _each_delayed(redis: Redis, queue: str, visit: Visit) -> bool:
    key, cursor = QueueKeys(queue).delayed, b"0"
    while True:
        cursor, found = await redis.execute("ZSCAN", key, cursor, "COUNT", _PAGE)
        for member, due_at in zip(found[::2], found[1::2], strict=True):
            entry = DELAYED.read_or_skip(member, f"{key} {_named(member)}")
            if entry is not None and not visit(FoundTask(queue, TaskLocation.DELAYED, entry, float(due_at))):
                return False
        if cursor == b"0":
            return True


def _named(member: bytes) -> str:
    """Return how a log names a member that cannot be read."""
    return member[:_NAMED_BYTES].decode(errors="replace")
