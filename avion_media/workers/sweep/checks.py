"""What the sweep checks beside the media: the indexes of originals, evidence, unfinished uploads, and blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from avion_media.backends.store import ListedObject, ObjectInfo, ObjectStore, UnfinishedUpload, UploadMissing
from avion_media.backends.store.contents import find
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import MediaError
from avion_media.common.ids import AnyId, InvalidId, MediaId, RemoteId, id_or_none, parse_any_id
from avion_media.common.media import HOST_METADATA, owner_of
from avion_media.common.records import CustomRecord, UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.copies import COPY_ENTRY, index_key
from avion_media.items.hosts import HOST_ENTRY
from avion_media.items.item import Items
from avion_media.items.moderation import ModerationRecords
from avion_media.items.moderation.blocking import claim_of
from avion_media.items.moderation.evidence import Evidence, Kept
from avion_media.items.owners import OWNER_ENTRY
from avion_media.items.state.sweep_state import SweepState
from avion_media.workers.settings import SweepConfig, WorkerSettings
from avion_media.workers.sweep.actions import LISTED_PRECISION, find_tasks
from avion_media.workers.sweep.policy import SweepReason
from avion_media.workers.sweep.report import Report
from trio_telemetry import get_logger

_WINDOW = 100_000  # originals of one run: some 40 MB
_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of originals. The keys of its objects end in the id of the media item, and perhaps more behind a dot.

    ``key_of`` returns how the key of the index object of an original begins; empty if it has none.
    """

    prefixes: tuple[str, ...]
    entry: CustomRecord[Any]
    key_of: Callable[[AnyId, ObjectInfo], str]
    has_all: bool = False


def _owned(any_id: AnyId, original: ObjectInfo) -> str:
    owner = owner_of(original.metadata)
    return keys.owned_by(owner, any_id) if owner and isinstance(any_id, MediaId) else ""


def _hosted(any_id: AnyId, original: ObjectInfo) -> str:
    host = original.metadata.get(HOST_METADATA, "")
    return keys.hosted_by(host, any_id) if host and isinstance(any_id, RemoteId) else ""


_INDEXES = (
    _Index((keys.OWNER_PREFIX,), OWNER_ENTRY, _owned),
    _Index((keys.HOST_PREFIX,), HOST_ENTRY, _hosted),
    _Index((keys.SHA256_PREFIX, keys.SIZE_PREFIX), COPY_ENTRY, index_key, has_all=True),
)


@dataclass(slots=True)
class _Window:
    """The ids of all originals behind the key ``after``, up to the key ``until``; an empty one is the first or last."""

    after: str
    until: str = ""
    names: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        is_behind = not self.after or _place(self.after) < (len(name), name)
        return is_behind and (not self.until or (len(name), name) <= _place(self.until))


@dataclass(frozen=True, slots=True)
class _Suspect:
    """An index object that seems wrong. ``twin`` is another one of its media item, written later."""

    listed: ListedObject
    twin: str = ""

    @property
    def any_id(self) -> AnyId:
        """The media item that it names."""
        return parse_any_id(keys.name_in(self.listed.key))


