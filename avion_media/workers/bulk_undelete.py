"""The work of a bulk undelete: named media items, and the deleted ones of an owner."""

from __future__ import annotations

from avion_media.backends.queue import BulkJob, BulkJobs, JobProgress, JobState
from avion_media.common.ids import parse_any_id, parse_media_id
from avion_media.items.deletion import JournalReplay, undelete


class UndeleteMedia:
    """Each step either turns a page of the owner's media into items, or undeletes items."""

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
