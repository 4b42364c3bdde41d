"""Whether moderation blocks or holds one media item. Read when its original is missing, or may soon be removed."""

from __future__ import annotations

from contextlib import suppress

from avion_media.backends.store import ListedObject, ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Reason
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.records import UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import State, Status
from avion_media.items.moderation.records import ModerationRecords


class ModerationStatus:
    """Reads the bucket. Its coroutines raise `Unavailable` while the store is unavailable.

    It knows the media that are watched: their block, or its end, is in progress, or changed a short time ago. Their
    records decide, not their objects.
    """

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store
        self._records = ModerationRecords(store)
        self._listed: frozenset[str] = frozenset()
        self._notified: set[str] = set()

    def watch(self, media_id: str) -> None:
        """Watch a media item that this process works on, or that another process has announced."""
        self._notified.add(media_id)

    async def reload(self) -> dict[str, ListedObject]:
        """Read the index in the bucket, and return it. Media that are added meanwhile stay until the next time."""
        before, self._notified = self._notified, set()
        try:
            listed = await self._records.watched()
        except BaseException:
            self._notified |= before
            raise
        found = {each.key.removeprefix(keys.WATCHED_PREFIX): each for each in listed}
        self._listed = frozenset(found)
        return found

    async def is_blocked_despite_objects(self, media_id: str) -> bool:
        """Return whether the media item is blocked although its objects are there. That is possible for a short time
        after a change of its block; of other media items nothing is read."""
        is_watched = media_id in self._listed or media_id in self._notified
        return is_watched and await self.is_blocked(media_id)

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
