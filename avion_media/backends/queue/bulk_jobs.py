"""What operators have done to many dead letters or media, at a rate: a job, which the queue's janitor works off.

A queue has at most one job of each kind. One that has ended can be looked at for a week.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from avion_media.backends.queue import scripts
from avion_media.backends.queue.dead_letters import DeadLetterFilter
from avion_media.backends.queue.entries import QueueKeys
from avion_media.backends.redis import Redis, as_text
from avion_media.common.records import HashRecord, InJson
from avion_media.common.tasks import DELETE_QUEUE, QUEUES

REPLAY, UNDELETE, PURGE = "replay", "undelete", "purge"
DEFAULT_RATE = 50.0  # a second: what follows from it should not make live traffic wait
_KEPT_MS = 7 * 86_400_000  # of a job that has ended
_ITEMS = 1_000  # that one command writes
_WRITTEN_MS = 3_600_000  # how long items stay of a job that its command did not begin


class JobState(StrEnum):
    """Where a job is. `PAUSED` is what an operator, or a bug in it, has made of it."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class BulkJob:
    """One job. ``rate``: how many a second. ``total``: how many there may be, 0 if that is not known.

    ``refused`` of them could not be done; ``problem`` is the last reason. ``conditions`` say which are meant.
    """

    queue: str
    kind: str
    job_id: str
    state: JobState
    by: str
    rate: float
    started_at: float
    conditions: Annotated[Mapping[str, str], InJson]
    total: int
    cursor: str = ""
    done: int = 0
    refused: int = 0
    problem: str = ""

    @property
    def name(self) -> str:
        """What operators call it."""
        return f"{self.queue.removeprefix('media_').removesuffix('_queue')}.{self.kind}"

    @property
    def whose(self) -> str:
        """The owner or the hosts whose media are meant; empty if the job is about neither."""
        return self.conditions.get("owner") or self.conditions.get("hosts", "")

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in (JobState.RUNNING, JobState.PAUSED)


BULK_JOB = HashRecord("bulk_job", BulkJob, "{<queue>}:job:<kind>", "operators, then the janitor")


@dataclass(frozen=True, slots=True)
class JobProgress:
    """What a step of a job has done. ``items`` are those that no further step looks at, ``added`` are new ones."""

    cursor: str = ""
    done: int = 0
    refused: int = 0
    problem: str = ""
    items: Sequence[str] = ()
    state: JobState = JobState.RUNNING
    added: Sequence[str] = ()