class IndexCheck:
    """Removes index objects without their original, and writes those that every original must have.

    Each run compares the next part of all originals with all index objects, by their ids. Only what differs costs a
    request. After `Unavailable` the next sweep checks the same originals again.
    """

    def __init__(
        self,
        items: Items,
        limiter: RateLimiter,
        sweep: SweepConfig,
        clock: Callable[[], datetime],
        *,
        window: int = _WINDOW,
    ) -> None:
        self._items = items
        self._limiter = limiter
        self._sweep = sweep
        self._clock = clock
        self._size = window

    async def run(self, report: Report, complete_since: datetime, *, dry_run: bool, force: bool) -> None:
        """Check the index objects of the next originals, except those within the margin. Count in ``report``.

        ``complete_since``: see `find_tasks`.
        """
        state = SweepState(self._items.redis)
        before = self._clock() - timedelta(seconds=self._sweep.margin)
        window = await self._next_window((await state.read()).indexed_until)
        for index in _INDEXES:
            found, suspects = await self._compare(index, window, before)
            allowed = max(self._sweep.always_allowed, int(self._sweep.max_fraction * len(found)))
            if len(suspects) > allowed and not force:
                kept = f"{len(suspects)} of {len(found)} index objects under {index.prefixes[0]}"
                report.warnings.append(f"{kept} have no media item, more than the limit: kept")
            else:
                await self._remove(index, suspects, report, complete_since, dry_run=dry_run)
            if index.has_all:
                await self._fill(index, window.names - found.keys(), before, report, dry_run=dry_run)
        if not dry_run:
            await state.note_indexed(window.until)

    async def _next_window(self, after: str) -> _Window:
        window = _Window(after)
        prefixes = (keys.ORIGINAL_PREFIX, keys.CACHED_REMOTE_PREFIX)
        for prefix in prefixes[after.startswith(prefixes[1]) :]:
            await self._limiter.acquire()
            async for page in self._items.store.get().list_keys(prefix, after if after.startswith(prefix) else None):
                window.names |= {keys.name_in(key) for key in page}
                if page and len(window.names) >= self._size:
                    window.until = page[-1]
                    return window
                await self._limiter.acquire()
        return window

    async def _compare(
        self, index: _Index, window: _Window, before: datetime
    ) -> tuple[dict[str, ListedObject], list[_Suspect]]:
        """Return the index objects of the window, by media item, and those that seem wrong, written ``before`` then."""
        found: dict[str, ListedObject] = {}
        suspects: list[_Suspect] = []
        for prefix in index.prefixes:
            await self._limiter.acquire()
            async for page in self._items.store.get().list(prefix):
                for listed in page:
                    name = keys.name_in(listed.key)
                    if name not in window or index.entry.read_or_skip(listed.key.encode(), listed.key) is None:
                        continue
                    if name not in window.names:
                        suspects.append(_Suspect(listed))
                    elif name in found:
                        older, newer = sorted((found[name], listed), key=lambda each: each.last_modified)
                        suspects += [_Suspect(older, newer.key), _Suspect(newer)]
                    found[name] = listed
                await self._limiter.acquire()
        return found, [each for each in suspects if each.listed.last_modified < before]

    async def _remove(
        self,
        index: _Index,
        suspects: Sequence[_Suspect],
        report: Report,
        complete_since: datetime,
        *,
        dry_run: bool,
    ) -> None:
        """Remove those that are wrong, now and after a look at the tasks: one may publish the media item right now."""
        wrong = []
        for each in suspects:
            with report.skipping_unreadable():
                if await self._is_wrong(index, each):
                    wrong.append(each)
        ids = [each.any_id for each in wrong]
        tasks = await find_tasks(
            self._items,
            uploads={str(each) for each in ids if isinstance(each, MediaId)},
            remote={str(each) for each in ids if isinstance(each, RemoteId)},
            complete_since=complete_since,
        )
        for each in wrong:
            with report.skipping_unreadable():
                if not dry_run:
                    if str(each.any_id) in tasks.making or not await self._is_still_wrong(index, each):
                        report.skipped += 1
                        continue
                    await self._items.store.get().delete([each.listed.key])
                report.count_object(SweepReason.DISOWNED)

    async def _is_still_wrong(self, index: _Index, suspect: _Suspect) -> bool:
        for _ in range(2):  # for the last check and the removal: nothing may wait between them
            await self._limiter.acquire()
        if not await self._is_wrong(index, suspect):
            return False
        # Last: an attempt writes it again before the original.
        now = await find(self._items.store.get(), suspect.listed.key)
        return now is not None and now.last_modified - suspect.listed.last_modified < LISTED_PRECISION

    async def _is_wrong(self, index: _Index, suspect: _Suspect) -> bool:
        await self._limiter.acquire()
        original = await self._items.original(suspect.any_id)
        start = "" if original is None else index.key_of(suspect.any_id, original)
        if not start or not suspect.listed.key.startswith(start):
            return True
        return suspect.twin.startswith(start)  # the last attempt wrote the right one

    async def _fill(
        self, index: _Index, names: Collection[str], before: datetime, report: Report, *, dry_run: bool
    ) -> None:
        """Write the index objects that originals lack which were written ``before`` then."""
        for name in sorted(names):
            with report.skipping_unreadable(), suppress(InvalidId):
                any_id = parse_any_id(name)
                await self._limiter.acquire()
                original = await self._items.original(any_id)
                if original is None or original.last_modified >= before:
                    continue
                if not dry_run:
                    await self._limiter.acquire()
                    await self._items.copies.add(index.key_of(any_id, original))
                report.count_object(SweepReason.UNINDEXED)


def _place(key: str) -> tuple[int, str]:
    """Return the place of an original among all: uploads by their ids, then remote media by theirs, which are
    longer."""
    name = keys.name_in(key)
    return len(name), name


