"""What happens to a medium that is dropped: remembered for removal, gone at once, removed after the delay."""

from __future__ import annotations

import time

from avion_media.queue import TOMBSTONE_TTL_S, Drop, StatusBoard, TaskQueue
from avion_media.tasks.purge import Purges
from avion_media.telemetry import Telemetry, get_logger, instruments

_log = get_logger(path="service/events")


def removal_id(media_id: str) -> str:
    """The id of the task that removes a medium: the same deletion, heard by every replica, collapses into one."""
    return f"delete-{media_id}"


class Dropper:
    """Carries out ``drop_deleted`` events. Repeating one, on whatever replica, changes nothing."""

    def __init__(
        self, board: StatusBoard, queue: TaskQueue, purges: Purges, telemetry: Telemetry, *, delay_s: float
    ) -> None:
        self._board = board
        self._queue = queue
        self._purges = purges
        self._telemetry = telemetry
        self._delay_s = delay_s

    async def drop(self, drop: Drop) -> None:
        """Remember the removal first, then make the media invisible. `Unavailable` leaves it to be repeated.

        A deletion that was undone since it was said stays so: an entry of the stream may be read again at any time.
        """
        if drop.problem:
            self._telemetry.count(instruments.DROPS_MALFORMED)
            _log.warning("drop.malformed", problem=drop.problem, entry_id=drop.entry_id)
        for media_id in drop.media_ids:
            await self._remember_removal(media_id)
        for media_id in drop.media_ids:
            await self._mark(media_id, drop)

    async def _remember_removal(self, media_id: str) -> None:
        due_at = time.time() + self._delay_s
        await self._queue.delay({"media_id": media_id}, removal_id(media_id), due_at)

    async def _mark(self, media_id: str, drop: Drop) -> None:
        ttl_s = TOMBSTONE_TTL_S + self._delay_s
        fresh = await self._board.drop(media_id, ttl_s, said_at_ms=drop.said_at_ms, said_ago_s=drop.said_ago_s())
        if fresh is None:  # what was remembered is void; it must not stand for a later deletion, which is due later
            await self._queue.cancel_delayed(removal_id(media_id))
            if await self._board.is_tombstoned(media_id):  # by a later one, just now: its removal is wanted
                await self._remember_removal(media_id)
            _log.info("drop.undone", media_id=media_id)
            return
        await self._purges.request(media_id, "dropped")  # if not fresh too: whoever marked it may have died before this
        if fresh:
            self._telemetry.count(instruments.DROPS)
            _log.info("drop.tombstone", media_id=media_id)
