"""Aborts multipart uploads that were never completed. Their parts take up space, and no listing of objects shows them.

The bucket's lifecycle rule does the same, but not every object store has such rules (MinIO refuses them). A replica
that is killed while it examines the store leaves such an upload too, and an object beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from avion_media.backends.store import ObjectStore, UnfinishedUpload, UploadMissing
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import MediaError
from avion_media.common.ids import InvalidId, parse_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.workers.settings import WorkerSettings
from avion_media.workers.sweep.policy import SweepReason
from avion_media.workers.sweep.report import Report

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