class UnfinishedUploads:
    """Aborts the old ones. Clients have `UPLOAD__MULTIPART_TTL`; copies by this service take minutes at most."""

    def __init__(
        self,
        store: ResourceSlot[ObjectStore],
        limiter: RateLimiter,
        config: WorkerSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._limiter = limiter
        self._clock = clock
        self._margin = timedelta(seconds=config.sweep.margin)
        self._max_age = {
            keys.INCOMING_PREFIX: timedelta(seconds=config.upload.multipart_ttl) + self._margin,
            keys.ORIGINAL_PREFIX: self._margin,
            keys.CACHED_REMOTE_PREFIX: self._margin,
        }

    async def sweep(self, report: Report, *, dry_run: bool) -> None:
        """Abort and count them in ``report``. An error of the store becomes a warning in the report."""
        try:
            for prefix, max_age in self._max_age.items():
                await self._sweep(prefix, self._clock() - max_age, report, dry_run=dry_run)
            await self._sweep_examined(self._clock() - self._margin, report, dry_run=dry_run)
        except MediaError as error:
            report.warnings.append(f"unfinished multipart uploads were not checked: {error}")

    async def _sweep(self, prefix: str, before: datetime, report: Report, *, dry_run: bool) -> None:
        await self._limiter.acquire()
        async for page in self._store.get().multipart.unfinished(prefix):
            for upload in page:
                if _started(upload) < before:
                    if not dry_run:
                        await self._abort(upload)
                    report.count_unfinished()
            await self._limiter.acquire()

    async def _sweep_examined(self, before: datetime, report: Report, *, dry_run: bool) -> None:
        await self._limiter.acquire()
        async for page in self._store.get().list(keys.EXAMINED_PREFIX):
            old = [each.key for each in page if each.last_modified < before]
            if old and not dry_run:
                await self._store.get().delete(old)
            for _ in old:
                report.count_object(SweepReason.UNFINISHED)
            await self._limiter.acquire()

    async def _abort(self, upload: UnfinishedUpload) -> None:
        await self._limiter.acquire()
        try:
            await self._store.get().multipart.abort(upload.key, upload.upload_id)
        except UploadMissing:
            pass  # the client or the lifecycle rule was faster


class EvidenceCheck:
    """Removes evidence whose time has passed. Costs a request for each media item that has some."""

    def __init__(
        self, items: Items, limiter: RateLimiter, config: WorkerSettings, clock: Callable[[], datetime]
    ) -> None:
        self._redis = items.redis
        self._evidence = Evidence(items.store, config.moderation.evidence_keep)
        self._limiter = limiter
        self._clock = clock
        self._claim_s = config.tasks.claim_after

    async def sweep(self, report: Report, *, dry_run: bool) -> None:
        """Remove and count it in ``report``. Raises `Unavailable`."""
        async for kept in self._evidence.all():
            any_id = id_or_none(kept.media_id)
            await self._limiter.acquire()
            with report.skipping_unreadable(), suppress(UnreadableRecord):  # a newer version knows when it ends
                if any_id is None or not await self._evidence.is_over(any_id, kept, self._clock()):
                    continue
                if dry_run or await self._remove(any_id, kept):
                    report.count_evidence(kept)
                else:
                    report.skipped += 1

    async def _remove(self, any_id: AnyId, kept: Kept) -> bool:
        """Return whether it was removed. It stays if a moderator blocks or reports the media item meanwhile."""
        claim = claim_of(self._redis, kept.media_id, self._claim_s)
        if not await claim.acquire():
            return False
        async with claim.held():
            if not await self._evidence.is_over(any_id, kept, self._clock()):
                return False
            await self._evidence.remove(any_id)
        _log.info("sweep.evidence_removed", media_id=kept.media_id, files=len(kept.files))
        return True


def _started(upload: UnfinishedUpload) -> datetime:
    """Return when an upload began. Its id is a lower bound, because moto dates all uploads to 2010."""
    any_id = id_or_none(keys.name_in(upload.key))
    return max(upload.started, any_id.created) if isinstance(any_id, MediaId) else upload.started


async def watch_blocked(store: ResourceSlot[ObjectStore], limiter: RateLimiter, stored: Sequence[str]) -> None:
    """Watch the blocks in force of these media, which have objects and are in the order of their ids.

    The origin then answers 451, and the node `moderation` removes the objects. One request for most chunks of media.
    Raises `Unavailable`.
    """
    if not stored:
        return
    records, wanted = ModerationRecords(store), set(stored)
    await limiter.acquire()
    async for page in store.get().list_keys(keys.BLOCK_PREFIX, keys.block(stored[0])[:-1]):
        ids = [key.removeprefix(keys.BLOCK_PREFIX) for key in page]
        for media_id in wanted.intersection(ids):
            await limiter.acquire()
            try:
                block = await records.block(media_id)
            except UnreadableRecord:
                continue  # a process of another version takes care of it
            if block is not None and block.removes:
                _log.warning("sweep.blocked_again", media_id=media_id)
                await records.watch(media_id)
        if ids and ids[-1] >= stored[-1]:
            return
        await limiter.acquire()
