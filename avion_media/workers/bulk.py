"""Carries out the bulk jobs of a queue (`BulkJobs`), each at its rate, in the process that is the queue's janitor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from avion_media.backends.queue import BulkJob, BulkJobs, DeadLetterFilter, JobProgress, JobState, TaskQueue
from avion_media.common.errors import Unavailable
from avion_media.common.ids import UnknownFormat, parse_any_id, parse_media_id
from avion_media.items.deletion import JournalReplay, undelete
from avion_media.items.item import Items
from avion_media.items.moderation import parse_host
from avion_media.items.moderation.hosts import EXACTLY
from trio_telemetry import get_logger

Work = Callable[[BulkJob, int], Awaitable[JobProgress]]
"""Runs one step of a job, with a maximum of items. A step that could not be recorded is repeated."""

_MOST = 100  # items of one step
_PAGE = 500  # dead letters that a step reads
_log = get_logger()


class BulkRunner:
    """Carries out the jobs of one queue, by kind. Two processes at once do nothing twice."""

    def __init__(self, jobs: BulkJobs, work: Mapping[str, Work]) -> None:
        self._jobs = jobs
        self._work = work
        self._allowed: dict[str, tuple[str, float, float]] = {}  # by kind: job, number of items, and since when

    async def step(self) -> bool:
        """Run a step of each active job; return whether there is one. Raises `Unavailable` while Redis is."""
        is_active = False
        for kind, work in self._work.items():
            while (job := await self._jobs.get(kind)) is not None and job.state is JobState.RUNNING:
                is_active = True
                most = self._allow(job)
                progress = await self._take(job, work, most) if most else None
                if progress is None:
                    break
                await self._jobs.advance(job, progress)
        return is_active

    async def _take(self, job: BulkJob, work: Work, most: int) -> JobProgress | None:
        """Run one step. Note why, and return None, while something that the step needs is unavailable."""
        try:
            return await work(job, most)
        except (Unavailable, UnknownFormat) as error:  # a janitor of a newer version knows the format
            _log.info("job.backed_off", job=job.name, detail=str(error))
            await self._jobs.advance(job, JobProgress(job.cursor, problem=str(error)[:500]))
            return None
        except Exception as error:  # noqa: BLE001 - a bug in a job must not take the janitor down
            _log.error("job.internal_error", job=job.name, exc_info=error)
            return JobProgress(job.cursor, problem=repr(error)[:500], state=JobState.PAUSED)

    def _allow(self, job: BulkJob) -> int:
        """Return how many items the rate allows now. The allowance of at most one second is kept."""
        now = trio.current_time()
        job_id, left, since = self._allowed.get(job.kind, ("", 0.0, now))
        if job_id != job.job_id:
            left, since = 1.0, now
        left = min(left + (now - since) * job.rate, max(1.0, job.rate))
        most = min(int(left), _MOST)
        self._allowed[job.kind] = job.job_id, left - most, now
        return most


class ReplayDeadLetters:
    """The work of a bulk replay: dead letters of one queue, oldest first, up to the newest one at the start of the
    job."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue

    async def __call__(self, job: BulkJob, most: int) -> JobProgress:
        """See `Work`. A replayed dead letter is removed, so a repeated step replays none twice."""
        wanted = DeadLetterFilter.from_fields(job.conditions)
        through = _order(job.conditions["through"])
        cursor, done = job.cursor, 0
        for each in await self._queue.dead_letters.list(_PAGE, after=cursor):
            if _order(each.entry_id) > through:
                break
            if done == most:
                return JobProgress(cursor, done)
            cursor = each.entry_id
            done += wanted.lets_through(each) and await self._queue.dead_letters.replay(cursor)
        else:
            if cursor != job.cursor:
                return JobProgress(cursor, done)
        return JobProgress(cursor, done, state=JobState.DONE)


class UndeleteMedia:
    """The work of a bulk undelete. A step turns a page of the owner's media into items, or undeletes items."""

    def __init__(self, replay: JournalReplay, jobs: BulkJobs) -> None:
        self._replay = replay
        self._jobs = jobs

    async def __call__(self, job: BulkJob, most: int) -> JobProgress:
        """See `Work`. Undeleting twice is harmless. Raises `Unavailable`."""
        items = await self._jobs.items(job, most)
        if not items:
            return await self._list(job)
        any_ids = [parse_any_id(each) for each in items]
        found = await undelete(self._replay, any_ids)
        problems = {media_id: problem for media_id, problem in found.items() if problem is not None}
        last = next((f"{media_id}: {problem}" for media_id, problem in problems.items()), "")
        return JobProgress(job.cursor, len(items) - len(problems), len(problems), last, items)

    async def _list(self, job: BulkJob) -> JobProgress:
        """Add the next page of the owner's media. After the last page the job is done."""
        owner = job.conditions.get("owner", "")
        if owner:
            after = parse_media_id(job.cursor) if job.cursor else None
            async for page in self._replay.items.owners.media(owner, after):
                if page:
                    records = await self._replay.records.get_many([each.media_id.text for each in page])
                    deleted = [media_id for media_id, record in records.items() if record.is_deleted]
                    return JobProgress(page[-1].media_id.text, added=deleted)
        return JobProgress(job.cursor, state=JobState.DONE)


class PurgeHosts:
    """The work of a purge: removes the copies of remote hosts. An item is the name of a `BlockedHost`; those below it
    become items of their own. What is purged can be requested again, unless its host is blocked."""

    def __init__(self, items: Items, jobs: BulkJobs) -> None:
        self._items = items
        self._jobs = jobs

    async def __call__(self, job: BulkJob, most: int) -> JobProgress:
        """See `Work`. Raises `Unavailable`."""
        names = await self._jobs.items(job, 1)
        if not names:
            return JobProgress(state=JobState.DONE)
        wanted = parse_host(names[0])
        if not wanted.exact:
            added = [f"{EXACTLY}{host}" async for host in self._items.hosts.hosts(wanted.covers)]
            return JobProgress(items=names, added=added)
        async for page in self._items.hosts.copies(wanted.host, page_size=most):
            for each in page:
                await self._items.withdraw(each.media_id, f"host:{job.job_id}")
                await self._items.hosts.remove(wanted.host, each.media_id)  # also one without an original
            if page:
                return JobProgress(done=len(page))
        return JobProgress(items=names)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
