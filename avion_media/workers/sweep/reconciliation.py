"""The sweep: compares the object store with Redis, and repairs what does not agree.

It looks first where losses are: through ``incoming/`` alone, for uploads whose task was lost. Then it lists all
objects, merged by media item (`listing`), newer uploads first, looks up the state of each on Redis, decides (`policy`),
and carries the decisions out (`actions`), batch by batch. It refuses a batch that would bring the removals to more than
a fraction of the objects listed so far: so many removals are more likely a bug or a wrong setting than garbage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from avion_media.backends.store.contents import stored_sizes
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.ids import AnyId, id_or_none, parse_any_id
from avion_media.common.media import in_all_formats
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.items.deletion import JournalReplay
from avion_media.items.state.sweep_state import START, Cursor, SweepPart, SweepState
from avion_media.workers.settings import WorkerSettings
from avion_media.workers.sweep.actions import MediaTasks, SweepActions, find_tasks, scan_queue
from avion_media.workers.sweep.checks import EvidenceCheck, IndexCheck, UnfinishedUploads, watch_blocked
from avion_media.workers.sweep.listing import STORED_KINDS, Media, open_media, start_of_span
from avion_media.workers.sweep.policy import (
    NOTHING_KNOWN,
    Budget,
    KnownState,
    Medium,
    Rules,
    SweepDecision,
    SweepReason,
    decide,
)
from avion_media.workers.sweep.report import Refusal, Report, Stored
from trio_redis import run_all

_CHUNK = 500  # maximum media items compared at once: one round trip for their deletion records
_PAGE = 1000  # objects of one listing request, S3's maximum
_QUEUED_AT_ONCE = 16
_BATCH = 20_000  # media items between two checks of the fraction, and between two saved cursors


class Reconciliation:
    """Runs sweeps. The age of objects is measured by ``clock``.

    ``batch`` is in media items, ``page_size`` in objects of each listing.
    """

    def __init__(
        self,
        replay: JournalReplay,
        config: WorkerSettings,
        *,
        clock: Callable[[], datetime] = utc_now,
        batch: int = _BATCH,
        page_size: int = _PAGE,
    ) -> None:
        self.items = replay.items
        self.replay = replay
        self.config = config
        self.clock = clock
        self.batch = batch
        self.page_size = page_size
        self.limiter = RateLimiter(config.sweep.rate)
        self.actions = SweepActions(replay, self.limiter, clock)

    async def run(
        self,
        *,
        dry_run: bool = False,
        force: bool = False,
        start: Cursor = START,
        checkpoint: Callable[[Cursor], Awaitable[None]] | None = None,
        observe: Callable[[SweepDecision], None] | None = None,
    ) -> Report:
        """Run one sweep from ``start``. Call ``observe`` with each decision that was, or would be, carried out.

        Raises `Unavailable` if the object store or Redis is unavailable. After that, or after a cancel, another sweep
        can continue from the last cursor that ``checkpoint`` was called with.
        """
        report = Report(dry_run)
        if not dry_run:  # first: without its record a deleted media item looks like any other
            await self.replay.ensure_complete()
            await self.replay.prune()
        state = SweepState(self.items.redis)
        uploads = self.items.queues[PROCESSING_QUEUE]
        history_complete_since = await state.history_complete_since(uploads, self.clock(), remember=not dry_run)
        rules = Rules.of(self.config, history_complete_since)
        parts = list(SweepPart)
        for part in parts[parts.index(start.part) :]:
            if part is SweepPart.INCOMING and dry_run:
                continue  # the next part would report the same again
            cursor = start if part is start.part else Cursor(part)
            await _PartOfSweep(self, rules, report, cursor, force, checkpoint, observe).run()
        everything_was_seen = not report.refusals and start == START
        report.stored = {kind: report.stored.get(kind, Stored()) for kind in STORED_KINDS if everything_was_seen}
        indexes = IndexCheck(self.items, self.limiter, self.config.sweep, self.clock)
        await indexes.run(report, history_complete_since, dry_run=dry_run, force=force)
        if report.stored and not dry_run:
            await state.note_stored({kind: (each.objects, each.size_bytes) for kind, each in report.stored.items()})
        await EvidenceCheck(self.items, self.limiter, self.config, self.clock).sweep(report, dry_run=dry_run)
        await UnfinishedUploads(self.items.store, self.limiter, self.config, self.clock).sweep(report, dry_run=dry_run)
        return report


_Candidate = tuple[Medium, KnownState]
"""A media item that the sweep acts on unless it has a task."""


@dataclass(slots=True)
class _PartOfSweep:
    """One part of one sweep."""

    reconciliation: Reconciliation
    rules: Rules
    report: Report
    start: Cursor
    force: bool
    checkpoint: Callable[[Cursor], Awaitable[None]] | None
    observe: Callable[[SweepDecision], None] | None
    budget: Budget = field(init=False)
    wanted: int = 0  # objects that this part has removed, or would remove
    listed: int = 0  # of earlier spans
    before: str = field(init=False)  # where the present span ends
    refused: bool = False

    def __post_init__(self) -> None:
        # A part that is resumed does not see the size of all objects.
        limited_by_size = self.start.part is SweepPart.REMOTE and self.start.after is None
        self.budget = Budget(self.reconciliation.config.remote.budget if limited_by_size else 0)
        self.before = self.start.before

    @property
    def _only_lost(self) -> bool:
        return self.start.part is SweepPart.INCOMING

    async def run(self) -> None:
        """Run to the end of the part, or until a batch is refused."""
        start, reconciliation = self.start, self.reconciliation
        sizes = [] if self._only_lost else await stored_sizes(reconciliation.items.store, reconciliation.limiter)
        after, is_last = start.after, False
        while not is_last and not self.refused:
            since = start_of_span(self.before, reconciliation.clock()) if start.part is SweepPart.UPLOADS else ""
            await self._run_span(sizes, after, since)
            after, self.before, is_last = None, since, not since

    async def _run_span(self, sizes: Sequence[str], after: AnyId | None, since: str) -> None:
        reconciliation = self.reconciliation
        media = await open_media(
            reconciliation.items.store,
            reconciliation.limiter,
            self.start.part,
            sizes,
            after,
            since=since,
            before=self.before,
            page_size=reconciliation.page_size,
        )
        try:
            while await self._run_batch(media):
                pass
            if since and not self.refused and self.checkpoint is not None:
                await self.checkpoint(Cursor(self.start.part, None, since))
        finally:
            self._count(media)

    def _count(self, media: Media) -> None:
        self.listed += media.listed
        if not self._only_lost:
            self.report.listed += media.listed
            self.report.unrecognized += media.unrecognized
            seen = media.stored
            for kind in STORED_KINDS:
                if seen[kind, "objects"]:
                    self.report.stored.setdefault(kind, Stored()).add(seen[kind, "objects"], seen[kind, "bytes"])

    async def _run_batch(self, media: Media) -> bool:
        """Decide and act on one batch. Return whether there is more to do."""
        candidates: list[_Candidate] = []
        seen = 0
        last: Medium | None = None
        ended = False
        chunk_size = min(_CHUNK, self.reconciliation.batch)
        while not ended and seen < self.reconciliation.batch:
            chunk = [each for each in [await media.next() for _ in range(chunk_size)] if each is not None]
            candidates += await self._find_candidates(chunk)
            seen += len(chunk)
            last = chunk[-1] if chunk else last
            ended = len(chunk) < chunk_size
        looked_at = self.reconciliation.clock()
        planned = await self._decide(candidates)
        if ended:
            planned += await self._decide_unused()
        if not await self._carry_out(planned, self.listed + media.listed, looked_at):
            self.refused = True
            return False
        if last is not None and not ended:
            await self._save(last)
        return not ended

    async def _save(self, last: Medium) -> None:
        after = id_or_none(last.name)  # None: an unrecognised object; the next batch ends at another one
        if after is not None and self.checkpoint is not None:
            await self.checkpoint(Cursor(self.start.part, after, self.before))

    async def _find_candidates(self, chunk: list[Medium]) -> list[_Candidate]:
        """Return the media items that the sweep acts on unless they have a task."""
        items = self.reconciliation.items
        deletions = await self.reconciliation.replay.records.get_many([each.name for each in chunk])
        if not self.report.dry_run:
            await watch_blocked(items.store, self.reconciliation.limiter, [each.name for each in chunk if each.served])
        last_uses = await items.remote_states.last_uses([each.name for each in chunk if each.is_remote])
        statuses = await items.statuses.get_many([each.name for each in chunk if each.incoming is not None])
        candidates = []
        for medium in chunk:
            status = statuses.get(medium.name)
            deletion, use = deletions.get(medium.name), last_uses.get(medium.name)
            known = KnownState(
                state=None if status is None else status.state,
                reason=None if status is None else status.reason,
                tombstone=deletion.deleted_at if deletion is not None and deletion.is_deleted else None,
                last_use=None if use is None else use.at,
                ttl=None if use is None else timedelta(seconds=use.ttl_s),
            )
            decision = decide(medium, known, self.rules, self.reconciliation.clock())
            if decision is None:
                self.budget.add(medium, known)
            elif not (self._only_lost and decision.to_delete):  # what is removed depends on the other objects
                candidates.append((medium, known))
        return candidates

    async def _decide(self, candidates: list[_Candidate]) -> list[SweepDecision]:
        """Look up which candidates have a task. Return the decisions about the others."""
        tasks = await self._find_tasks(candidates)
        decisions = []
        for medium, found in candidates:
            name = medium.name
            known = replace(
                found,
                has_task=name in tasks.making,
                given_up=name in tasks.given_up,
            )
            decision = decide(medium, known, self.rules, self.reconciliation.clock())
            if decision is None:
                self.budget.add(medium, known)
            elif id_or_none(name) and (decision.reason is not SweepReason.OVERDUE_DELETION or _has_own_object(medium)):
                decisions.append(decision)
            elif not self._only_lost:
                self.report.unrecognized += len(medium.objects)
        return decisions

    async def _decide_unused(self) -> list[SweepDecision]:
        """Return the decisions about remote media beyond the budget. One that has a task stays until the next sweep."""
        decisions = self.budget.decisions()
        tasks = await self._find_tasks([(each.medium, NOTHING_KNOWN) for each in decisions])
        return [each for each in decisions if each.medium.name not in tasks.making]

    async def _find_tasks(self, candidates: list[_Candidate]) -> MediaTasks:
        others = [medium for medium, known in candidates if known.tombstone is None]
        return await find_tasks(
            self.reconciliation.items,
            uploads=[each.name for each in others if not each.is_remote],
            remote=[each.name for each in others if each.is_remote],
            complete_since=self.rules.history_complete_since,
        )

    async def _carry_out(self, planned: list[SweepDecision], listed: int, looked_at: datetime) -> bool:
        """Carry out a batch. Return False if its removals were refused; tasks are queued in any case.

        Raises `Unavailable` if Redis has lost data since the sweep began; the next sweep starts from the beginning.
        """
        self.wanted += sum(len(each.to_delete) for each in planned)
        sweep = self.reconciliation.config.sweep
        allowed = max(sweep.always_allowed, int(sweep.max_fraction * listed))
        refused = self.wanted > allowed and not self.force
        if refused:
            self.report.refuse(Refusal(self.start.part, self.wanted, allowed, listed))
        accepted = set() if self.report.dry_run else await self._claim_uploads([] if refused else planned)
        for decision in planned:
            if self.report.dry_run:
                self._done(decision)
            elif decision.removes_upload and decision.medium.name in accepted:
                self.report.skipped += 1
            elif decision.to_delete and not refused:
                await self._remove(decision)
        if not self.report.dry_run:
            queued = [partial(self._requeue, each, looked_at) for each in planned if not each.to_delete]
            await run_all(queued, _QUEUED_AT_ONCE)
        return self.report.dry_run or not refused

    async def _claim_uploads(self, planned: Sequence[SweepDecision]) -> set[str]:
        """Claim the uploads to remove, so that none of them can be completed any more. Return those that have a task:
        they were completed since the decision, or another service queued them.

        Raises `Unavailable` if Redis has lost data since the sweep began: among them may be tasks of these uploads.
        """
        items = self.reconciliation.items
        queue = items.queues[PROCESSING_QUEUE]
        uploads = {each.medium.name for each in planned if each.removes_upload}
        claimed = {each for each in uploads if await queue.claim(each)}
        await self._require_complete_history()
        # Tasks of other services have no marker.
        alive, given_up = await scan_queue(items, PROCESSING_QUEUE, claimed)
        return uploads - claimed | alive | given_up

    async def _require_complete_history(self) -> None:
        items, now = self.reconciliation.items, self.reconciliation.clock()
        state, uploads = SweepState(items.redis), items.queues[PROCESSING_QUEUE]
        if await state.history_complete_since(uploads, now, remember=True) > self.rules.history_complete_since:
            raise Unavailable(Dependency.REDIS, "it lost data during the sweep, which starts again")

    async def _requeue(self, decision: SweepDecision, looked_at: datetime) -> None:
        if await self.reconciliation.actions.requeue(decision, looked_at):
            self._done(decision)

    async def _remove(self, decision: SweepDecision) -> None:
        with self.report.skipping_unreadable():
            if await self.reconciliation.actions.remove(decision):
                self._done(decision)
            else:
                self.report.skipped += 1

    def _done(self, decision: SweepDecision) -> None:
        self.report.count(decision)
        if self.observe is not None:
            self.observe(decision)


def _has_own_object(medium: Medium) -> bool:
    """Return whether the removal task will find an object of it. Objects with its id under other keys are not ours."""
    own = keys.all_of(parse_any_id(medium.name), in_all_formats(each.key.split("/")[1] for each in medium.thumbnails))
    return any(each.key in own for each in medium.objects)
