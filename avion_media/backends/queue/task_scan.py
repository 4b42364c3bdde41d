"""Finds tasks: all of a queue that have not ended, and the dead letters of media items without reading all of them.

The index of dead letters is filled from their stream, so it also has those that other services wrote. It is a sorted
set in which all members have the score 0, so that Redis orders them as strings: for each dead letter its subject, NUL
and its entry id, and one member that says how far the stream was read. Whatever looks into the index first reads on. A
dead letter that was replayed, dropped or trimmed leaves its member behind, until a lookup meets it or there are too
many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from avion_media.backends.queue import scripts
from avion_media.backends.queue.entries import DELAYED, WAITING, QueueEntry, QueueKeys
from avion_media.backends.redis import Argument, Redis, RedisRefused, Reply
from avion_media.backends.remote import InvalidUrl, parse_remote_url
from avion_media.common.ids import InvalidId, parse_any_id, remote_id_for
from avion_media.common.tasks import CACHE_QUEUE, CONSUMER_GROUP, Task

_NAMED_BYTES = 80
_PAGE = 200  # tasks or dead letters, read in 3 ms: other work in this process does not wait longer than that
_AT_ONCE = 500  # subjects that one script looks up, and dead letters that it returns
_STALE = 10_000  # members that may be too many, beside as many as there are dead letters
_PRUNED = 500  # members that are checked at once when there are more
_READ_UNTIL = b"\0"  # what the member begins with that says how far the stream was read


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
        return subject_of(self.queue, self.entry.task)


def subject_of(queue: str, task: Task) -> str | None:
    """Return the id of a task's media item; None if it has none."""
    try:
        if queue == CACHE_QUEUE:
            return str(remote_id_for(str(parse_remote_url(task.fields.get("remote_url", "")))))
        return str(parse_any_id(task.fields.get("media_id", "")))
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
            if not visit(FoundTask(queue, TaskLocation.STREAM, QueueEntry.read(row[0], row[1]))):
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


class DeadLetterIndex:
    """The dead letters of one queue by subject. Every method raises `Unavailable` while Redis is unavailable.

    A cancel leaves an index from which the next call reads on.
    """

    def __init__(self, redis: Redis, queue: str) -> None:
        self._redis = redis
        self._queue = queue
        self._stream = QueueKeys(queue).dead_letters
        self._key = QueueKeys(queue).dead_letter_index

    async def advance(self) -> None:
        """Read the dead letters that came since the last call of any replica: 10,000 take half a second."""
        size: int = await self._redis.execute("ZCARD", self._key)
        if size > 2 * await self._redis.execute("XLEN", self._stream) + _STALE:
            await self._redis.run(scripts.PRUNE_INDEX, (self._key, self._stream), (_PRUNED,))
        while await self._read_on() == _PAGE:
            pass

    async def _read_on(self) -> int:
        """Read the next page. Return how many dead letters it had."""
        marks = await self._redis.execute("ZRANGE", self._key, b"[" + _READ_UNTIL, b"(\1", "BYLEX")
        # Two replicas may have read at the same time. What both have read is what the slower one has read.
        start = b"(" + min((each[1:] for each in marks), key=_order) if marks else b"-"
        rows: Sequence[Reply] = await self._redis.execute("XRANGE", self._stream, start, "+", "COUNT", _PAGE)
        if rows:
            found = [(self._read(row).subject, row[0]) for row in rows]
            members = [subject.encode() + b"\0" + entry_id for subject, entry_id in found if subject]
            members.append(_READ_UNTIL + rows[-1][0])
            await self._redis.execute(
                "ZADD", self._key, *[part for each in members for part in (0, each)], when_full=True
            )
            if marks:
                await self._redis.execute("ZREM", self._key, *marks)
        return len(rows)

    async def find(self, subjects: Collection[str]) -> list[FoundTask]:
        """Return the dead letters of these media items, in any order."""
        await self.advance()
        names, last = list(subjects), b""
        found = []
        while names:
            args: tuple[Argument, ...] = (_AT_ONCE, last, *names[:_AT_ONCE])
            members: list[bytes] = await self._redis.run(scripts.FIND_INDEXED, (self._key,), args)
            last = members[-1] if len(members) == _AT_ONCE else b""  # else these subjects have no more
            del names[: names.index(last.partition(b"\0")[0].decode()) if last else _AT_ONCE]
            for member in members:
                _, _, entry_id = member.partition(b"\0")
                rows = await self._redis.execute("XRANGE", self._stream, entry_id, entry_id)
                if rows:
                    found.append(self._read(rows[0]))
                else:
                    await self._redis.execute("ZREM", self._key, member)
        return found

    def _read(self, row: Reply) -> FoundTask:
        return FoundTask(self._queue, TaskLocation.DEAD_LETTERS, QueueEntry.read(row[0], row[1]))


async def visit_tasks_of(redis: Redis, queue: str, subjects: Collection[str], visit: Visit) -> None:
    """Call ``visit`` with the dead letters of these media items, and as `scan_tasks` with all that has not ended.

    A task may be given up, or a dead letter replayed, during the scan. So the dead letters come before it and after
    it, and some are visited twice.
    """
    index = DeadLetterIndex(redis, queue)
    for found in await index.find(subjects):
        visit(found)
    await scan_tasks(redis, queue, visit)
    for found in await index.find(subjects):
        visit(found)


def _order(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))
