"""Find which of the media items that a sweep would act on still have a task.

Most are found by the dedup marker of their task. The others, such as tasks that another service queued, are found by a
scan of their queue. So the memory and the time of a sweep depend on what it would do, not on how many tasks wait.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from avion_media.backends.queue.dead_letter_index import visit_tasks_of
from avion_media.backends.queue.task_scan import FoundTask, TaskLocation
from avion_media.backends.redis import Redis
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.items.item import Items


@dataclass(frozen=True, slots=True)
class MediaTasks:
    """Media items with a task to make them, with a dead letter, and with a task to remove them."""

    making: Collection[str] = ()
    given_up: Collection[str] = ()
    removing: Collection[str] = ()


async def find_tasks(
    items: Items,
    *,
    uploads: Collection[str],
    remote: Collection[str],
    deleted: Collection[str],
    complete_since: datetime,
) -> MediaTasks:
    """Find the tasks of these media items. Raises `Unavailable`.

    The dedup marker of an upload's task counts if the task was queued after ``complete_since``, when tasks were last
    lost. Dead letters do not count for ``deleted``: their objects must be removed, and a second removal is harmless.
    """
    redis, queued_at = items.redis, await items.queues[PROCESSING_QUEUE].queued_at(uploads)
    known = {name for name, at in queued_at.items() if at > complete_since.timestamp()}
    alive, given_up = await scan_queue(redis, PROCESSING_QUEUE, set(uploads) - known)
    fetched, not_fetched = await scan_queue(redis, CACHE_QUEUE, set(remote))
    removing, _ = await scan_queue(redis, DELETE_QUEUE, set(deleted))
    return MediaTasks(known | alive | fetched, given_up | not_fetched, removing)


async def scan_queue(redis: Redis, queue: str, wanted: set[str]) -> tuple[set[str], set[str]]:
    """Return which of these media items have a task in the queue, and which have a dead letter."""
    alive: set[str] = set()
    given_up: set[str] = set()

    def visit(found: FoundTask) -> bool:
        subject = found.subject
        if subject in wanted:
            (given_up if found.location is TaskLocation.DEAD_LETTERS else alive).add(subject)
        return len(alive) < len(wanted)

    if wanted:
        await visit_tasks_of(redis, queue, wanted, visit)
    return alive, given_up