class BulkJobs:
    """The jobs of one queue. Every method raises `Unavailable` while Redis is unavailable, and can be repeated then."""

    def __init__(self, redis: Redis, queue: str) -> None:
        self._redis = redis
        self._queue = queue
        self._keys = QueueKeys(queue)

    async def begin_replay(self, wanted: DeadLetterFilter, *, rate: float, by: str) -> BulkJob | None:
        """Begin to replay the dead letters that are there now and meant; None if an earlier job has not ended.

        A queue without dead letters has a job that is done at once.
        """
        newest = await self._redis.execute("XREVRANGE", self._keys.dead_letters, "+", "-", "COUNT", 1)
        through = newest[0][0].decode() if newest else "0-0"
        total: int = await self._redis.execute("XLEN", self._keys.dead_letters)
        return await self._begin(REPLAY, {**wanted.to_fields(), "through": through}, rate=rate, by=by, total=total)

    async def begin_undelete(
        self, media_ids: Sequence[str] = (), *, owner: str = "", rate: float, by: str
    ) -> BulkJob | None:
        """Begin to undelete media, and those of an owner; None if an earlier job has not ended."""
        conditions = {"owner": owner} if owner else {}
        return await self._begin(UNDELETE, conditions, media_ids, rate=rate, by=by, total=len(media_ids))

    async def begin_purge(self, hosts: Sequence[str], *, rate: float, by: str, total: int) -> BulkJob:
        """Begin to remove the copies of remote hosts, or let the job that is open do it as well."""
        while True:
            job = await self._begin(PURGE, {"hosts": _named(hosts)}, hosts, rate=rate, by=by, total=total)
            if job is not None:
                return job
            job = await self.get(PURGE)
            if job is not None and await self.advance(job, JobProgress(state=job.state, added=hosts)):
                return job

    async def get(self, kind: str) -> BulkJob | None:
        """Return the queue's last job of a kind; None also for one that this version cannot read."""
        key = self._keys.bulk_job(kind)
        fields = as_text(await self._redis.execute("HGETALL", key))
        return BULK_JOB.read_or_skip(fields, key) if fields else None

    async def pause(self, kind: str) -> bool:
        """Stop a running job for now; return whether there was one."""
        return await self._steer(kind, JobState.PAUSED, JobState.RUNNING)

    async def resume(self, kind: str) -> bool:
        """Go on with a paused job; return whether there was one."""
        return await self._steer(kind, JobState.RUNNING, JobState.PAUSED)

    async def cancel(self, kind: str) -> bool:
        """End a job; return whether there was one. The changes that the job has made stay."""
        return await self._steer(kind, JobState.CANCELLED, JobState.RUNNING, JobState.PAUSED)

    async def items(self, job: BulkJob, most: int) -> list[str]:
        """Return some of what a job has to work on."""
        found = await self._redis.execute("ZRANGE", self._keys.bulk_items(job.kind), 0, most - 1)
        return [each.decode() for each in found]

    async def advance(self, job: BulkJob, progress: JobProgress) -> bool:
        """Note what a step has done, unless the job has ended meanwhile. Return whether it was noted."""
        args = (job.job_id, progress.state, progress.cursor, progress.done, progress.refused, progress.problem)
        noted = await self._redis.run(
            scripts.ADVANCE_JOB,
            self._job_keys(job.kind),
            (*args, _KEPT_MS, len(progress.items), *progress.items, *progress.added),
        )
        return bool(noted)

    async def _begin(
        self, kind: str, conditions: Mapping[str, str], items: Sequence[str] = (), *, rate: float, by: str, total: int
    ) -> BulkJob | None:
        now = time.time()
        job = BulkJob(self._queue, kind, secrets.token_hex(8), JobState.RUNNING, by, rate, now, conditions, total)
        flat = [part for pair in BULK_JOB.write(job).items() for part in pair]
        # In pages, under a key of their own: the job begins with all of them or not at all.
        written = f"{self._keys.bulk_items(kind)}:{job.job_id}"
        for first in range(0, len(items), _ITEMS):
            scored = [part for each in items[first : first + _ITEMS] for part in (0, each)]
            await self._redis.execute("ZADD", written, *scored)
            await self._redis.execute("PEXPIRE", written, _WRITTEN_MS)
        begun = await self._redis.run(scripts.BEGIN_JOB, (*self._job_keys(kind), written), flat)
        return job if begun else None

    async def _steer(self, kind: str, state: JobState, *after: JobState) -> bool:
        return bool(await self._redis.run(scripts.STEER_JOB, self._job_keys(kind), (state, _KEPT_MS, *after)))

    def _job_keys(self, kind: str) -> tuple[str, str]:
        return self._keys.bulk_job(kind), self._keys.bulk_items(kind)


def _named(hosts: Sequence[str]) -> str:
    """Return the first of them, for people."""
    return ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")


KINDS = {name: (REPLAY, UNDELETE, PURGE) if name == DELETE_QUEUE else (REPLAY,) for name in QUEUES}
"""Which kinds of jobs each queue can have. The janitor of deletions works off undeletes and purges."""


async def all_jobs(redis: Redis) -> list[BulkJob]:
    """Return the last job of each queue and kind. Raises `Unavailable`."""
    found = [await BulkJobs(redis, queue).get(kind) for queue, kinds in KINDS.items() for kind in kinds]
    return [each for each in found if each is not None]


def find_jobs(redis: Redis, name: str) -> tuple[BulkJobs, str] | None:
    """Return the jobs of a queue, and the kind, that a `BulkJob.name` means; None if there can be none."""
    short, _, kind = name.partition(".")
    queue = f"media_{short}_queue"
    return (BulkJobs(redis, queue), kind) if kind in KINDS.get(queue, ()) else None
