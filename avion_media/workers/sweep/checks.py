"""Removes index objects of owners that a crash left: their media item does not exist, or has two of them.

An index object is written before its original, and removed before it. So no original lacks its index object, and only
index objects younger than the last sweep can be left over. One HEAD for each of them is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from avion_media.backends.store import ListedObject, ObjectStore, UnfinishedUpload, UploadMissing
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import MediaError, ObjectMissing
from avion_media.common.ids import InvalidId, parse_media_id
from avion_media.common.media import owner_of
from avion_media.common.records import UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.telemetry import get_logger
from avion_media.items.item import Items
from avion_media.items.moderation import ModerationRecords
from avion_media.items.owners import OWNER_ENTRY, OwnedMedium
from avion_media.items.state.sweep_state import SweepState
from avion_media.workers.settings import SweepConfig, WorkerSettings
from avion_media.workers.sweep.actions import LISTED_PRECISION, find_tasks
from avion_media.workers.sweep.policy import SweepReason
from avion_media.workers.sweep.report import Report

_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A wrong index object; ``doubled``: its media item has two."""

    listed: ListedObject
    owned: OwnedMedium
    doubled: bool


class OwnerIndexCheck:
    """Removes wrong index objects. After `Unavailable` the next sweep checks the same objects again."""

    def __init__(self, items: Items, limiter: RateLimiter, sweep: SweepConfig, clock: Callable[[], datetime]) -> None:
        self._items = items
        self._limiter = limiter
        self._sweep = sweep
        self._clock = clock

    async def run(self, report: Report, complete_since: datetime, *, dry_run: bool, force: bool) -> None:
        """Check all index objects written since the last sweep and before the margin. Count them in ``report``.

        Those that it skips are checked again by the next sweep. ``complete_since``: see `find_tasks`.
        """
        state = SweepState(self._items.redis)
        until = self._clock() - timedelta(seconds=self._sweep.margin)
        last = (await state.read()).owners_checked_until
        since = datetime.fromtimestamp(last, UTC) - _CLOCK_SKEW if last else None
        checked_until = until
        seen = wrong = 0
        before: ListedObject | None = None
        await self._limiter.acquire()
        async for page in self._items.store.get().list(keys.OWNER_PREFIX):
            found, skipped = [], []
            for listed in page:
                owned = OWNER_ENTRY.read_or_skip(listed.key.encode(), listed.key)
                if owned is None:
                    continue
                seen += 1
                if listed.last_modified >= until:
                    continue
                if before is not None and _is_same(before, listed):
                    # The last attempt wrote the right one.
                    found.append(_Wrong(min(before, listed, key=lambda each: each.last_modified), owned, doubled=True))
                elif since is None or listed.last_modified >= since:
                    is_readable = False
                    with report.skipping_unreadable():
                        if not await self._holds(owned):
                            found.append(_Wrong(listed, owned, doubled=False))
                        is_readable = True
                    if not is_readable:
                        skipped.append(listed)
                before = listed
            wrong += len(found)
            allowed = max(self._sweep.always_allowed, int(self._sweep.max_fraction * seen))
            if wrong > allowed and not force:
                report.warnings.append(
                    f"{wrong} of {seen} index objects of owners have no media item, more than the limit: kept"
                )
                return
            if dry_run:
                removed = found
            else:
                removed = await self._remove(found, report, complete_since)
                skipped += [each.listed for each in found if each not in removed]
                checked_until = min([checked_until, *(each.last_modified for each in skipped)])
            for _ in removed:
                report.count_object(SweepReason.DISOWNED)
            await self._limiter.acquire()
        if not dry_run:
            await state.note_owners_checked(checked_until)

    async def _remove(self, found: list[_Wrong], report: Report, complete_since: datetime) -> list[_Wrong]:
        """Remove those that are still wrong, and return them. A task may be about to publish the media item of one."""
        ids = {str(each.owned.media_id) for each in found}
        tasks = await find_tasks(self._items, uploads=ids, remote=(), deleted=(), complete_since=complete_since)
        removed = []
        for each in found:
            with report.skipping_unreadable():
                if str(each.owned.media_id) not in tasks.making and await self._is_still_wrong(each):
                    await self._items.store.get().delete([each.listed.key])
                    removed.append(each)
                else:
                    report.skipped += 1
        return removed

    async def _is_still_wrong(self, wrong: _Wrong) -> bool:
        for _ in range(2):  # for this check and the removal: nothing may wait between them
            await self._limiter.acquire()
        if not wrong.doubled and await self._holds(wrong.owned):
            return False
        try:  # last: an attempt writes it again before the original
            now = await self._items.store.get().head(wrong.listed.key)
        except ObjectMissing:
            return False
        return now.last_modified - wrong.listed.last_modified < LISTED_PRECISION

    async def _holds(self, owned: OwnedMedium) -> bool:
        await self._limiter.acquire()
        original = await self._items.original(owned.media_id)
        return original is not None and owner_of(original.metadata) == owned.owner


def _is_same(one: ListedObject, other: ListedObject) -> bool:
    return one.key.rpartition(".")[0] == other.key.rpartition(".")[0]


_NO_DATE = datetime.min.replace(tzinfo=UTC)


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


def _started(upload: UnfinishedUpload) -> datetime:
    """Return when an upload began. Its id is a lower bound, because moto dates all uploads to 2010."""
    try:
        created = parse_media_id(upload.key.rpartition("/")[2].partition(".")[0]).created
    except InvalidId:
        created = _NO_DATE
    return max(upload.started, created)


_log = get_logger()


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
