"""Media that wait for a moderator, because they resemble an entry or the hook holds them.

A held media item stays PROCESSING with reason ``held``. Its file is in quarantine, which the lifecycle rule for uploads
does not affect, and the origin does not serve it. A release puts the file back and queues its task again. The task
names the file, and lists and hook do not check that file, because the moderator has decided. The record stays until
the task has published it, so a moderator can repeat a release of which a crash left nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from avion_media.common.errors import MediaError, Reason
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.tasks import State, Status
from avion_media.items.item import Items
from avion_media.items.moderation.evidence import Evidence
from avion_media.items.moderation.records import RELEASED, Held, ModerationRecords, Notice, Versions
from trio_telemetry import get_logger

_NEVER = datetime.max.replace(tzinfo=UTC)
_log = get_logger()


class NotHeld(MediaError):
    """This media item does not wait for a moderator."""


class NoNotice(MediaError):
    """There is no notice about this media item."""


class Reviews:
    """Holds media, and releases them.

    Every method raises `Unavailable` while the store or Redis is unavailable, and can then be repeated.
    """

    def __init__(self, items: Items, evidence: Evidence) -> None:
        self._items = items
        self._evidence = evidence
        self._records = ModerationRecords(items.store)
        self._known: Versions[Held] = {}
        self._known_notices: Versions[Notice] = {}

    async def waiting(self) -> list[Held]:
        """Return the waiting media items: those with a notice first, by its end, then the longest waiting.

        Costs two listings, and a read of each record that is new since the last call.
        """
        notices = await self.notices()
        self._known = await self._records.all_held(self._known)
        held = [each for _, each in self._known.values()]
        statuses = await self._items.statuses.get_many([each.media_id for each in held])
        waiting = [each for each in held if waits(each, statuses[each.media_id])]
        waiting.sort(key=lambda each: (each.at, each.media_id))
        return sorted(waiting, key=lambda each: notices[each.media_id].due if each.media_id in notices else _NEVER)

    async def notices(self) -> dict[str, Notice]:
        """Return the notices about which nobody has decided, by media id, the most urgent first."""
        self._known_notices = await self._records.all_notices(self._known_notices)
        notices = sorted((each for _, each in self._known_notices.values()), key=lambda each: (each.due, each.media_id))
        return {each.media_id: each for each in notices}

    async def dismiss(self, any_id: AnyId) -> None:
        """End a notice without a block. Its evidence stays until its time. Raises `NoNotice`."""
        if await self._records.notice(str(any_id)) is None:
            raise NoNotice(str(any_id))
        await self._records.forget_notice(str(any_id))

    async def hold(
        self,
        any_id: AnyId,
        held: Held,
        *,
        etag: str = "",
        file: tuple[int, int] | None = None,
        preview: bytes | None = None,
    ) -> None:
        """Hold a media item. Raises `PreconditionFailed` if its upload was replaced.

        ``etag`` is that of the upload, ``file`` the descriptor and length of a file that is not in the store.
        ``preview`` is a thumbnail for the moderator.
        """
        before = await self._records.held(str(any_id))
        if before is not None and not before.is_decided:  # that of an interrupted attempt
            held = before
        else:
            if isinstance(any_id, MediaId):
                await self._evidence.keep_upload(any_id, etag)
            elif file is not None:
                await self._evidence.keep_file(any_id, *file)
            if preview is not None:  # after the file, so that a moderator sees a picture of the same file
                await self._evidence.keep_preview(any_id, preview)
            await self._records.write_held(held)
        await self.settle(any_id, held)

    async def settle(self, any_id: AnyId, held: Held) -> None:
        """Publish that it is held, and remove its upload from ``incoming/``, where it would expire."""
        status = Status(held.media_id, State.PROCESSING, reason=Reason.HELD)
        await self._items.statuses.put(status, ttl_s=self._items.status_ttl_s)
        await self._items.events.publish("media.held", held.media_id, {}, dedup_key=f"held.{held.at}")
        if isinstance(any_id, MediaId):
            await self._items.remove_incoming(any_id)
        _log.warning("moderation.held", media_id=held.media_id, match=held.match)

    async def release(self, any_id: AnyId, by: str = "") -> None:
        """Release a held media item: it is processed and published. Raises `NotHeld`."""
        held = await self._records.held(str(any_id))
        if held is None:
            raise NotHeld(str(any_id))
        released = await self._evidence.restore_upload(any_id) if isinstance(any_id, MediaId) else held.sha256
        # The record counts for other tasks of the same file as well. The status changes last: after a crash before, the
        # media item still waits, and can be released again.
        held = replace(held, fields={**held.fields, RELEASED: released})
        await self._records.write_held(held)
        await self._items.queues[held.queue].enqueue(dict(held.fields))
        processing = Status(held.media_id, State.PROCESSING)
        await self._items.statuses.put(processing, ttl_s=self._items.status_ttl_s, over=Reason.HELD)
        _log.warning("moderation.released", media_id=held.media_id, by=by)

    async def require(self, any_id: AnyId) -> None:
        """Raise `NotHeld` unless it waits for a moderator."""
        if await self._records.held(str(any_id)) is None:
            raise NotHeld(str(any_id))

    async def end(self, any_id: AnyId) -> None:
        """Remove record and evidence of a released media item that is public, or deleted. That of a block stays."""
        if await self._records.held(str(any_id)) is not None:
            await self._evidence.remove_held(any_id)
            await self._records.forget_held(str(any_id))


def waits(held: Held, status: Status | None) -> bool:
    """Return whether a moderator must decide about a held media item with this status.

    If the task of a release failed, a moderator can release it again. If it succeeded, the record is about to go.
    """
    if status is None:
        return True
    is_published = held.is_decided and status.state is State.READY
    return not is_published and (status.state is not State.PROCESSING or status.reason is not None)
