"""Whether moderation blocks or holds one media item. Read when its original is missing, or may soon be removed."""

from __future__ import annotations

from contextlib import suppress

from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Reason
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.records import UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import State, Status
from avion_media.items.moderation.blocking import Watched
from avion_media.items.moderation.records import ModerationRecords


class ModerationStatus:
    """Reads the bucket. Its coroutines raise `Unavailable` while the store is unavailable."""

    def __init__(self, store: ResourceSlot[ObjectStore], watched: Watched) -> None:
        self._store = store
        self._records = ModerationRecords(store)
        self._watched = watched

    async def is_blocked_despite_objects(self, media_id: str) -> bool:
        """Return whether the media item is blocked although its objects are there. That is possible for a short time
        after a change of its block; of other media items nothing is read."""
        return media_id in self._watched and await self.is_blocked(media_id)

    async def is_blocked(self, media_id: str) -> bool:
        """Return whether the media item is blocked. So is one whose record cannot be read."""
        return await self._records.is_blocked(media_id)

    async def status(self, any_id: AnyId) -> Status | None:
        """Return the status of a media item without an original that is blocked or held, otherwise None."""
        media_id = str(any_id)
        try:
            block = await self._records.block(media_id)
        except UnreadableRecord:
            return Status(media_id, State.FAILED, reason=Reason.BLOCKED)
        if block is not None and block.in_force:
            return Status(media_id, State.FAILED, reason=Reason.BLOCKED)
        with suppress(UnreadableRecord):
            if await self._records.held(media_id) is None:
                if block is None or not block.released or not isinstance(any_id, MediaId):
                    return None
                waits = await self._store.get().exists(keys.incoming(any_id))
                return Status(media_id, State.PROCESSING) if waits else None
        return Status(media_id, State.PROCESSING, reason=Reason.HELD)
