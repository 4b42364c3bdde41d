"""Undoes deletions, until their removal begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import DespiteUnreadable
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.tasks import PROCESSING_QUEUE, State, Status, processing_fields
from avion_media.items.deletion.journal import DeletionJournal
from avion_media.items.deletion.records import DeletionRecord, DeletionRecords, DeletionState, Undelete
from avion_media.items.deletion.replay import JournalReplay
from trio_redis import run_all

_AT_ONCE = 16


class Obstacle(StrEnum):
    """Why a media item stays deleted. The values are the fields of the contract's response."""

    NOT_DELETED = "not_deleted"
    GONE = "gone"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class StaysDeleted:
    """Why a media item stays deleted; ``text`` is for operators."""

    obstacle: Obstacle
    text: str

    def __str__(self) -> str:
        return self.text


_TOO_LATE = StaysDeleted(Obstacle.GONE, "too late: its objects are being removed, or are gone")


async def undelete(replay: JournalReplay, any_ids: Sequence[AnyId]) -> dict[str, StaysDeleted | None]:
    """Undo deletions. Return for each media item why it could not be undone, or None. After `Unavailable`, repeat it.

    Repeating is harmless; media that are already undeleted count as success. A removal that begins at the same moment
    wins. The journal is written after the records, and before this returns. If Redis loses its data in between, media
    that were not yet reported as undeleted are deleted again, and the caller repeats the undelete. An upload that was
    deleted while it was processed is processed again; if this ends before it is queued, the sweep queues it.
    """
    return await replay.with_complete_records(list(map(str, any_ids)), partial(_undelete, replay, any_ids))


async def _undelete(replay: JournalReplay, any_ids: Sequence[AnyId]) -> dict[str, StaysDeleted | None]:
    records, journal, items = replay.records, replay.journal, replay.items
    store, stored = items.store.get(), items.statuses
    names = {str(each): each for each in any_ids}
    found = await records.get_many(list(names))
    outcome = {media_id: _problem(found.get(media_id)) for media_id in names}
    already = {each: record for each, record in found.items() if record.state is DeletionState.UNDELETED}
    await _journal_again(journal, records, already)
    marked = [each for each in names if outcome[each] is None and each not in already]
    statuses = await stored.get_many(marked, despite_deletion=True)
    unfinished: list[str] = []

    async def check(media_id: str, status: Status | None) -> None:
        if status is not None and status.state is State.READY:
            return  # it exists
        any_id = names[media_id]
        uploaded = isinstance(any_id, MediaId) and await _may_exist(store, keys.incoming(any_id))
        if not uploaded and not await _may_exist(store, keys.original(any_id)):
            if await _may_exist(store, keys.block(media_id)):
                due = found[media_id].due.isoformat(timespec="seconds")
                text = f"it is blocked: unblock it first, before {due}"
                outcome[media_id] = StaysDeleted(Obstacle.BLOCKED, text)
            else:
                outcome[media_id] = StaysDeleted(Obstacle.GONE, "too late: its original is gone")
        elif uploaded or (status is not None and not status.state.final):
            unfinished.append(media_id)

    await run_all([partial(check, *each) for each in statuses.items()], _AT_ONCE)
    possible = {media_id: found[media_id].generation for media_id in statuses if outcome[media_id] is None}
    if not possible:
        return outcome
    issued = await records.issue_undelete()
    # Because of the deletion, the fetch of a remote media item could not publish how it ended. The store has the truth.
    stale = [each for each in unfinished if each in possible and not isinstance(names[each], MediaId)]
    await run_all([partial(stored.forget, each) for each in stale], _AT_ONCE)
    undeleted = await records.undelete(possible, issued)
    await journal.write_undeletes(undeleted, issued)
    outcome.update(dict.fromkeys(possible.keys() - undeleted.keys(), _TOO_LATE))
    # Without a dedup_key: the marker of the task that ended at the mark may still exist (`Queue.dedup_ttl_s`), and then
    # nothing would be queued. If that task has not ended yet, the new one is one attempt more, which is harmless.
    queue = items.queues[PROCESSING_QUEUE]
    again = [each for each in unfinished if each in undeleted and isinstance(names[each], MediaId)]
    await run_all([partial(queue.enqueue, processing_fields(each)) for each in again], _AT_ONCE)
    return outcome


async def _may_exist(store: ObjectStore, key: str) -> bool:
    """Return whether there is an object, or one that the store does not return: an undelete only changes the record."""
    with DespiteUnreadable():
        return await store.exists(key)
    return True


async def _journal_again(
    journal: DeletionJournal, records: DeletionRecords, already: Mapping[str, DeletionRecord]
) -> None:
    """Write the journal for media that are already undeleted: the process that undeleted them may have crashed before
    it wrote the journal."""
    by_undelete: dict[Undelete, dict[str, int]] = {}
    for media_id, record in already.items():
        issued = Undelete(record.undeleted_at_ms, record.undeleted_through)
        by_undelete.setdefault(issued, {})[media_id] = record.generation
    for issued, generations in by_undelete.items():
        await journal.write_undeletes(await records.undelete(generations, issued), issued)


def _problem(record: DeletionRecord | None) -> StaysDeleted | None:
    if record is None:
        return StaysDeleted(Obstacle.NOT_DELETED, "it is not deleted")
    return _TOO_LATE if record.is_removed else None
