"""Finds tasks: all of a queue that have not ended, and the dead letters of media items without reading all of them.

The script that makes a dead letter writes it into an index: a sorted set in which all members have the score 0, so that
Redis orders them as strings. A member is the id of a media item, NUL, and the id of the dead letter, which may be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

from avion_media.backends.queue import scripts
from avion_media.backends.queue.entries import DELAYED, WAITING, QueueEntry, QueueKeys
from avion_media.backends.redis import Argument, Redis, RedisRefused
from avion_media.common.tasks import CONSUMER_GROUP, owner_in

_NAMED_BYTES = 80
_PAGE = 200  # tasks or dead letters, read in 3 ms: other work in this process does not wait longer than that
_AT_ONCE = 500  # subjects that one script looks up, and dead letters that it returns


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
    def tenant(self) -> str:
        """Its tenant; before it has one, its owner."""
        return self.entry.tenant or owner_in(self.entry.task)


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


async def find_tasks(redis: Redis, queue: str, is_wanted: Callable[[FoundTask], bool], most: int) -> list[FoundTask]:
    """Return up to ``most`` wanted tasks that have not ended, each once, in any order. Raises `Unavailable`."""
    found: dict[str, FoundTask] = {}

    def visit(task: FoundTask) -> bool:
        if is_wanted(task):
            found[task.entry.task.task_id] = task
        return len(found) < most

    await scan_tasks(redis, queue, visit)
    return list(found.values())


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


async def find_dead_letters(redis: Redis, queue: str, subjects: Collection[str]) -> list[FoundTask]:
    """Return the dead letters of these media items, in any order. Raises `Unavailable`."""
    keys, names, last = QueueKeys(queue), list(subjects), b""
    found = []
    while names:
        args: tuple[Argument, ...] = (_AT_ONCE, last, *names[:_AT_ONCE])
        members: list[bytes] = await redis.run(scripts.FIND_INDEXED, (keys.dead_letter_index,), args)
        last = members[-1] if len(members) == _AT_ONCE else b""  # else these subjects have no more
        del names[: names.index(last.partition(b"\0")[0].decode()) if last else _AT_ONCE]
        for member in members:
            _, _, entry_id = member.partition(b"\0")
            rows = await redis.execute("XRANGE", keys.dead_letters, entry_id, entry_id)
            found += [FoundTask(queue, TaskLocation.DEAD_LETTERS, QueueEntry.read(row[0], row[1])) for row in rows]
    return found


async def visit_tasks_of(redis: Redis, queue: str, subjects: Collection[str], visit: Visit) -> None:
    """Call ``visit`` with the dead letters of these media items, and as `scan_tasks` with all that has not ended.

    A task may be given up, or a dead letter replayed, during the scan. So the dead letters come before it and after
    it, and some are visited twice.
    """
    for found in await find_dead_letters(redis, queue, subjects):
        visit(found)
    await scan_tasks(redis, queue, visit)
    for found in await find_dead_letters(redis, queue, subjects):
        visit(found)
