"""``media_processing_queue``: make an upload public, or say why not."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial

from avion_media.backends.files import SpooledSource, open_spool
from avion_media.backends.queue import TaskQueue
from avion_media.backends.store import ObjectInfo, ObjectStore, TooLarge
from avion_media.common import keys
from avion_media.common.concurrency import results_of
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
from avion_media.common.formats import Family
from avion_media.common.ids import InvalidId, MediaId, parse_media_id
from avion_media.common.media import MediaFacts
from avion_media.common.owners import owner_of
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import PROCESSING_QUEUE, EnsureLease, State, Task, id_of, owner_in, processing_fields
from avion_media.items.item import Items
from avion_media.items.moderation import Held, Screening, Visit
from avion_media.media.pipeline import MediaPipeline, MediaSource
from avion_media.media.scrubber import require_format
from avion_media.media.settings import UploadConfig
from avion_media.workers.purge import Purges
from avion_media.workers.sources import StoreSource
from avion_media.workers.write import facts_of, original_writer, scrubbed_file
from mediascrub import HEAD_BYTES, sniff
from mediascrub.ranges import Range

# Videos up to this size are fetched whole: fewer calls than ranges, and their SHA-256 comes for free.
WHOLE_VIDEO_BYTES = 8 << 20
_Upload = tuple[ObjectInfo, MediaSource]
_REGENERATE = "anew"  # field of a task that this service adds: make the thumbnails of a published media item again


class ProcessMedia:
    """See `TaskHandler`. The steps are deterministic, so an attempt can repeat what another one left unfinished."""

    def __init__(
        self,
        store: ResourceSlot[ObjectStore],
        pipeline: ResourceSlot[MediaPipeline],
        publisher: Items,
        queue: TaskQueue,
        purges: Purges,
        screening: Screening,
        limits: UploadConfig,
        enabled: frozenset[str],
    ) -> None:
        self._screening = screening
        self._store = store
        self._pipeline = pipeline
        self._publisher = publisher
        self._queue = queue
        self._purges = purges
        self._limits = limits
        self._enabled = enabled

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        """See `TaskHandler.run`."""
        media_id = id_of(task, parse_media_id)
        with ExitStack() as files:
            visit, facts, upload = await results_of(  # at once: three requests take as long as one
                partial(self._screening.begin, media_id, task, PROCESSING_QUEUE),
                partial(self._publisher.published, media_id),
                partial(self._upload_of, task, media_id, files),
            )
            status = await self._publisher.status(media_id)
            if status is not None and status.state is State.DELETED:
                await self._publisher.clean_up_if_deleted(media_id)
                await visit.end()
                return
            failed = None if status is None or status.state is not State.FAILED else status.reason
            if failed is not None and failed not in SERVICE_FAULTS:
                # An earlier attempt removed the upload, or was about to.
                await self.record_failure(task, failed)
                return
            if _REGENERATE in task.fields:
                facts = facts and await self._regenerate_thumbnails(task, media_id, facts, ensure_lease)
            elif facts is None:
                try:
                    if status is None or status.reason is Reason.HELD:  # Redis may have lost it
                        await visit.require_decided()
                    facts = await self._process(visit, media_id, upload, files, ensure_lease)
                except Held:
                    return  # until a moderator has decided
            if facts is None:
                return  # deleted before it was done
            if await self._publisher.announce_ready(media_id, facts, visit, over=failed):
                await self._publisher.remove_incoming(media_id)
            else:
                await self._publisher.withdraw_after_failure(media_id, facts)

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """See `TaskHandler.record_failure`."""
        media_id = _named(task)
        if media_id is None:
            return  # a mistake of another service: the task names no media item
        if _REGENERATE in task.fields:
            return  # it stays as it is
        facts = await self._publisher.published_if_readable(media_id) if reason in SERVICE_FAULTS else None
        if facts is not None:  # only its status and event were missing
            try:
                visit = await self._screening.begin(media_id, task, PROCESSING_QUEUE)
                await self._publisher.announce_ready(media_id, facts, visit)
            except Rejected as rejection:
                reason = rejection.reason
            else:
                await self._publisher.remove_incoming(media_id)
                return
        if reason is Reason.BLOCKED:  # the block has done all this, and may be lifted by now
            return
        if reason is not Reason.UNREADABLE:  # else an original may exist that the store does not return
            await self._publisher.remove_unpublished(media_id)
        await self._publisher.announce_failed(media_id, reason, is_file_suspect=is_file_suspect)
        if reason not in SERVICE_FAULTS:  # a replay of the dead letter needs the upload; the lifecycle rule is its end
            await self._publisher.remove_incoming(media_id)

    async def renew_status(self, task: Task) -> None:
        """See `TaskHandler.renew_status`."""
        media_id = _named(task)
        if media_id is not None and _REGENERATE not in task.fields:
            await self._publisher.keep_processing(media_id)

    async def _process(
        self,
        visit: Visit,
        media_id: MediaId,
        upload: _Upload | MediaError,
        files: ExitStack,
        ensure_lease: EnsureLease,
    ) -> MediaFacts | None:
        """Check, make and publish the media item. Return None if it was deleted meanwhile."""
        if isinstance(upload, ObjectMissing):
            await self._screening.require_not_held(media_id)  # else it is in quarantine
            raise Rejected(Reason.MISSING)
        try:
            if isinstance(upload, MediaError):
                raise upload
            info, source = upload
            head = os.pread(source.fd, HEAD_BYTES, 0)
            fmt = require_format(sniff(head, size=info.size_bytes), media_id.format.family, self._enabled)
            if visit.compares_files:
                await source.fetch([Range(0, source.size_bytes)])
            await visit.see_file(source, info.etag)
            with self._publisher.making(fmt):
                made = await self._pipeline.get().process(source, fmt, files)
            facts = facts_of(made, source)
            await visit.see_made(facts, scrubbed_file(made, source), made.thumbnails)
            writer = original_writer(made, source, facts, source_info=info)
            await ensure_lease()
            owner = owner_of(info.metadata) or owner_in(visit.task)
            current = await self._publisher.publish(media_id, facts, made.thumbnails, writer, owner=owner)
        except (PreconditionFailed, ObjectMissing):
            # The client PUT again while we read, or a deletion removed the upload. The next attempt sees the new bytes,
            # or the tombstone.
            raise Unavailable(Dependency.UPLOAD, "it was replaced or removed while it was read") from None
        if current is not None and not current.is_of_same_file(facts):
            await self._queue.enqueue(processing_fields(str(media_id)) | {_REGENERATE: "thumbnails"}, follow_up=True)
        return current

    async def _regenerate_thumbnails(
        self, task: Task, media_id: MediaId, facts: MediaFacts, ensure_lease: EnsureLease
    ) -> MediaFacts | None:
        """Make the thumbnails of the original that is served. Return None if it was deleted meanwhile.

        Needed after the client PUT another file while its upload was processed: one attempt wrote the original, another
        one wrote thumbnails after it, so they show a file that is not served.
        """
        store = self._store.get()
        with ExitStack() as files:
            try:
                info = await store.head(keys.original(media_id))
                source = await self._open_source(store, info, media_id, files)
            except ObjectMissing:
                return None
            made = await self._pipeline.get().process(source, facts.format, files)
            await ensure_lease()
            has = facts.thumbnails or made.thumbnails
            thumbnails = {size: data for size, data in made.thumbnails.items() if size in has}
            await self._publisher.write_thumbnails(media_id, facts, thumbnails)
        await self._purges.request(str(media_id), f"regenerated:{task.task_id}")
        return None if await self._publisher.clean_up_if_deleted(media_id) else facts

    def _check_size(self, info: ObjectInfo, family: Family) -> None:
        if info.size_bytes == 0:
            raise Rejected(Reason.EMPTY)
        if info.size_bytes > self._limits.max_bytes(family):
            raise Rejected(Reason.TOO_LARGE, f"{info.size_bytes} bytes")

    async def _upload_of(self, task: Task, media_id: MediaId, files: ExitStack) -> _Upload | MediaError | None:
        """Return what the client PUT, or why it cannot be had, which is no error if the media item is published."""
        if _REGENERATE in task.fields:
            return None
        try:
            return await self._open_upload(self._store.get(), media_id, files)
        except MediaError as error:
            return error

    async def _open_upload(self, store: ObjectStore, media_id: MediaId, files: ExitStack) -> _Upload:
        """What the client PUT. A file that is fetched whole needs no HEAD: the answer to the GET says the same."""
        key, family = keys.incoming(media_id), media_id.format.family
        whole_bytes = self._limits.max_bytes(family)
        if family is Family.VIDEO:
            whole_bytes = min(whole_bytes, WHOLE_VIDEO_BYTES)
        fd = files.enter_context(open_spool())
        try:
            info = await store.download(key, fd, max_bytes=whole_bytes)
        except TooLarge:
            info = await store.head(key)
            self._check_size(info, family)
            return info, await self._open_source(store, info, media_id, files)
        self._check_size(info, family)
        return info, SpooledSource(fd, info.size_bytes)

    async def _open_source(
        self, store: ObjectStore, info: ObjectInfo, media_id: MediaId, files: ExitStack
    ) -> MediaSource:
        fd = files.enter_context(open_spool())
        if media_id.format.family is Family.VIDEO and info.size_bytes > WHOLE_VIDEO_BYTES:
            source = StoreSource(store, info, fd)
            await source.fetch([Range(0, HEAD_BYTES)])
            return source
        await store.download(info.key, fd, max_bytes=info.size_bytes, if_match=info.etag)
        return SpooledSource(fd, info.size_bytes)


def _named(task: Task) -> MediaId | None:
    try:
        return parse_media_id(task.fields.get("media_id", ""))
    except InvalidId:
        return None
