"""Removals of deletions, as delayed tasks."""

from __future__ import annotations

from collections.abc import Sequence

from avion_media.backends.queue import TaskQueue
from avion_media.items.deletion.names import removal_id
from avion_media.items.deletion.records import Mark


async def schedule_removals(queue: TaskQueue, marks: Sequence[Mark]) -> None:
    """Queue the removals of these deletions for their due time. Repeating it adds nothing."""
    await queue.delay_all(
        [
            ({"media_id": each.media_id}, removal_id(each.media_id, each.generation), each.due_ms / 1000)
            for each in marks
        ]
    )
