"""Multipart uploads that were never completed: their parts take up space, and no listing of objects shows them.

The bucket's lifecycle rule does the same, but not every store has such rules (MinIO refuses them).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from avion_media.config import Config
from avion_media.domain import keys
from avion_media.domain.errors import MediaError
from avion_media.domain.ids import InvalidId, parse_media_id
from avion_media.resources import ResourceSlot
from avion_media.store import ObjectStore, UnfinishedUpload, UploadMissing
from avion_media.tasks.pace import Pace
from avion_media.tasks.sweep.report import Report

_NO_DATE = datetime.min.replace(tzinfo=UTC)


class UnfinishedUploads:
    """Aborts those that are too old. Clients have `UPLOAD__MULTIPART_TTL`; copies of our own last minutes at most."""

    def __init__(
        self, store: ResourceSlot[ObjectStore], pace: Pace, config: Config, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._pace = pace
        self._clock = clock
        margin = timedelta(seconds=config.sweep.margin)
        self._max_age = {
            keys.INCOMING_PREFIX: timedelta(seconds=config.upload.multipart_ttl) + margin,
            keys.ORIGINAL_PREFIX: margin,
            keys.CACHED_REMOTE_PREFIX: margin,
        }

    async def sweep(self, report: Report, *, dry_run: bool) -> None:
        """Abort them and count them in ``report``. It raises nothing: a store that cannot list them is a doubt."""
        try:
            for prefix, max_age in self._max_age.items():
                await self._sweep(prefix, self._clock() - max_age, report, dry_run=dry_run)
        except MediaError as error:
            report.warnings.append(f"unfinished multipart uploads were not looked at: {error}")

    async def _sweep(self, prefix: str, before: datetime, report: Report, *, dry_run: bool) -> None:
        await self._pace.wait()
        async for page in self._store.get().multipart.unfinished(prefix):
            for upload in page:
                if _started(upload) < before:
                    if not dry_run:
                        await self._abort(upload)
                    report.count_unfinished()
            await self._pace.wait()

    async def _abort(self, upload: UnfinishedUpload) -> None:
        await self._pace.wait()
        try:
            await self._store.get().multipart.abort(upload.key, upload.upload_id)
        except UploadMissing:
            pass  # its client, or the lifecycle rule, was faster


def _started(upload: UnfinishedUpload) -> datetime:
    """When an upload began: not before its medium, whatever the store says (moto dates all of them to 2010)."""
    try:
        created = parse_media_id(upload.key.rpartition("/")[2].partition(".")[0]).created
    except InvalidId:
        created = _NO_DATE
    return max(upload.started, created)
