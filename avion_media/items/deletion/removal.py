"""The two steps of a deletion: media disappear at once, and their objects are removed after a delay.

`NoticeHandler` takes the first step for notices of ``drop_deleted``, and `delete` for DeleteMedia. The second step is a
task on ``media_delete_queue``, whose handler is `RemoveDeleted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from avion_media.common import keys
from avion_media.common.errors import Deferred
from avion_media.common.ids import RemoteId, UnknownFormat, parse_any_id
from avion_media.common.tasks import EnsureLease, Task, TaskHandler, id_of
from avion_media.common.telemetry import instruments
from avion_media.items.deletion.notices import Notice
from avion_media.items.deletion.records import Mark, generation_of
from avion_media.items.deletion.replay import JournalReplay
from trio_redis import run_all
from trio_telemetry import get_logger

_AT_ONCE = 16
_LOGGED = 20  # media items of one notice that are logged one by one
_log = get_logger()


async def delete(replay: JournalReplay, media_ids: Sequence[str], delay_s: float, owner: str = "") -> list[str]:
    """Delete media for a call, like a notice that is issued now. Return those that ``owner`` is not known to have.

    They stay as they are. Of all others, records and journal have the deletion when this returns. After `Unavailable`
    or a cancel they may have some: repeat it.
    """
    others = await _not_of(replay, media_ids, owner) if owner else []
    media = tuple(each for each in dict.fromkeys(media_ids) if each not in others)
    notice = Notice(media, lower_bound_ms=await replay.records.now_ms())
    await NoticeHandler(replay, delay_s).handle(notice)
    return others


async def _not_of(replay: JournalReplay, media_ids: Sequence[str], owner: str) -> list[str]:
    """Return the media that do not name this owner, in order. Of what has been removed, nothing names one any more."""

    async def owner_of(media_id: str) -> str:
        try:
            return await replay.items.owner_of(parse_any_id(media_id))
        except UnknownFormat:
            return ""

    unique = list(dict.fromkeys(media_ids))
    owners = await run_all([partial(owner_of, each) for each in unique], _AT_ONCE)
    others = [media_id for media_id, found in zip(unique, owners, strict=True) if found != owner]
    records = await replay.records.get_many(others)
    return [each for each in others if each not in records or not records[each].is_removed]


class RemoveDeleted(TaskHandler):
    """The handler of ``media_delete_queue``: removes the objects of deleted media. See `TaskHandler`.

    A task of this service belongs to one deletion, and is ignored if that deletion was undone. A task that another
    service queued is a deletion, too: it is marked first, and then its objects are removed at once.
    """

    def __init__(self, replay: JournalReplay, removed_ttl_s: float) -> None:
        self._replay = replay
        self._items = replay.items
        self._removed_ttl_s = removed_ttl_s

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        """See `TaskHandler.run`. Removing objects twice is harmless."""
        any_id = id_of(task, parse_any_id)
        media_id = str(any_id)
        items, records = self._items, self._replay.records
        generation = generation_of(task.task_id, media_id)
        if generation is None:
            (mark,) = marks = await records.mark([media_id], delay_s=0, regardless=True)
            await self._replay.journal.write_marks(marks, "")
            generation = mark.generation
        while (removal := await records.begin_removal(media_id, generation)).unknown:
            await self._replay.ensure_complete()
        if removal.early_s:
            raise Deferred("the delay of the deletion is not over", removal.early_s)
        if not removal.may_go:
            return  # undone, or deleted again: the new deletion has its own task
        if isinstance(any_id, RemoteId):
            await self._note_public(any_id)
        sizes = await items.remove_objects(any_id)
        await items.purge(media_id, f"removed.{generation}", sizes)  # again: a response in flight may have been cached
        await records.finish_removal(media_id, generation, self._removed_ttl_s)
        await items.events.publish("media.deleted", media_id, {})

    async def _note_public(self, remote_id: RemoteId) -> None:
        """Note that a remote file was public, before nothing shows it any more. Of others the origin admits nothing."""
        store = self._items.store.get()
        shown = keys.original(remote_id), keys.was_public(remote_id, deleted=False)
        if any([await store.exists(key) for key in shown]):
            await store.put(keys.was_public(remote_id, deleted=True), b"", content_type="application/octet-stream")


class NoticeHandler:
    """Carries out notices of ``drop_deleted``. Any replica can repeat one, without any effect."""

    def __init__(self, replay: JournalReplay, delay_s: float) -> None:
        self._replay = replay
        self._items = replay.items
        self._records = replay.records
        self._journal = replay.journal
        self._telemetry = replay.items.telemetry
        self._delay_s = delay_s

    async def handle(self, notice: Notice) -> None:
        """Mark the media items as deleted, queue their removal, write the journal, and purge.

        After `Unavailable`, handle it again. If Redis loses its data meanwhile, every step is done again, because a
        replay of the journal may have come too early to see this notice. All steps can be repeated.
        """
        if notice.problem:
            self._telemetry.count(instruments.DELETIONS_MALFORMED)
            _log.warning("deletion.malformed", problem=notice.problem, entry_id=notice.position)
        if not notice.media_ids:
            return
        marks = await self._replay.with_complete_records(notice.media_ids, partial(self._delete, notice))
        # Not only fresh ones: the replica that marked a media item may have crashed before this step.
        purge = self._items.purge
        await run_all([partial(purge, each.media_id, f"dropped.{each.generation}") for each in marks], _AT_ONCE)

    async def _delete(self, notice: Notice) -> list[Mark]:
        marks = await self._records.mark(
            notice.media_ids,
            delay_s=self._delay_s,
            position=notice.position,
            lower_bound_ms=notice.lower_bound_ms,
        )
        fresh = [each.media_id for each in marks if each.fresh]
        self._telemetry.count(instruments.DELETIONS, len(fresh))
        for media_id in fresh[:_LOGGED]:
            _log.info("deletion.applied", media_id=media_id)
        if len(fresh) > _LOGGED:
            _log.info("deletion.applied", media=len(fresh))
        ignored = len(notice.media_ids) - len(marks)
        if ignored:
            _log.info("deletion.already_undone", media=ignored, entry_id=notice.position)
        await self._replay.schedule_removals(marks)
        await self._journal.write_marks(marks, notice.position)
        return marks
