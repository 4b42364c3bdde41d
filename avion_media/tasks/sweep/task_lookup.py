"""Which of the media that a sweep would act on still have a task.

Most are answered by the key of their task. The others, such as those that another service queued, are looked for by a
walk over their queue. So the memory and the time that a sweep needs follow from what it would do, not from how many
tasks wait, and it is never uncertain.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from avion_media.domain.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.queue import TaskQueue
from avion_media.redis import Redis
from avion_media.tasks.waiting import FoundTask, Place, each_task


@dataclass(frozen=True, slots=True)
class MediaTasks:
    """Media with a task to make them, with one that was given up, and with one to remove them."""

    making: Collection[str] = ()
    given_up: Collection[str] = ()
    removing: Collection[str] = ()


async def find_tasks(
    redis: Redis,
    *,
    uploads: Collection[str],
    remote: Collection[str],
    deleted: Collection[str],
    complete_since: datetime,
) -> MediaTasks:
    """Find the tasks of these media. Raises `Unavailable`.

    The key of an upload's task counts if the task was queued after ``complete_since``, when tasks were last lost. Dead
    letters do not count for ``deleted``: they must go, and a removal that is queued again does no harm.
    """
    queued_at = await TaskQueue(redis, PROCESSING_QUEUE).queued_at(uploads)
    known = {name for name, at in queued_at.items() if at > complete_since.timestamp()}
    alive, given_up = await _walk(redis, PROCESSING_QUEUE, set(uploads) - known)
    fetched, not_fetched = await _walk(redis, CACHE_QUEUE, set(remote))
    removing, _ = await _walk(redis, DELETE_QUEUE, set(deleted))
    return MediaTasks(known | alive | fetched, given_up | not_fetched, removing)


async def _walk(redis: Redis, queue: str, wanted: set[str]) -> tuple[set[str], set[str]]:
    """Return which of the media have a task in the queue, and which a dead letter."""
    alive: set[str] = set()
    given_up: set[str] = set()

    def visit(found: FoundTask) -> bool:
        subject = found.subject
        if subject in wanted:
            (given_up if found.place is Place.DEAD_LETTERS else alive).add(subject)
        return len(alive) < len(wanted)

    if wanted:
        await each_task(redis, queue, visit)
    return alive, given_up
