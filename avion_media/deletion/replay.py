"""Reading the journal again, once Redis has lost what it knew of deletions."""

from __future__ import annotations

from functools import partial

from avion_media.concurrency import in_turn
from avion_media.deletion.handler import schedule_removals
from avion_media.deletion.journal import DeletionJournal, JournalEntry
from avion_media.deletion.records import DeletionRecords, Mark, Undelete
from avion_media.domain.tasks import DELETE_QUEUE
from avion_media.queue import TaskQueue
from avion_media.redis import Redis, RedisRefused
from avion_media.telemetry import get_logger

_KEY = "media_deletion_journal"  # hash: for which server processes the journal was read
_AT_ONCE = 16
_log = get_logger(path="service/sweeper")


class JournalReplay:
    """Raises `Unavailable` while the store or Redis is unavailable; what was restored until then stays."""

    def __init__(self, redis: Redis, journal: DeletionJournal) -> None:
        self._redis = redis
        self._journal = journal

    async def run_if_lost(self) -> bool:
        """Replay the journal if another server process holds the records than at the last call, or if all is gone."""
        redis = self._redis
        processes = await _server_processes(redis)
        if await redis.execute("HGET", _KEY, "processes") == processes.encode():
            return False
        await self.run()
        await redis.execute("HSET", _KEY, "processes", processes)
        return True

    async def run(self) -> None:
        """Restore every record of the journal that is lost, and queue the removals."""
        redis = self._redis
        records, queue = DeletionRecords(redis), TaskQueue(redis, DELETE_QUEUE)
        restored = 0
        async for entry in self._journal.entries():
            restored += await _restore(records, queue, entry)
        if restored:
            _log.warning("deletions.restored", media=restored)


async def _restore(records: DeletionRecords, queue: TaskQueue, entry: JournalEntry) -> int:
    standing: list[Mark] = []

    async def restore_mark(mark: Mark) -> None:
        if await records.restore_mark(mark, entry.position):
            standing.append(mark)

    await in_turn([partial(restore_mark, mark) for mark in entry.marks], _AT_ONCE)
    await schedule_removals(queue, standing)
    if entry.issued is not None:
        restore = partial(_restore_undelete, records, entry.issued)
        await in_turn([partial(restore, *each) for each in entry.undeleted], _AT_ONCE)
    return len(standing)


async def _restore_undelete(records: DeletionRecords, issued: Undelete, media_id: str, generation: int) -> None:
    await records.restore_undelete(media_id, generation, issued)


async def _server_processes(redis: Redis) -> str:
    """The ids of the server processes that hold keys; empty where they do not tell."""
    try:
        replies = await redis.execute_on_all("INFO", "server")
    except RedisRefused:
        return "unknown"
    lines = [line for reply in replies.values() for line in reply.decode(errors="replace").splitlines()]
    return " ".join(sorted(line.removeprefix("run_id:") for line in lines if line.startswith("run_id:")))
