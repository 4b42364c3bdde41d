"""``media_cache_queue``: fetch a remote media item under the guard, and publish it like an upload.

The present state decides what a task does:

==============================  ======================================================================================
a tombstone                     nothing
a block                         removes what was written after it, and publishes the failure
a fresh copy                    publishes that it is READY
a blocked host                  publishes the failure, or that an older copy is READY; the server is not contacted
a recent failure                publishes the failure, or that an older copy is READY; the server is not contacted
a copy older than its TTL       makes a conditional request; 304 renews the copy; 401, 403, 404, 410, 451 and a response
                                that forbids copies remove it; any other failure leaves it as it is
nothing                         fetches
==============================  ======================================================================================
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import replace

import trio

from avion_media.backends.files import SpooledSource, open_spool
from avion_media.backends.remote import Fetcher, RemoteGone
from avion_media.backends.settings import RemoteConfig, RemoteKind
from avion_media.common.clock import utc_now
from avion_media.common.errors import SERVICE_FAULTS, Deferred, Reason, Rejected, Unavailable
from avion_media.common.ids import RemoteId
from avion_media.common.media import MediaFacts
from avion_media.common.tasks import CACHE_QUEUE, KIND, REGENERATE, EnsureLease, Task, TaskHandler
from avion_media.common.telemetry import instruments
from avion_media.items.item import Published
from avion_media.items.moderation import HeldForReview, Screening
from avion_media.items.state import RemoteFailure, RemoteUse
from avion_media.media.scrubber import require_format
from avion_media.workers.processor import Processor, original_writer
from guarded_fetch import Fetched, InvalidUrl, RemoteUrl, parse_remote_url, validators_from
from mediascrub import HEAD_BYTES, Sniffed, sniff

# Failures that may end soon. All others are remembered for longer.
_UNREACHABLE_TTL_S = 300.0  # how long a URL is not fetched again after its server did not respond
_TRANSIENT = frozenset({Reason.REMOTE_UNREACHABLE, Reason.INTERNAL})


class CacheRemote(TaskHandler):
    """See `TaskHandler`."""

    def __init__(self, processor: Processor, fetcher: Fetcher, config: RemoteConfig) -> None:
        self._processor = processor
        self._moderation = processor.moderation
        self._items = processor.items
        self._states = self._items.remote_states
        self._fetcher = fetcher
        self._config = config

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        """See `TaskHandler.run`."""
        url, remote_id = self._target(task)
        if REGENERATE in task.fields:
            await self._processor.regenerate(task, remote_id, ensure_lease)
            return
        with suppress(HeldForReview):  # until a moderator has decided
            screening = await self._moderation.begin(remote_id, task, CACHE_QUEUE)
            if await self._items.clean_up_if_deleted(remote_id):
                await screening.end()
            else:
                await self._answer(task, url, remote_id, screening, ensure_lease)

    async def _answer(
        self, task: Task, url: RemoteUrl, remote_id: RemoteId, screening: Screening, ensure_lease: EnsureLease
    ) -> None:
        if await self._items.events.was_published(str(remote_id), task.task_id):
            await screening.end()
            return  # an earlier attempt was finished; the server's next response may differ
        state, kind = await self._states.load(remote_id), self._kind_of(task)
        use = state.used(utc_now(), kind.ttl_s, kind.max_bytes)
        copy, failure = await self._items.published(remote_id), state.failure
        if copy is not None and (state.validated or _age_s(copy) < use.ttl_s):
            await self._queue_regeneration(url, remote_id)  # an earlier attempt may have crashed before that
            await self._tell_ready(task, remote_id, copy.facts, screening, use)
        elif failure is not None and failure.stops(use.max_bytes) and not _is_replayed(failure, task):
            await self._tell_failure(task, remote_id, failure.reason, copy)
        else:
            if failure is not None:
                await self._states.forget_failure(remote_id)
            await self._obtain(task, url, remote_id, copy, screening, ensure_lease, use)

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """See `TaskHandler.record_failure`."""
        try:
            url, remote_id = self._target(task)
        except Rejected:
            return  # a mistake of another service: the task has no media item
        if REGENERATE in task.fields:
            return  # the media item stays as it is
        ttl_s = _UNREACHABLE_TTL_S if reason in _TRANSIENT else self._config.negative_ttl
        limit = max(self._kind_of(task).max_bytes, (await self._states.load(remote_id)).use.max_bytes)
        failure = RemoteFailure(reason, task.task_id, url.server, utc_now().timestamp(), limit)
        if reason is not Reason.BLOCKED_HOST:  # after an unblock the URL is fetched at once
            await self._states.remember_failure(remote_id, failure, ttl_s)
        await self._tell_failure(task, remote_id, reason, await self._items.published_if_readable(remote_id))

    async def renew_status(self, task: Task) -> None:
        """See `TaskHandler.renew_status`. An older copy has its own status, READY."""
        try:
            _, remote_id = self._target(task)
        except Rejected:
            return
        await self._items.keep_processing(remote_id, only_if_known=True)

    def _target(self, task: Task) -> tuple[RemoteUrl, RemoteId]:
        try:
            url = parse_remote_url(task.fields.get("remote_url", ""))
        except InvalidUrl as error:
            raise Rejected(Reason.MALFORMED_TASK, str(error)) from None
        return url, self._items.remote_ids.get().of(str(url))

    def _name_of(self, url: RemoteUrl) -> str:
        return str(self._items.remote_ids.get().of(str(url)))

    def _kind_of(self, task: Task) -> RemoteKind:
        return self._config.kind(task.fields.get(KIND, ""))

    async def _tell_ready(
        self, task: Task, remote_id: RemoteId, facts: MediaFacts, screening: Screening, use: RemoteUse
    ) -> None:
        await self._states.mark_used(remote_id, use)
        await screening.announce_ready(facts, dedup_key=task.task_id)

    async def _tell_failure(self, task: Task, remote_id: RemoteId, reason: Reason, copy: Published | None) -> None:
        """An older copy is served for as long as somebody asks for it: its server may be back."""
        # A failure of this service is not final: the same task may be replayed, and end differently.
        dedup_key = f"{task.task_id}:{reason}" if reason in SERVICE_FAULTS else task.task_id
        blocked = None
        if copy is not None:
            with suppress(HeldForReview):  # until a moderator has decided
                blocked = await self._moderation.announce_published(remote_id, task, CACHE_QUEUE, copy.facts, dedup_key)
            if blocked is None:
                return
        await self._items.announce_failed(remote_id, blocked or reason, dedup_key=dedup_key)

    async def _obtain(
        self,
        task: Task,
        url: RemoteUrl,
        remote_id: RemoteId,
        copy: Published | None,
        screening: Screening,
        ensure_lease: EnsureLease,
        use: RemoteUse,
    ) -> None:
        """Fetch, process and publish the file."""
        states = self._states
        await self._moderation.hosts.refresh()
        await states.reset_failure(remote_id)
        with ExitStack() as files:
            fd = files.enter_context(open_spool())
            try:
                fetched = await self._fetch_within(use.max_bytes, task, url, remote_id, fd, copy)
            except RemoteGone as gone:
                if gone.reason is Reason.NOT_CACHEABLE:
                    await states.note_not_cacheable(url.host)
                if copy is not None:
                    await self._items.withdraw(remote_id, f"gone:{task.task_id}")
                raise
            if fetched is None and copy is not None:
                await states.mark_validated(remote_id, use.ttl_s)
                await self._tell_ready(task, remote_id, copy.facts, screening, use)
            elif fetched is not None:
                facts = await self._process(task, url, remote_id, fd, fetched, files, ensure_lease, copy, screening)
                if facts is not None:
                    await self._withdraw_if_blocked(task, remote_id, url, fetched.final_url)
                    await self._queue_regeneration(url, remote_id)
                    await self._tell_new(task, remote_id, facts, copy, screening)

    async def _tell_new(
        self, task: Task, remote_id: RemoteId, facts: MediaFacts, copy: Published | None, screening: Screening
    ) -> None:
        if copy is not None and copy.facts.sha256 != facts.sha256:
            sizes = dict.fromkeys((*facts.thumbnails, *copy.facts.thumbnails))
            await self._items.purge(remote_id, f"replaced:{task.task_id}", sizes)
        await screening.announce_ready(facts, dedup_key=task.task_id)

    async def _withdraw_if_blocked(self, task: Task, remote_id: RemoteId, *urls: RemoteUrl) -> None:
        """Remove what was just written of a host that was blocked meanwhile, and raise `Rejected`."""
        hosts = self._moderation.hosts
        await hosts.refresh()
        for url in urls:
            if hosts.is_blocked(url.host):
                await self._items.withdraw(remote_id, f"blocked_host:{task.task_id}")
                raise Rejected(Reason.BLOCKED_HOST, url.host)

    async def _queue_regeneration(self, url: RemoteUrl, remote_id: RemoteId) -> None:
        """Queue a task that makes thumbnails again, if some were not made from the present original.

        The attempt that wrote last checks after its last write, so it sees the final state.
        """
        if not await self._items.is_consistent(remote_id):
            fields = {"remote_url": str(url), REGENERATE: "thumbnails"}
            queue = self._items.queues[CACHE_QUEUE]
            await queue.enqueue(fields, dedup_key=f"{REGENERATE}:{remote_id}", follow_up=True)

    async def _fetch_within(
        self, max_bytes: int, task: Task, url: RemoteUrl, remote_id: RemoteId, fd: int, copy: Published | None
    ) -> Fetched | None:
        """Fetch the file; again if it is too large, and was meanwhile requested as a kind with a wider limit."""
        while True:
            try:
                return await self._fetch(url, fd, copy, max_bytes, self._kind_of(task).name)
            except Rejected as rejected:
                wanted = (await self._states.load(remote_id)).use.max_bytes
                if rejected.reason is not Reason.TOO_LARGE or wanted <= max_bytes:
                    raise
                max_bytes = wanted
                os.ftruncate(fd, 0)

    async def _fetch(
        self, url: RemoteUrl, fd: int, copy: Published | None, max_bytes: int, kind: str
    ) -> Fetched | None:
        """Fetch the file. Return None if the server confirms that the copy is current.

        The span has the host name. No trace context is sent to remote servers.
        """
        known = None if copy is None else validators_from(copy.info.metadata, self._name_of)
        telemetry = self._items.telemetry
        outcome, fmt = "ok", ""
        with telemetry.child_span(
            "GET",
            kind="client",
            http__request__method="GET",
            url__scheme=url.scheme,
            server__address=url.host,
            server__port=url.port,
        ) as span:
            try:
                fetched = await self._fetcher.fetch_if_changed(url, fd, known, max_bytes)
                if fetched is None:
                    outcome = "not_modified"
                else:
                    fmt = _sniffed(fd, fetched).format or ""
                return fetched
            except BaseException as error:
                outcome = _outcome_of(error)
                span.fail(outcome)
                raise
            finally:
                span.set(avion__remote__outcome=outcome)
                telemetry.count(instruments.REMOTE_FETCHES, format=fmt, outcome=outcome, kind=kind)

    async def _process(
        self,
        task: Task,
        url: RemoteUrl,
        remote_id: RemoteId,
        fd: int,
        fetched: Fetched,
        files: ExitStack,
        ensure_lease: EnsureLease,
        copy: Published | None,
        screening: Screening,
    ) -> MediaFacts | None:
        """Return the facts of the published file; None if it was deleted before."""
        fmt = require_format(_sniffed(fd, fetched), None, self._processor.enabled)
        self._processor.check_size(fetched.size_bytes, fmt.family)
        source = SpooledSource(fd, fetched.size_bytes)
        facts, made = await self._processor.make(screening, source, fmt, files)
        facts = replace(facts, host=url.host, kind=self._kind_of(task).name)
        validators = None
        if fetched.validators is not None:
            validators = fetched.validators.named_by(self._name_of, fetched.final_url).to_metadata()
        writer = original_writer(made, source, facts, more_metadata=validators, replace=True)
        await ensure_lease()
        replaced = None if copy is None else copy.facts
        return await self._items.publish(
            remote_id,
            facts,
            made.thumbnails,
            writer,
            replaced=replaced,
            manifest=made.manifest,
            url=str(url),
        )


def _sniffed(fd: int, fetched: Fetched) -> Sniffed:
    return sniff(os.pread(fd, HEAD_BYTES, 0), size=fetched.size_bytes)


def _outcome_of(error: BaseException) -> str:
    match error:
        case Rejected():
            return str(error.reason)
        case Deferred():
            return "deferred"
        case Unavailable():
            return "unavailable"
        case trio.Cancelled():
            return "cancelled"
    return "failed"


def _age_s(copy: Published) -> float:
    return (utc_now() - copy.info.last_modified).total_seconds()


def _is_replayed(failure: RemoteFailure, task: Task) -> bool:
    """Whether it was this very task that failed, for a reason of ours: then an operator wants it tried again."""
    return failure.task_id == task.task_id and failure.reason in SERVICE_FAULTS
