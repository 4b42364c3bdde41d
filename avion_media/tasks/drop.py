"""What happens to a medium that is dropped: remembered for removal, gone at once, removed after the delay."""

from __future__ import annotations

import time

from avion_media.queue import Drop, StatusBoard, TaskQueue
from avion_media.resources import Slot
from avion_media.telemetry import Telemetry, get_logger, instruments

_log = get_logger(path="service/events")


class Dropper:
    """Carries out ``drop_deleted`` events. Repeating one, on whatever replica, changes nothing."""

    def __init__(
        self, board: Slot[StatusBoard], queue: Slot[TaskQueue], telemetry: Telemetry, *, delay_s: float
    ) -> None:
        self._board = board
        self._queue = queue
        self._telemetry = telemetry
        self._delay_s = delay_s

    async def drop(self, drop: Drop) -> None:
        """Remember the removal first, then make the media invisible. `Unavailable` leaves it to be repeated."""
        if drop.problem:
            self._telemetry.count(instruments.EVENTS_MALFORMED)
            _log.warning("drop.malformed", problem=drop.problem, entry_id=drop.entry_id)
        for media_id in drop.media_ids:
            # The id is also the task's: the same deletion, heard by every replica, collapses into one.
            await self._queue.get().delay({"media_id": media_id}, f"delete-{media_id}", time.time() + self._delay_s)
        fresh = await self._board.get().tombstone(drop.media_ids)
        for media_id in fresh:
            _log.info("drop.tombstone", media_id=media_id)
