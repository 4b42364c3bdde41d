"""Which media the queues still name: one look at the queues for a whole pass, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.domain.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.redis import Redis
from avion_media.tasks.waiting import FoundTask, Place, each_task

MAX_TASKS = 200_000  # in each index: some 20 MB


@dataclass(frozen=True, slots=True)
class KnownTasks:
    """Media with a task to make them, with one that was given up, and with one to remove them.

    With a longer queue than the index holds, each candidate is asked for by its own key: see `Reconciliation`. Then
    nothing is removed, since a task of another service has no such key.
    """

    making: frozenset[str]
    given_up: frozenset[str]
    removing: frozenset[str]
    making_complete: bool = True

    def has_task(self, name: str) -> bool:
        """Return whether a task to make the medium waits or runs, as far as the index goes."""
        return name in self.making

    def has_deletion(self, name: str) -> bool:
        """Return whether a task to remove the medium waits or runs, as far as the index goes.

        Dead letters do not count: it must go. A removal that is queued again beside one that waits does no harm.
        """
        return name in self.removing

    def doubts(self) -> list[str]:
        """Return what is uncertain, for an operator."""
        if self.making_complete:
            return []
        return ["too many tasks wait to index them: lost tasks and deletions were looked for, and nothing was removed"]


async def look_at_queues(redis: Redis, max_tasks: int = MAX_TASKS) -> KnownTasks:
    """Index the queues. Raises `Unavailable`."""
    making = _Index(max_tasks)
    removing = _Index(max_tasks)
    making_complete = await each_task(redis, PROCESSING_QUEUE, making.visit)
    making_complete = making_complete and await each_task(redis, CACHE_QUEUE, making.visit)
    await each_task(redis, DELETE_QUEUE, removing.visit)
    return KnownTasks(
        frozenset(making.alive),
        frozenset(making.given_up),
        frozenset(removing.alive),
        making_complete,
    )


class _Index:
    def __init__(self, max_tasks: int) -> None:
        self._max_tasks = max_tasks
        self.alive: set[str] = set()
        self.given_up: set[str] = set()

    def visit(self, found: FoundTask) -> bool:
        subject = found.subject
        if subject is not None:
            (self.given_up if found.place is Place.DEAD_LETTERS else self.alive).add(subject)
        return len(self.alive) + len(self.given_up) < self._max_tasks
