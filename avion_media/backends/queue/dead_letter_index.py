"""Finds the dead letters of media items without reading all dead letters.

The index is filled from the stream of dead letters, so it also has those that other services wrote. It is a sorted set
in which all members have the score 0, so that Redis orders them as strings: for each dead letter its subject, NUL and
its entry id, and one member that says how far the stream was read. Whatever looks into the index first reads on. A dead
letter that was replayed, dropped or trimmed leaves its member behind, until a lookup meets it or there are too many of
them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from avion_media.backends.queue import scripts
from avion_media.backends.queue.entries import read_entry
from avion_media.backends.queue.names import QueueKeys
from avion_media.backends.queue.task_scan import FoundTask, TaskLocation, Visit, scan_tasks
from avion_media.backends.redis import Argument, Redis, Reply

_PAGE = 200  # dead letters read at once: 3 ms
_AT_ONCE = 500  # subjects that one script looks up, and dead letters that it returns
_STALE = 10_000  # members that may be too many, beside as many as there are dead letters
_PRUNED = 500  # members that are checked at once when there are more
_READ_UNTIL = b"\0"  # what the member begins with that says how far the stream was read


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
        return FoundTask(self._queue, TaskLocation.DEAD_LETTERS, read_entry(row[0], row[1]))


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
