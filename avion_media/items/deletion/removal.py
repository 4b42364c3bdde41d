"""``media_delete_queue``: remove the objects of deleted media after the delay.

A task of this service belongs to one deletion, and is ignored if that deletion was undone. A task that another service
queued is a deletion, too: it is marked first, and then its objects are removed at once.
"""

from __future__ import annotations

from avion_media.common.errors import Deferred
from avion_media.common.ids import parse_any_id
from avion_media.common.tasks import EnsureLease, Task, TaskHandler, id_of
from avion_media.items.deletion.names import generation_of
from avion_media.items.deletion.replay import JournalReplay


class RemoveDeleted(TaskHandler):
    """See `TaskHandler`."""

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
            (mark,) = marks = await records.mark([media_id], delay_s=0, at_once=True)
            await self._replay.journal.write_marks(marks, "")
            generation = mark.generation
        while (removal := await records.begin_removal(media_id, generation)).unknown:
            await self._replay.ensure_complete()
        if removal.early_s:
            raise Deferred("the delay of the deletion is not over", removal.early_s)
        if not removal.may_go:
            return  # undone, or deleted again: the new deletion has its own task
        sizes = await items.remove_objects(any_id)
        await items.purge(media_id, f"removed.{generation}", sizes)  # again: a response in flight may have been cached
        await records.finish_removal(media_id, generation, self._removed_ttl_s)
        await items.events.publish("media.deleted", media_id, {})
