"""What the tasks of uploads and of remote media do alike: read stored files, check them, make what is published."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from avion_media.backends.files import SpooledSource, open_spool
from avion_media.backends.store import FileSource, ObjectInfo, ObjectStore, patch_copy
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Reason, Rejected, Unavailable
from avion_media.common.formats import Family, MediaFormat
from avion_media.common.ids import AnyId
from avion_media.common.media import MediaFacts
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import ALWAYS, REGENERATE, EnsureLease, Task
from avion_media.common.telemetry import instruments
from avion_media.items.item import Items, WriteOriginal
from avion_media.items.moderation import Moderation, Screening
from avion_media.media.pipeline import MediaPipeline, MediaSource, Processed
from avion_media.media.scrubber import require_switched_on
from avion_media.media.settings import UploadConfig
from mediascrub import HEAD_BYTES
from mediascrub.ranges import Range, merged, missing, pieces

# Videos up to this size are fetched whole: fewer calls than ranges, and their SHA-256 comes for free.
WHOLE_VIDEO_BYTES = 8 << 20
# Small reads are rounded up: a call to the store costs more than these bytes.
_FETCH_UNIT_BYTES = 256 << 10


class Processor:
    """Checks files, makes what is published of them, and makes thumbnails again. ``enabled``: names of formats."""

    def __init__(
        self,
        items: Items,
        moderation: Moderation,
        pipeline: ResourceSlot[MediaPipeline],
        limits: UploadConfig,
        enabled: frozenset[str],
    ) -> None:
        self.items = items
        self.moderation = moderation
        self.limits = limits
        self.enabled = enabled
        self._pipeline = pipeline

    def check_size(self, size_bytes: int, family: Family) -> None:
        """Raise `Rejected` if a file has too many bytes."""
        if size_bytes > self.limits.max_bytes(family):
            raise Rejected(Reason.TOO_LARGE, f"{size_bytes} bytes")

    def _accept(self, fmt: MediaFormat, size_bytes: int, declared: Family | None) -> None:
        """Raise `Rejected` if a file that turned out to be of ``fmt`` is not accepted."""
        if declared is Family.VIDEO:
            raise Rejected(Reason.NO_VIDEO, f"{fmt.name} was declared as a video")
        require_switched_on(fmt, self.enabled)
        self.check_size(size_bytes, fmt.family)

    async def make(
        self,
        screening: Screening,
        source: MediaSource,
        fmt: MediaFormat,
        files: ExitStack,
        *,
        etag: str = "",
        declared: Family | None = None,
        keep_credentials: bool | None = None,
    ) -> tuple[MediaFacts, Processed]:
        """Check a file, and make its thumbnails and its scrubbed original. Raises `Rejected` or `HeldForReview`.

        ``etag`` and ``declared``: those of an upload. ``keep_credentials``: None means as configured.
        """
        keep = self.limits.keeps_credentials if keep_credentials is None else keep_credentials
        await screening.see_file(source, etag)
        accept = partial(self._accept, size_bytes=source.size_bytes, declared=declared)
        try:
            made = await self._pipeline.get().process(source, fmt, files, accept, keep_credentials=keep)
        except Exception as error:
            outcome, sizes = "rejected" if isinstance(error, Rejected) else "failed", self.items.sizes
            self.items.telemetry.count(instruments.THUMBNAILS, len(sizes), format=fmt.name, outcome=outcome)
            raise
        facts = facts_of(made, source)
        await screening.see_made(facts, scrubbed_file(made, source), made.thumbnails)
        return facts, made

    async def regenerate(self, task: Task, any_id: AnyId, ensure_lease: EnsureLease) -> None:
        """Make the thumbnails of the public original again, unless nobody asks and all are known to be made of it."""
        items = self.items
        if await items.clean_up_if_deleted(any_id):
            return
        found = await items.published(any_id)
        is_asked_for = task.fields.get(REGENERATE) == ALWAYS
        if found is None or (not is_asked_for and found.facts.sha256 and await items.is_consistent(any_id)):
            return
        facts, info = found.facts, found.info
        with ExitStack() as files:
            try:
                source = await open_stored(items.store.get(), info, facts.format.family, files)
            except (PreconditionFailed, ObjectMissing):
                raise Unavailable(Dependency.UPLOAD, "its original was replaced while it was read") from None
            made = await self._pipeline.get().process(source, facts.format, files)
            await ensure_lease()
            has = facts.thumbnails or made.thumbnails
            thumbnails = {name: data for name, data in made.thumbnails.items() if name in has}
            await items.write_thumbnails(any_id, facts, thumbnails)
        await items.purge(any_id, f"regenerated:{task.task_id}", facts.thumbnails)
        if await items.clean_up_if_deleted(any_id) or await self.moderation.blocking.enforce(any_id):
            return
        now = await items.original(any_id)
        if now is not None and now.etag != info.etag:
            raise Unavailable(Dependency.UPLOAD, "its original was replaced while its thumbnails were made")


def facts_of(made: Processed, source: MediaSource) -> MediaFacts:
    """Return the facts of the scrubbed original.

    A video of which only ranges were fetched has no SHA-256, because that would require reading all of it.
    """
    return MediaFacts(
        format=made.format,
        size_bytes=source.size_bytes if made.scrubbed_fd is None else made.scrubbed_bytes,
        width=made.width,
        height=made.height,
        blurhash=made.blurhash,
        sha256=made.sha256,
        animated=made.animated,
        duration_s=round(made.duration_s, 3),  # as `MediaFacts.to_metadata` keeps it
        thumbnails=tuple(made.thumbnails),
        credentials=made.credentials,
        digital_source_type=made.digital_source_type,
        claim_generator=made.claim_generator,
        waveform=made.waveform,
    )


def scrubbed_file(made: Processed, source: MediaSource) -> tuple[int, int] | None:
    """Return descriptor and length of the scrubbed original, if it is complete."""
    if made.scrubbed_fd is not None:
        return made.scrubbed_fd, made.scrubbed_bytes
    return (source.fd, source.size_bytes) if source.whole else None


def original_writer(
    made: Processed,
    source: MediaSource,
    facts: MediaFacts,
    *,
    source_info: ObjectInfo | None = None,
    more_metadata: Mapping[str, str] | None = None,
    replace: bool = False,
) -> WriteOriginal:
    """Return the function that writes the original: as a new object, or as a copy with patched ranges.

    The original of an upload is written once. That of a remote media item may replace an earlier one (``replace``), and
    has ``more_metadata``.
    """

    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        metadata = {**metadata, **(more_metadata or {})}
        if (scrubbed := scrubbed_file(made, source)) is not None:
            await store.put(
                key,
                FileSource(*scrubbed, sha256=facts.sha256),
                content_type=content_type,
                metadata=metadata,
                only_if_absent=not replace,
            )
            return
        if source_info is None:
            raise ValueError("a source that is not whole is an object of the store")
        await patch_copy(
            store,
            source_info.key,
            key,
            size_bytes=source.size_bytes,
            patches=list(pieces(made.patches)),
            content_type=content_type,
            metadata=metadata,
            source_etag=source_info.etag,
            only_if_absent=not replace,
        )

    return write


class StoreSource:
    """An object of which only requested ranges are fetched, into a sparse spool file."""

    def __init__(self, store: ObjectStore, info: ObjectInfo, fd: int) -> None:
        self._store = store
        self._info = info
        self.fd = fd
        self.size_bytes = info.size_bytes
        self.present: Sequence[Range] = ()
        os.ftruncate(fd, info.size_bytes)

    @property
    def whole(self) -> bool:
        """Whether all of it was fetched."""
        return not missing([Range(0, self.size_bytes)], self.present)

    async def fetch(self, ranges: Sequence[Range]) -> None:
        """Fetch ``ranges``. Raises `PreconditionFailed` if the object was replaced meanwhile."""
        wanted = missing([_rounded(each, self.size_bytes) for each in ranges], self.present)
        if wanted:
            await self._store.read_ranges(self._info.key, wanted, self.fd, etag=self._info.etag)
            self.present = merged([*self.present, *wanted])


def whole_bytes(family: Family, max_bytes: int) -> int:
    """Return up to which size a file of at most ``max_bytes`` is fetched whole."""
    return min(max_bytes, WHOLE_VIDEO_BYTES) if family is Family.VIDEO else max_bytes


async def open_stored(store: ObjectStore, info: ObjectInfo, family: Family, files: ExitStack) -> MediaSource:
    """Open a stored file. Raises `PreconditionFailed` or `ObjectMissing` if it was replaced or removed."""
    fd = files.enter_context(open_spool())
    if info.size_bytes > whole_bytes(family, info.size_bytes):
        source = StoreSource(store, info, fd)
        await source.fetch([Range(0, HEAD_BYTES)])
        return source
    await store.download(info.key, fd, max_bytes=info.size_bytes, if_match=info.etag)
    return SpooledSource(fd, info.size_bytes)


def _rounded(wanted: Range, size_bytes: int) -> Range:
    first = wanted.offset - wanted.offset % _FETCH_UNIT_BYTES
    end = min(size_bytes, -(-wanted.end // _FETCH_UNIT_BYTES) * _FETCH_UNIT_BYTES)
    return Range(first, max(0, end - first))
