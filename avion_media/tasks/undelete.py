"""Taking a deletion back, as long as its delay runs and its removal has not begun."""

from __future__ import annotations

import time

from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing
from avion_media.domain.ids import AnyId, MediaId
from avion_media.domain.tasks import DELETE_QUEUE, PROCESSING_QUEUE, processing_fields
from avion_media.queue import StatusBoard, TaskQueue
from avion_media.queue.board import TAKING_BACK_S
from avion_media.redis import Redis
from avion_media.store import ObjectStore
from avion_media.tasks.drop import removal_id
from avion_media.tasks.tombstones import tombstones_of
from avion_media.tasks.waiting import FoundTask, Place, each_task

_TOO_LATE = "too late: it is being removed"
_NOT_NOW = (
    f"what was made of it after its deletion is just being removed; try again in {TAKING_BACK_S / 60:.0f} minutes"
)


async def undelete(store: ObjectStore, redis: Redis, any_id: AnyId, delay_s: float) -> str | None:
    """What is in the way, or None when the deletion was taken back. Raises `Unavailable`.

    The remembered removal goes first, the tombstone after it. Should this end in between, the medium still counts as
    deleted and the sweeper queues its removal again; the other way round it would be served until it vanishes. A
    removal that begins at the same moment wins: the board decides which of the two was first. An upload that was
    deleted before it was done is processed then; should this end before it is queued, the sweeper queues it.
    """
    media_id = str(any_id)
    deleted_at = (await tombstones_of(redis, [media_id])).get(media_id)
    if deleted_at is None:
        return "it is not deleted"
    if deleted_at.timestamp() + delay_s <= time.time():
        return "too late: its delay is over"
    uploaded = isinstance(any_id, MediaId) and await _is_there(store, keys.incoming(any_id))
    if not uploaded and not await _is_there(store, keys.original(any_id)):
        return "too late: its original is gone"
    cancelled = await TaskQueue(redis, DELETE_QUEUE).cancel_delayed(removal_id(media_id))
    if not cancelled and await _is_queued(redis, media_id):
        return _TOO_LATE
    board = StatusBoard(redis)
    if not isinstance(any_id, MediaId):
        # Its deletion kept a fetch from saying how it ended. What there is the store says.
        await board.forget(media_id)
    if not await board.undelete(media_id):
        return _NOT_NOW if await board.is_being_taken_back(media_id) else _TOO_LATE
    if isinstance(any_id, MediaId) and (uploaded or await _is_unfinished(board, media_id)):
        # No once_key: the task that ended at the tombstone may still answer for it (DEFAULT_MARKER_LINGERS_S), and none
        # would be queued. Beside one that has not ended it is one attempt more, which is harmless.
        await TaskQueue(redis, PROCESSING_QUEUE).enqueue(processing_fields(media_id))
    return None


async def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        await store.head(key)
    except ObjectMissing:
        return False
    return True


async def _is_unfinished(board: StatusBoard, media_id: str) -> bool:
    """Whether its deletion kept an attempt from saying how it ended."""
    status = await board.get(media_id)
    return status is not None and not status.state.final


async def _is_queued(redis: Redis, media_id: str) -> bool:
    found = False

    def visit(task: FoundTask) -> bool:
        nonlocal found
        found = found or (task.place is Place.STREAM and task.subject == media_id)
        return not found

    await each_task(redis, DELETE_QUEUE, visit)
    return found
