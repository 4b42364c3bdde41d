"""Carries out one decision. Before it removes anything, it checks again that the decision still holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis
from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import SERVICE_FAULTS, ObjectMissing
from avion_media.common.ids import parse_any_id
from avion_media.common.rate_limiter import RateLimiter
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE, State, Status, processing_fields
from avion_media.items.deletion import DeletionRecords, Mark, schedule_removals
from avion_media.items.state import RemoteStateStore, StatusStore
from avion_media.items.state.names import key_of
from avion_media.workers.sweep.policy import Decision, SweepReason

_REMOVAL_QUEUED_MS = 6 * 3_600_000  # a removal that still waits is not queued again before
LISTED_PRECISION = timedelta(seconds=1)  # listings have milliseconds, HEAD has whole seconds


class SweepActions:
    """Every action can be repeated. Raises `Unavailable` if the object store or Redis is unavailable."""

    def __init__(
        self,
        store: ResourceSlot[ObjectStore],
        redis: Redis,
        limiter: RateLimiter,
        clock: Callable[[], datetime],
        *,
        processing_ttl_s: float,
    ) -> None:
        self._processing_ttl_s = processing_ttl_s
        self._store = store
        self._redis = redis
        self._limiter = limiter
        self._clock = clock

    async def requeue(self, decision: Decision, looked_at: datetime) -> None:
        """Queue a task that was in no queue at ``looked_at``. If one was queued since then, add nothing."""
        name = decision.medium.name
        redis = self._redis
        if decision.reason is SweepReason.OVERDUE_DELETION:
            record = await DeletionRecords(redis).get(name)
            # It may have been undeleted meanwhile.
            if record is not None and record.is_deleted and await self._may_queue(name):
                overdue = Mark(name, record.generation, round(self._clock().timestamp() * 1000), False)
                await schedule_removals(TaskQueue(redis, DELETE_QUEUE), [overdue])
            return
        await TaskQueue(redis, PROCESSING_QUEUE).enqueue(
            processing_fields(name), dedup_key=name, lost_if_older_s=(self._clock() - looked_at).total_seconds()
        )
        await StatusStore(redis).put(Status(name, State.PROCESSING), ttl_s=self._processing_ttl_s)

    async def _may_queue(self, name: str) -> bool:
        """Return whether no removal of this media item was queued recently. One may still wait in a long queue."""
        key = key_of("media_removal_queued", name)
        return await self._redis.state.execute("SET", key, "1", "NX", "PX", _REMOVAL_QUEUED_MS) is not None

    async def remove(self, decision: Decision) -> bool:
        """Remove the objects of a decision. Return False, and remove nothing, if the media item has changed since."""
        for _ in range(2):  # for two requests, before the last check: nothing may wait after it
            await self._limiter.acquire()
        if not await self._still_holds(decision):
            return False
        medium = decision.medium
        # Last, so that CompleteMediaUpload refuses this upload from here on, or has queued it: never both.
        if decision.removes_upload and not await TaskQueue(self._redis, PROCESSING_QUEUE).claim(medium.name):
            return False
        statuses = StatusStore(self._redis)
        if medium.is_remote:  # first: the status must not be READY after the removal
            await statuses.forget(medium.name)
        await self._store.get().delete([each.key for each in decision.to_delete])
        if medium.is_remote:  # again: a reader may have found the object just before, and stored READY
            await statuses.forget(medium.name)
        return True

    async def _still_holds(self, decision: Decision) -> bool:
        medium = decision.medium
        if decision.reason in (SweepReason.ABANDONED, SweepReason.LEFTOVER, SweepReason.ORPHAN):
            status = await StatusStore(self._redis).get(medium.name)
            if status is not None and status.state is State.PROCESSING:
                return False
            if decision.reason is not SweepReason.ORPHAN:
                return status is None or status.reason not in SERVICE_FAULTS
        if (
            decision.reason in (SweepReason.EXPIRED, SweepReason.OVER_BUDGET)
            and await self._last_use(medium.name) != decision.last_use
        ):
            return False  # it was requested meanwhile
        try:
            original = await self._store.get().head(keys.original(parse_any_id(medium.name)))
        except ObjectMissing:
            return decision.reason is SweepReason.ORPHAN
        if medium.original is None:
            return False
        unwritten = original.last_modified - medium.original.last_modified < LISTED_PRECISION
        return unwritten and original.etag == medium.original.etag

    async def _last_use(self, name: str) -> datetime | None:
        return (await RemoteStateStore(self._redis).last_uses([name])).get(name)
