"""Carries out one decision. Before it removes anything, it checks again that the decision still holds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from avion_media.backends.queue.entries import subject_of
from avion_media.backends.queue.task_scan import FoundTask, TaskLocation, visit_tasks_of
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import SERVICE_FAULTS
from avion_media.common.ids import parse_any_id
from avion_media.common.tasks import CACHE_QUEUE, PROCESSING_QUEUE, State, Status, processing_fields
from avion_media.items.deletion import JournalReplay, Mark
from avion_media.items.item import Items
from avion_media.items.state.status_store import key_of
from avion_media.workers.sweep.policy import SweepDecision, SweepReason

_REMOVAL_QUEUED_MS = 6 * 3_600_000  # a removal that still waits is not queued again before
LISTED_PRECISION = timedelta(seconds=1)  # listings have milliseconds, HEAD has whole seconds


@dataclass(frozen=True, slots=True)
class MediaTasks:
    """Media items with a task to make them, and with a dead letter."""

    making: Collection[str] = ()
    given_up: Collection[str] = ()


async def find_tasks(
    items: Items,
    *,
    uploads: Collection[str],
    remote: Collection[str],
    complete_since: datetime,
) -> MediaTasks:
    """Find the tasks of these media items. Raises `Unavailable`.

    The dedup marker of an upload's task counts if the task was queued after ``complete_since``, when tasks were last
    lost.
    """
    queued_at = await items.queues[PROCESSING_QUEUE].queued_at(uploads)
    known = {name for name, at in queued_at.items() if at > complete_since.timestamp()}
    alive, given_up = await scan_queue(items, PROCESSING_QUEUE, set(uploads) - known)
    fetched, not_fetched = await scan_queue(items, CACHE_QUEUE, set(remote))
    return MediaTasks(known | alive | fetched, given_up | not_fetched)


async def scan_queue(items: Items, queue: str, wanted: set[str]) -> tuple[set[str], set[str]]:
    """Return which of these media items have a task in the queue, and which have a dead letter."""
    alive: set[str] = set()
    given_up: set[str] = set()

    def visit(found: FoundTask) -> bool:
        subject = subject_of(queue, found.entry.task, items.remote_ids)
        if subject in wanted:
            (given_up if found.location is TaskLocation.DEAD_LETTERS else alive).add(subject)
        return len(alive) < len(wanted)

    if wanted:
        await visit_tasks_of(items.redis, queue, wanted, visit)
    return alive, given_up


class SweepActions:
    """Every action can be repeated. Raises `Unavailable` if the object store or Redis is unavailable."""

    def __init__(self, replay: JournalReplay, limiter: RateLimiter, clock: Callable[[], datetime]) -> None:
        self._replay = replay
        self._items = replay.items
        self._limiter = limiter
        self._clock = clock

    async def requeue(self, decision: SweepDecision, looked_at: datetime) -> bool:
        """Queue a task that was in no queue at ``looked_at``. If one was queued since then, add nothing.

        Return False if nothing needs to be done. The removal of a deleted media item may be in its queue: its id tells
        those that wait for their time apart, and a second one is harmless. So that queue is not searched.
        """
        name, items = decision.medium.name, self._items
        if decision.reason is SweepReason.OVERDUE_DELETION:
            record = await self._replay.records.get(name)
            # It may have been undeleted meanwhile.
            if record is None or not record.is_deleted or not await self._may_queue(name):
                return False
            overdue = Mark(name, record.generation, round(self._clock().timestamp() * 1000), False)
            await self._replay.schedule_removals([overdue])
            return True
        await items.queues[PROCESSING_QUEUE].enqueue(
            processing_fields(name), dedup_key=name, lost_if_older_s=(self._clock() - looked_at).total_seconds()
        )
        await items.statuses.put(Status(name, State.PROCESSING), ttl_s=items.status_ttl_s)
        return True

    async def _may_queue(self, name: str) -> bool:
        """Return whether no removal of this media item was queued recently. One may still wait in a long queue."""
        key = key_of("media_removal_queued", name)
        return await self._items.redis.state.execute("SET", key, "1", "NX", "PX", _REMOVAL_QUEUED_MS) is not None

    async def remove(self, decision: SweepDecision) -> bool:
        """Remove the objects of a decision. Return False, and remove nothing, if the media item has changed since."""
        for _ in range(3):  # for three requests, before the last check: nothing may wait after it
            await self._limiter.acquire()
        if not await self._still_holds(decision):
            return False
        medium, items = decision.medium, self._items
        # Last, so that CompleteMediaUpload refuses this upload from here on, or has queued it: never both.
        if decision.removes_upload and not await items.queues[PROCESSING_QUEUE].claim(medium.name):
            return False
        to_delete = [each.key for each in decision.to_delete]
        if medium.is_remote:
            await items.withdraw_objects(parse_any_id(medium.name), to_delete)
        else:
            await items.store.get().delete(to_delete)
        return True

    async def _still_holds(self, decision: SweepDecision) -> bool:
        medium = decision.medium
        if decision.reason in (SweepReason.ABANDONED, SweepReason.LEFTOVER, SweepReason.ORPHAN):
            status = await self._items.statuses.get(medium.name)
            if status is not None and status.state is State.PROCESSING:
                return False
            if decision.reason is not SweepReason.ORPHAN:
                return status is None or status.reason not in SERVICE_FAULTS
        if (
            decision.reason in (SweepReason.EXPIRED, SweepReason.OVER_BUDGET)
            and await self._last_use(medium.name) != decision.last_use
        ):
            return False  # it was requested meanwhile
        original = await self._items.original(parse_any_id(medium.name))
        if original is None:
            return decision.reason is SweepReason.ORPHAN
        if medium.original is None:
            return False
        unwritten = original.last_modified - medium.original.last_modified < LISTED_PRECISION
        return unwritten and original.etag == medium.original.etag

    async def _last_use(self, name: str) -> datetime | None:
        use = (await self._items.remote_states.last_uses([name])).get(name)
        return None if use is None else use.at
