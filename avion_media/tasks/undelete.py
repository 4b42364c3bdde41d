"""Taking a deletion back, as long as its delay runs and its removal has not begun."""

from __future__ import annotations

import time

from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing
from avion_media.domain.ids import AnyId
from avion_media.domain.tasks import DELETE_QUEUE
from avion_media.queue import StatusBoard, TaskQueue
from avion_media.redis import Redis
from avion_media.store import ObjectStore
from avion_media.tasks.drop import removal_id
from avion_media.tasks.tombstones import tombstones_of
from avion_media.tasks.waiting import FoundTask, Place, each_task

_TOO_LATE = "too late: it is being removed"


async def undelete(store: ObjectStore, redis: Redis, any_id: AnyId, delay_s: float) -> str | None:
    """What is in the way, or None when the deletion was taken back. Raises `Unavailable`.

    The remembered removal goes first, the tombstone after it. Should this end in between, the medium still counts as
    deleted and the sweeper queues its removal again; the other way round it would be served until it vanishes. A
    removal that begins at the same moment wins: the board decides which of the two was first.
    """
    media_id = str(any_id)
    deleted_at = (await tombstones_of(redis, [media_id])).get(media_id)
    if deleted_at is None:
        return "it is not deleted"
    if deleted_at.timestamp() + delay_s <= time.time():
        return "too late: its delay is over"
    try:
        await store.head(keys.original(any_id))
    except ObjectMissing:
        return "too late: its original is gone"
    cancelled = await TaskQueue(redis, DELETE_QUEUE).cancel_delayed(removal_id(media_id))
    if not cancelled and await _is_queued(redis, media_id):
        return _TOO_LATE
    return None if await StatusBoard(redis).undelete(media_id) else _TOO_LATE


async def _is_queued(redis: Redis, media_id: str) -> bool:
    found = False

    def visit(task: FoundTask) -> bool:
        nonlocal found
        found = found or (task.place is Place.STREAM and task.subject == media_id)
        return not found

    await each_task(redis, DELETE_QUEUE, visit)
    return found
