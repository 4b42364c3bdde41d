"""``media_processing_queue``: make an upload public, or say why not."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from avion_media.backends.files import SpooledSource, open_spool
from avion_media.backends.store import ObjectInfo, TooLarge
from avion_media.common import keys
from avion_media.common.errors import (
    SERVICE_FAULTS,
    Dependency,
    MediaError,
    ObjectMissing,
    PreconditionFailed,
    Reason,
    Rejected,
    Unavailable,
)
from avion_media.common.ids import MediaId, id_or_none, parse_media_id
from avion_media.common.media import MediaFacts, keeps_credentials, owner_of
from avion_media.common.tasks import (
    PROCESSING_QUEUE,
    REGENERATE,
    EnsureLease,
    State,
    Task,
    TaskHandler,
    id_of,
    owner_in,
    processing_fields,
)
from avion_media.items.moderation import HeldForReview, Screening
from avion_media.media.pipeline import MediaSource
from avion_media.media.scrubber import require_format
from avion_media.workers.processor import Processor, open_stored, original_writer, whole_bytes
from mediascrub import HEAD_BYTES, sniff
from mediascrub.ranges import Range
from trio_redis import run_all

_Upload = tuple[ObjectInfo, MediaSource]


class ProcessMedia(TaskHandler):
    """See `TaskHandler`. The steps are deterministic, so an attempt can repeat what another one left unfinished."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._moderation = processor.moderation
        self._items = processor.items

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        """See `TaskHandler.run`."""
        media_id, items = id_of(task, parse_media_id), self._items
        if REGENERATE in task.fields:
            await self._processor.regenerate(task, media_id, ensure_lease)
            return
        with ExitStack() as files:
            beginning = (
                partial(self._moderation.begin, media_id, task, PROCESSING_QUEUE),
                partial(items.published, media_id),
                partial(self._upload_of, media_id, files),
            )
            screening, published, upload = await run_all(beginning)  # three requests take as long as one
            facts = None if published is None else published.facts
            status = await items.statuses.get(str(media_id))
            if status is not None and status.state is State.DELETED:
                await items.clean_up_if_deleted(media_id)
                await screening.end()
                return
            failed = None if status is None or status.state is not State.FAILED else status.reason
            if failed is not None and failed not in SERVICE_FAULTS:
                # An earlier attempt removed the upload, or was about to.
                await self.record_failure(task, failed)
                return
            if facts is None:
                try:
                    if status is None or status.reason is Reason.HELD:  # Redis may have lost it
                        await screening.require_decided()
                    facts = await self._process(screening, media_id, upload, files, ensure_lease)
                except HeldForReview:
                    return  # until a moderator has decided
            if facts is None:
                return  # deleted before it was done
            if await screening.announce_ready(facts, over=failed):
                await items.remove_incoming(media_id)
            else:
                await items.withdraw_after_failure(media_id, facts)

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """See `TaskHandler.record_failure`."""
        media_id, items = _named(task), self._items
        if media_id is None:
            return  # a mistake of another service: the task names no media item
        if REGENERATE in task.fields:
            return  # it stays as it is
        published = await items.published_if_readable(media_id) if reason in SERVICE_FAULTS else None
        if published is not None:  # only its status and event were missing
            blocked = await self._moderation.announce_published(media_id, task, PROCESSING_QUEUE, published.facts)
            if blocked is None:
                await items.remove_incoming(media_id)
                return
            reason = blocked
        if reason is Reason.BLOCKED:  # the block has done all this, and may be lifted by now
            return
        if reason is not Reason.UNREADABLE:  # else an original may exist that the store does not return
            await items.remove_unpublished(media_id)
        await items.announce_failed(media_id, reason, is_file_suspect=is_file_suspect)
        if reason not in SERVICE_FAULTS:  # a replay of the dead letter needs the upload; the lifecycle rule is its end
            await items.remove_incoming(media_id)

    async def renew_status(self, task: Task) -> None:
        """See `TaskHandler.renew_status`."""
        media_id = _named(task)
        if media_id is not None and REGENERATE not in task.fields:
            await self._items.keep_processing(media_id)

    async def _process(
        self,
        screening: Screening,
        media_id: MediaId,
        upload: _Upload | MediaError,
        files: ExitStack,
        ensure_lease: EnsureLease,
    ) -> MediaFacts | None:
        """Check, make and publish the media item. Return None if it was deleted meanwhile."""
        if isinstance(upload, ObjectMissing):
            await self._moderation.require_not_held(media_id)  # else it is in quarantine
            raise Rejected(Reason.MISSING)
        try:
            if isinstance(upload, MediaError):
                raise upload
            info, source = upload
            head = os.pread(source.fd, HEAD_BYTES, 0)
            found = sniff(head, size=info.size_bytes)
            declared = media_id.format.family
            fmt = require_format(found, declared, self._processor.enabled)
            if screening.compares_files:
                await source.fetch([Range(0, source.size_bytes)])
            keep = keeps_credentials(info.metadata)
            facts, made = await self._processor.make(
                screening, source, fmt, files, etag=info.etag, declared=declared, keep_credentials=keep
            )
            facts = replace(facts, owner=owner_of(info.metadata) or owner_in(screening.task))
            writer = original_writer(made, source, facts, source_info=info)
            await ensure_lease()
            current = await self._items.publish(media_id, facts, made.thumbnails, writer, manifest=made.manifest)
        except (PreconditionFailed, ObjectMissing):
            # The client PUT again while we read, or a deletion removed the upload. The next attempt sees the new bytes,
            # or the tombstone.
            raise Unavailable(Dependency.UPLOAD, "it was replaced or removed while it was read") from None
        if current is not None and not current.is_of_same_file(facts):
            fields = processing_fields(str(media_id)) | {REGENERATE: "thumbnails"}
            await self._items.queues[PROCESSING_QUEUE].enqueue(fields, follow_up=True)
        return current

    async def _upload_of(self, media_id: MediaId, files: ExitStack) -> _Upload | MediaError:
        """Return what the client PUT, or why it cannot be had, which is no error if the media item is published.

        A file that is fetched whole needs no HEAD: the response to the GET says the same.
        """
        key, family = keys.incoming(media_id), media_id.format.family
        max_bytes = whole_bytes(family, self._processor.limits.max_bytes(family))
        fd = files.enter_context(open_spool())
        try:
            store = self._items.store.get()
            try:
                info = await store.download(key, fd, max_bytes=max_bytes)
                source: MediaSource = SpooledSource(fd, info.size_bytes)
            except TooLarge:
                info = await store.head(key)
                self._processor.check_size(info.size_bytes, family)
                source = await open_stored(store, info, family, files)
            if info.size_bytes == 0:
                raise Rejected(Reason.EMPTY)
        except MediaError as error:
            return error
        return info, source


def _named(task: Task) -> MediaId | None:
    any_id = id_or_none(task.fields.get("media_id", ""))
    return any_id if isinstance(any_id, MediaId) else None
