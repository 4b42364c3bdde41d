"""Many deletions undone by a job: media that were named, and those of an owner."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import trio

from avion_media.backends.queue import BulkJobs, JobProgress, JobState
from avion_media.backends.redis import Redis, open_redis
from avion_media.common import keys
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DELETE_QUEUE
from avion_media.items.deletion import DeletionJournal, DeletionRecords, JournalReplay
from avion_media.items.item import Items
from avion_media.workers.bulk import BulkRunner, UndeleteMedia
from tests.crash.stage import MemoryStore, Steps
from tests.service.published import encode_id

OWNED, NAMED, PRESENT = (new_media_id(JPEG, 1_700_000_000_000 + number) for number in range(3))
GONE = new_media_id(JPEG, 1_700_000_000_009)


async def test_named_media_and_those_of_an_owner_are_undeleted_once_each(redis_url: str) -> None:
    objects: dict[str, Any] = {}
    memory: Any = MemoryStore(objects, Steps())
    memory.list_keys = partial(OnePage, objects)
    store: ResourceSlot[Any] = ResourceSlot(Dependency.STORE)
    async with open_redis(redis_url) as redis:
        for each in (OWNED, NAMED, PRESENT):
            await memory.put(keys.original(each), b"x", content_type="image/jpeg")
        for each in (OWNED, PRESENT):
            await memory.put(keys.owned("ada", each, 1), b"", content_type="x")
        with store.filled(memory):
            journal = DeletionJournal(store, 3600.0)
            replay = JournalReplay(Items(store, redis), journal)
            await replay.ensure_complete()
            deleted = [str(each) for each in (OWNED, NAMED, GONE)]
            await DeletionRecords(redis).mark(deleted, delay_s=3600)
            jobs = BulkJobs(redis, DELETE_QUEUE)
            work = {"undelete": UndeleteMedia(replay, jobs)}
            begun = await jobs.begin_undelete([str(NAMED), str(GONE)], owner="ada", rate=1000.0, by="ada@desk")
            assert begun is not None
            runner = BulkRunner(jobs, work)
            while (job := await jobs.get("undelete")) is not None and job.state is JobState.RUNNING:
                await runner.step()
            assert job is not None
            assert (job.state, job.done, job.refused) == (JobState.DONE, 2, 1)
            assert job.problem == f"{GONE}: too late: its original is gone"
            records = await DeletionRecords(redis).get_many(deleted)
            assert {name for name, record in records.items() if record.is_deleted} == {str(GONE)}


async def test_an_object_that_the_store_does_not_return_stops_no_other(redis_url: str) -> None:
    """An undelete only changes the record. While the whole store fails, the job says so, and goes on afterwards."""
    objects: dict[str, Any] = {}
    memory: Any = MemoryStore(objects, Steps())
    store: ResourceSlot[Any] = ResourceSlot(Dependency.STORE)
    media = [new_media_id(JPEG, 1_700_000_000_000 + number) for number in range(5)]
    for each in media:
        await memory.put(keys.original(each), b"x", content_type="image/jpeg")
    head, broken = memory.head, dict.fromkeys([keys.original(media[0])], Dependency.OBJECT)

    async def failing_head(key: str) -> Any:
        if key in broken:
            raise Unavailable(broken[key], "a test")
        return await head(key)

    memory.head = failing_head
    async with open_redis(redis_url) as redis:
        with store.filled(memory):
            replay = JournalReplay(Items(store, redis), DeletionJournal(store, 3600.0))
            await replay.ensure_complete()
            names = [str(each) for each in media]
            await DeletionRecords(redis).mark(names, delay_s=3600)
            jobs = BulkJobs(redis, DELETE_QUEUE)
            await jobs.begin_undelete(names, rate=1000.0, by="ada@desk")
            runner = BulkRunner(jobs, {"undelete": UndeleteMedia(replay, jobs)})
            last = keys.original(media[-1])
            broken[last] = Dependency.STORE
            with trio.fail_after(10):
                while (job := await jobs.get("undelete")) is not None and not job.problem:
                    await runner.step()
            assert job is not None
            assert (job.state, job.problem) == (JobState.RUNNING, "the object store is not available: a test")
            del broken[last]
            with trio.fail_after(10):
                while await runner.step():
                    pass
            job = await jobs.get("undelete")
            assert job is not None
            assert (job.state, job.done, job.refused) == (JobState.DONE, 5, 0)
            assert not any(each.is_deleted for each in (await DeletionRecords(redis).get_many(names)).values())


async def test_media_of_an_unknown_format_wait_for_a_newer_janitor(redis_url: str) -> None:
    store: ResourceSlot[Any] = ResourceSlot(Dependency.STORE)
    async with open_redis(redis_url) as redis:
        with store.filled(MemoryStore({}, Steps())):
            jobs = BulkJobs(redis, DELETE_QUEUE)
            replay = JournalReplay(Items(store, redis), DeletionJournal(store, 3600.0))
            newer = encode_id(datetime.now(UTC), 255, 1)
            await jobs.begin_undelete([newer], rate=1000.0, by="ada@desk")
            assert await BulkRunner(jobs, {"undelete": UndeleteMedia(replay, jobs)}).step()
            job = await jobs.get("undelete")
            assert job is not None
            assert (job.state, job.done, job.refused) == (JobState.RUNNING, 0, 0)
            assert "format code" in job.problem
            assert await jobs.items(job, 1) == [newer]


class Dying(Redis):
    """The connections of a command that dies before its call number ``calls``."""

    def __init__(self, url: str, calls: int) -> None:
        super().__init__(url)
        self._left = calls

    async def execute(self, *command: Any, **options: Any) -> Any:
        if not self._left:
            raise _DiedError
        self._left -= 1
        return await super().execute(*command, **options)


class _DiedError(Exception):
    pass


async def test_a_command_that_dies_has_begun_a_whole_job_or_none(redis_url: str) -> None:
    media_ids, found = [f"m{number:04}" for number in range(1200)], []
    for calls in count():
        has_died = False
        async with open_redis(redis_url) as redis:
            await redis.execute("FLUSHALL")
            try:
                dying = Dying(redis_url, calls)
                async with dying.opened():
                    await BulkJobs(dying, DELETE_QUEUE).begin_undelete(media_ids, rate=1.0, by="ada@desk")
            except _DiedError:
                has_died = True
            jobs = BulkJobs(redis, DELETE_QUEUE)
            job = await jobs.get("undelete")
            found.append(job is not None)
            if job is not None:
                assert job.state is JobState.RUNNING
                assert await jobs.items(job, 2000) == media_ids
        if not has_died:
            break
    assert found[0] is False
    assert found[-1] is True


class OnePage:
    """The keys that begin with ``prefix``, behind ``after``."""

    def __init__(self, objects: dict[str, Any], prefix: str, after: str | None, *, page_size: int = 1000) -> None:
        found = sorted(key for key in objects if key.startswith(prefix) and key > (after or ""))
        self._pages = [found[:page_size]] if found else []

    def __aiter__(self) -> OnePage:
        return self

    async def __anext__(self) -> list[str]:
        if not self._pages:
            raise StopAsyncIteration
        return self._pages.pop()


async def test_a_job_that_was_replaced_adds_nothing_to_the_next_one(redis_url: str) -> None:
    async with open_redis(redis_url) as redis:
        jobs = BulkJobs(redis, DELETE_QUEUE)
        first = await jobs.begin_undelete(owner="ada", rate=1.0, by="ada@desk")
        assert first is not None
        await jobs.cancel("undelete")
        second = await jobs.begin_undelete(["m2"], rate=1.0, by="ada@desk")
        assert second is not None
        await jobs.advance(first, JobProgress("m1", added=["m1"]))
        assert await jobs.items(second, 10) == ["m2"]
        await jobs.advance(second, JobProgress(items=["m2"], added=["m3"]))
        assert await jobs.items(second, 10) == ["m3"]
