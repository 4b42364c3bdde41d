"""Publishing a processed medium, and telling everybody how it ended.

The order is what makes a crash harmless: thumbnails first, the original last (that write makes the medium public, and
it happens once), then the status and its event, then the leftovers. A tombstone beats all of it: it is looked at before
the first write and after the last, and what was written in between is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from avion_media.concurrency import run_all
from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing, PreconditionFailed, Reason
from avion_media.domain.ids import AnyId, MediaId
from avion_media.domain.media import MediaFacts, ThumbnailSize, facts_from_metadata
from avion_media.domain.tasks import State, Status
from avion_media.queue import StatusBoard
from avion_media.resources import Slot
from avion_media.store import ObjectStore
from avion_media.telemetry import Telemetry, instruments

JPEG_TYPE = "image/jpeg"


class WriteOriginal(Protocol):
    """Writes the scrubbed original under ``key``, once: `PreconditionFailed` when it is there already."""

    async def __call__(self, store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None: ...


def origin_paths(any_id: AnyId, sizes: tuple[ThumbnailSize, ...]) -> dict[str, str]:
    """Where the origin serves the thumbnails."""
    return {size.name: f"/thumbnail/{size.name}/{any_id}" for size in sizes}


class Publisher:
    """Writes to the store and the status board for the tasks."""

    def __init__(
        self,
        store: Slot[ObjectStore],
        board: Slot[StatusBoard],
        sizes: tuple[ThumbnailSize, ...],
        telemetry: Telemetry,
        *,
        status_ttl_s: float,
    ) -> None:
        self._store = store
        self._board = board
        self._sizes = sizes
        self._telemetry = telemetry
        self._status_ttl_s = status_ttl_s

    async def is_deleted(self, any_id: AnyId) -> bool:
        """Whether the medium has a tombstone."""
        return await self._board.get().is_tombstoned(str(any_id))

    async def published(self, any_id: AnyId) -> MediaFacts | None:
        """The facts of the original, if it is there (an earlier attempt got that far)."""
        try:
            info = await self._store.get().head(keys.original(any_id))
        except ObjectMissing:
            return None
        return facts_from_metadata(info.metadata, info.size_bytes)

    async def publish(
        self, any_id: AnyId, facts: MediaFacts, thumbnails: Mapping[str, bytes], write_original: WriteOriginal
    ) -> bool:
        """Write everything, original last. False when a tombstone won: then nothing of it is left."""
        if await self.is_deleted(any_id):
            return False
        store = self._store.get()
        await run_all(
            [
                partial(store.put, keys.thumbnail(any_id, size), data, content_type=JPEG_TYPE)
                for size, data in thumbnails.items()
            ]
        )
        self._telemetry.count(instruments.THUMBNAILS, len(thumbnails), format=facts.format.name)
        try:
            await write_original(store, keys.original(any_id), facts.format.content_type, facts.to_metadata())
        except PreconditionFailed:
            pass  # an earlier attempt wrote it: the same bytes, since both came from the same upload
        if await self.is_deleted(any_id):
            await self.remove_objects(any_id)
            return False
        return True

    async def announce_ready(self, any_id: AnyId, facts: MediaFacts) -> None:
        """Status and event of a medium that can be served."""
        status = Status(str(any_id), State.READY, facts=facts, thumbnails=origin_paths(any_id, self._sizes))
        await self._announce(any_id, status, "ready", {"content_type": facts.format.content_type})

    async def announce_failed(self, any_id: AnyId, reason: Reason) -> None:
        """Status and event of a medium that never will be."""
        status = Status(str(any_id), State.FAILED, reason=reason, retryable=reason in _RETRYABLE)
        await self._announce(any_id, status, "failed", {"reason": str(reason)})

    async def _announce(self, any_id: AnyId, status: Status, ending: str, details: dict[str, str]) -> None:
        board = self._board.get()
        kind = "media" if isinstance(any_id, MediaId) else "remote"
        if await board.put(status, ttl_s=self._status_ttl_s):
            await board.publish_event(f"{kind}.{ending}", str(any_id), details)

    async def remove_objects(self, any_id: AnyId) -> None:
        """Remove all that the store has of a medium; repeating it is harmless."""
        doomed = [keys.original(any_id), *(keys.thumbnail(any_id, size.name) for size in self._sizes)]
        if isinstance(any_id, MediaId):
            doomed.append(keys.incoming(any_id))
        await self._store.get().delete(doomed)

    async def remove_incoming(self, media_id: MediaId) -> None:
        """Remove what the client PUT; it was never served."""
        await self._store.get().delete([keys.incoming(media_id)])


# Failures where the same client may fairly try again with the same file.
_RETRYABLE = frozenset({Reason.INTERNAL, Reason.REMOTE_UNREACHABLE, Reason.MISSING})
