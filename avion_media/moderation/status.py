"""Whether moderation blocks or holds one media item. Read when its original is missing, or may soon be removed."""

from __future__ import annotations

from avion_media.domain.errors import Reason
from avion_media.domain.tasks import State, Status
from avion_media.moderation.blocking import Underway
from avion_media.moderation.records import ModerationRecords
from avion_media.resources import ResourceSlot
from avion_media.store import ObjectStore


class ModerationStatus:
    """Reads the bucket. Its coroutines raise `Unavailable` while the store is unavailable."""

    def __init__(self, store: ResourceSlot[ObjectStore], underway: Underway) -> None:
        self._records = ModerationRecords(store)
        self._underway = underway

    def is_underway(self, media_id: str) -> bool:
        """Return whether a block of the media item is in progress: its objects may still be there."""
        return media_id in self._underway

    async def is_blocked(self, media_id: str) -> bool:
        """Return whether the media item is blocked."""
        return self.is_underway(media_id) or await self._records.is_blocked(media_id)

    async def status(self, media_id: str) -> Status | None:
        """Return the status of a media item that is blocked or held, otherwise None."""
        if await self.is_blocked(media_id):
            return Status(media_id, State.FAILED, reason=Reason.BLOCKED)
        held = await self._records.held(media_id)
        if held is None:
            return None
        return Status(media_id, State.PROCESSING, reason=None if held.released_at else Reason.HELD)
