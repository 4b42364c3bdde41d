"""``media_cache_queue``: fetch a remote medium under the guard, and publish it like an upload."""

from __future__ import annotations

import os
from contextlib import ExitStack

from avion_media.config import UploadConfig
from avion_media.domain.errors import Reason, Rejected, Unavailable
from avion_media.domain.formats import Family
from avion_media.domain.ids import RemoteId, remote_id_for
from avion_media.domain.media import MediaFacts
from avion_media.domain.tasks import Task
from avion_media.media.sniff import HEAD_BYTES, Sniffed, require_format, sniff
from avion_media.media.workshop import Workshop
from avion_media.remote import Fetcher, InvalidUrl, RemoteUrl, parse_remote_url
from avion_media.resources import Slot
from avion_media.tasks.publish import Publisher
from avion_media.tasks.sources import SpooledSource, open_spool
from avion_media.tasks.write import facts_of, original_writer
from avion_media.telemetry import Telemetry, instruments


class CacheRemote:
    """See `TaskHandler`."""

    def __init__(
        self,
        workshop: Slot[Workshop],
        publisher: Publisher,
        fetcher: Fetcher,
        limits: UploadConfig,
        enabled: frozenset[str],
        telemetry: Telemetry,
        *,
        ttl_s: float,
    ) -> None:
        self._workshop = workshop
        self._publisher = publisher
        self._fetcher = fetcher
        self._limits = limits
        self._enabled = enabled
        self._telemetry = telemetry
        self._ttl_s = ttl_s

    async def run(self, task: Task) -> None:
        """See `TaskHandler.run`."""
        url, remote_id = _target(task)
        if await self._publisher.settle_deleted(remote_id):
            return
        if await self._publisher.has_told(remote_id, task.task_id):
            return  # an earlier attempt came to its end; the server's next answer may be another
        facts = await self._publisher.published(remote_id, max_age_s=self._ttl_s)
        if facts is None:
            facts = await self._obtain(url, remote_id)
        if facts is not None:
            await self._publisher.announce_ready(remote_id, facts, occasion=task.task_id)

    async def give_up(self, task: Task, reason: Reason) -> None:
        """See `TaskHandler.give_up`."""
        try:
            _, remote_id = _target(task)
        except Rejected:
            return  # a foreign producer's mistake: there is no medium to speak of
        await self._publisher.announce_failed(remote_id, reason, occasion=task.task_id)

    async def _obtain(self, url: RemoteUrl, remote_id: RemoteId) -> MediaFacts | None:
        """Fetch, make, publish; None when a deletion won."""
        with ExitStack() as files:
            fd = files.enter_context(open_spool())
            size_bytes = await self._fetch(url, fd)
            return await self._process(remote_id, fd, size_bytes, files)

    async def _fetch(self, url: RemoteUrl, fd: int) -> int:
        outcome = "ok"
        try:
            return (await self._fetcher.fetch(url, fd)).size_bytes
        except Rejected as rejection:
            outcome = str(rejection.reason)
            raise
        except Unavailable:
            outcome = "unavailable"
            raise
        finally:
            self._telemetry.count(instruments.REMOTE_FETCHES, outcome=outcome)

    async def _process(self, remote_id: RemoteId, fd: int, size_bytes: int, files: ExitStack) -> MediaFacts | None:
        found = sniff(os.pread(fd, HEAD_BYTES, 0), size=size_bytes)
        fmt = require_format(found, _family(found), self._enabled)
        if size_bytes > self._limits.max_bytes(fmt.family):
            raise Rejected(Reason.TOO_LARGE, f"{size_bytes} bytes")
        source = SpooledSource(fd, size_bytes)
        made = await self._workshop.get().process(source, fmt, files)
        facts = await facts_of(made, source)
        writer = original_writer(made, source, facts, source_info=None, replace=True)
        published = await self._publisher.publish(remote_id, facts, made.thumbnails, writer)
        return facts if published else None


def _family(found: Sniffed) -> Family:
    """Nobody declared anything here: the content's own family is the declared one."""
    return found.family or Family.IMAGE


def _target(task: Task) -> tuple[RemoteUrl, RemoteId]:
    try:
        url = parse_remote_url(task.fields.get("remote_url", ""))
    except InvalidUrl as error:
        raise Rejected(Reason.MALFORMED_TASK, str(error)) from None
    return url, remote_id_for(str(url))
