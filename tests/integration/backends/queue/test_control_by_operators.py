"""What operators do to a queue: cancel a task, replay many dead letters at a rate. Pauses: test_dispatch.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import redis as redis_py
from starlette.applications import Starlette

from avion_media.backends.queue import (
    BulkJob,
    BulkJobs,
    DeadLetterFilter,
    JobProgress,
    JobState,
    QueueKeys,
    TaskQueue,
    bulk_jobs,
)
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.credentials import Person, fingerprint
from avion_media.common.errors import Dependency, Reason, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.items.item import Items
from avion_media.operations.operation import Order
from avion_media.operations.table import Operations
from avion_media.servers.admin.application import operation_routes
from avion_media.servers.admin.operators import OperatorGate
from avion_media.workers.bulk import BulkRunner, ReplayDeadLetters
from tests.audit_log import LogInMemory
from tests.crash.test_consumer_outages import Work, consumer_of, settled, until, working

TOKEN = "a-token-of-some-length-0123456789"


async def test_a_cancelled_task_ends_as_a_dead_letter_that_can_be_replayed(redis_of_process: str) -> None:
    with redis_py.Redis.from_url(redis_of_process) as client:
        client.flushall()
    work = Work()
    async with open_redis(redis_of_process) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        task_id = await queue.enqueue({"media_id": "m"})
        await queue.cancel(task_id, "ada@desk")
        async with working(consumer_of(redis, work, "only")):
            stats = await settled(queue)
            assert (stats.dead_letters, work.begun, work.given_up) == (1, [], [Reason.CANCELLED])
            (dead_letter,) = await queue.dead_letters.list()
            assert dead_letter.error == "cancelled: by ada@desk"
            assert await queue.dead_letters.replay(dead_letter.entry_id)
            await until(lambda: work.begun)  # it was cancelled once
            await settled(queue)


async def test_the_cancel_of_a_task_that_never_comes_is_forgotten(redis_of_process: str) -> None:
    with redis_py.Redis.from_url(redis_of_process, decode_responses=True) as client:
        client.flushall()
        state = QueueKeys(PROCESSING_QUEUE).state
        async with open_redis(redis_of_process) as redis:
            queue = TaskQueue(redis, PROCESSING_QUEUE)
            for task_id in ("unknown", "recent"):
                await queue.cancel(task_id, "ada@desk")
            operator, _, at = str(client.hget(state, "cancelled:unknown")).rpartition("@")
            client.hset(state, "cancelled:unknown", f"{operator}@{int(at) - 31 * 86_400}")
            await queue.settle(tenant_cap=0, slots=1, idle_s=30.0)
        assert [each for each in client.hkeys(state) if each.startswith("cancelled:")] == ["cancelled:recent"]


async def test_a_task_that_a_worker_has_is_cancelled_at_its_next_renewal(redis_of_process: str) -> None:
    with redis_py.Redis.from_url(redis_of_process) as client:
        client.flushall()
    work = Work()
    work.hold = type(work.hold)()
    async with open_redis(redis_of_process) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        task_id = await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "only")):
            await until(lambda: work.begun)
            await queue.cancel(task_id, "ada@desk")
            assert (await settled(queue)).dead_letters == 1
    assert work.given_up == [Reason.CANCELLED]


async def given_up(queue: TaskQueue, error: str) -> None:
    await queue.enqueue({"media_id": "m"})
    lease = await queue.take("a", block_s=0)
    assert lease is not None
    await lease.dead_letter(error)


async def works_off(jobs: BulkJobs, runner: BulkRunner, kind: str, clock: Callable[[], float]) -> BulkJob:
    """Let a second go by for each step, until the job does not run any more."""
    while (job := await jobs.get(kind)) is not None and job.state is JobState.RUNNING:
        await runner.step()
        clock()
    assert job is not None
    return job


@pytest.fixture
def a_second(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Lets a second go by for bulk jobs."""
    now = [100.0]

    def pass_by() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr("avion_media.workers.bulk.trio.current_time", lambda: now[0])
    return pass_by


async def test_a_bulk_replay_goes_on_at_its_rate_with_what_was_there(
    redis: Redis, a_second: Callable[[], float]
) -> None:
    queue, jobs = TaskQueue(redis, PROCESSING_QUEUE), BulkJobs(redis, PROCESSING_QUEUE)
    runner = BulkRunner(jobs, {"replay": ReplayDeadLetters(queue)})
    for number in range(10):
        await given_up(queue, "internal: boom" if number % 2 else "poison: 3")
    job = await jobs.begin_replay(DeadLetterFilter(error="INTERNAL"), rate=2.0, by="ada@desk")
    assert job is not None
    assert job.total == 10
    assert await jobs.begin_replay(DeadLetterFilter(), rate=1.0, by="bob@desk") is None  # one at a time
    await given_up(queue, "internal: later")
    await runner.step()
    await runner.step()
    assert (await queue.stats()).depth == 1  # not a second has gone by
    a_second()
    await runner.step()
    assert (await queue.stats()).depth == 3
    assert await jobs.pause("replay")
    a_second()
    await runner.step()
    assert (await queue.stats()).depth == 3
    assert await jobs.resume("replay")
    ended = await works_off(jobs, runner, "replay", a_second)
    stats = await queue.stats()
    assert (ended.state, ended.done, stats.depth, stats.dead_letters) == (JobState.DONE, 5, 5, 6)
    assert not await jobs.cancel("replay")


async def test_a_cancelled_job_does_no_more_and_another_can_begin(redis: Redis, a_second: Callable[[], float]) -> None:
    queue, jobs = TaskQueue(redis, PROCESSING_QUEUE), BulkJobs(redis, PROCESSING_QUEUE)
    runner = BulkRunner(jobs, {"replay": ReplayDeadLetters(queue)})
    for _ in range(3):
        await given_up(queue, "internal: boom")
    assert await jobs.begin_replay(DeadLetterFilter(), rate=1.0, by="ada@desk")
    await runner.step()
    assert await jobs.cancel("replay")
    a_second()
    await runner.step()
    assert (await queue.stats()).dead_letters == 2
    assert await jobs.begin_replay(DeadLetterFilter(reason="poison"), rate=1.0, by="ada@desk")
    assert (await works_off(jobs, runner, "replay", a_second)).done == 0


async def test_a_job_begins_with_all_of_its_items(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_jobs, "_ITEMS", 3)
    jobs = BulkJobs(redis, DELETE_QUEUE)
    for count in (3, 8):
        job = await jobs.begin_undelete([f"m{number}" for number in range(count)], rate=1.0, by="ada@desk")
        assert job is not None
        found = await jobs.get("undelete")
        assert found is not None
        assert (found.job_id, found.state) == (job.job_id, JobState.RUNNING)
        assert await jobs.items(job, 100) == [f"m{number}" for number in range(count)]
        assert await jobs.cancel("undelete")


async def test_a_job_with_a_bug_is_paused_and_says_why(redis: Redis) -> None:
    async def broken(_job: BulkJob, _most: int) -> JobProgress:
        raise KeyError("boom")

    async def waiting(_job: BulkJob, _most: int) -> JobProgress:
        raise Unavailable(Dependency.STORE)

    jobs = BulkJobs(redis, PROCESSING_QUEUE)
    assert await jobs.begin_replay(DeadLetterFilter(), rate=1.0, by="ada@desk")
    await BulkRunner(jobs, {"replay": waiting}).step()
    job = await jobs.get("replay")
    assert job is not None
    assert job.state is JobState.RUNNING
    await BulkRunner(jobs, {"replay": broken}).step()
    job = await jobs.get("replay")
    assert job is not None
    assert (job.state, job.problem) == (JobState.PAUSED, "KeyError('boom')")


def operations_on(redis: Redis, log: LogInMemory) -> Operations:
    items = Items(ResourceSlot(Dependency.STORE), redis)
    return Operations(cast("Any", SimpleNamespace(items=items, kill=None, audit=log)), "admin")


async def test_the_admin_port_steers_for_operators_and_logs_who(redis: Redis) -> None:
    queue, log = TaskQueue(redis, PROCESSING_QUEUE), LogInMemory()
    gate = OperatorGate(lambda: {fingerprint(TOKEN): Person()})
    app = Starlette(routes=operation_routes(operations_on(redis, log), gate))
    statuses = {
        f"/queues/{PROCESSING_QUEUE}/pause": 200,
        f"/queues/{PROCESSING_QUEUE}/replay?rate=5&older_than=7d": 400,
        f"/queues/{PROCESSING_QUEUE}/replay?rate=5": 200,
        f"/queues/{PROCESSING_QUEUE}/replay?rate=1": 409,
        f"/queues/{PROCESSING_QUEUE}/replay?rate=nan": 400,
        f"/queues/{PROCESSING_QUEUE}/replay?rate=1&failed_after=x": 400,
        f"/queues/{PROCESSING_QUEUE}/cancel?task_id=t": 200,
        f"/queues/{PROCESSING_QUEUE}/cancel": 400,
        f"/queues/{DELETE_QUEUE}/cancel?task_id=t": 409,
        "/queues/nonsense/pause": 404,
        "/undelete?rate=5&owner=ada": 200,
        "/undelete?rate=5": 400,
        "/undelete?rate=5&owner=a/b": 400,
        "/undelete?rate=5&media_id=x": 400,
        "/jobs/processing.replay/pause": 200,
        "/jobs/processing.replay/resume": 200,
        "/jobs/delete.undelete/cancel": 200,
        "/jobs/delete.undelete/pause": 409,
        "/jobs/processing.undelete/pause": 404,
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        assert (await client.post(f"/queues/{PROCESSING_QUEUE}/pause")).status_code == 401
        assert not (await queue.stats()).paused_since
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert {path: (await client.post(path)).status_code for path in statuses} == statuses
        assert (await queue.stats()).paused_since
        assert (await client.post(f"/queues/{PROCESSING_QUEUE}/resume")).json()["was_paused"]
        jobs = {each["job"]: each["state"] for each in (await client.get("/jobs")).json()}
        assert jobs == {"processing.replay": "running", "delete.undelete": "cancelled"}
    assert [each.action for each in log.records] == [
        "pause", "replay_all", "cancel", "undelete_all", "pause_job", "resume_job", "cancel_job", "resume",
    ]  # fmt: skip
    refused = Counter(each[3] for each in log.refusals)
    assert refused == {"INVALID_ARGUMENT": 7, "FAILED_PRECONDITION": 3, "NOT_FOUND": 2}
    actors = {each.actor for each in log.records} | {actor for _, actor, _, _ in log.refusals}
    assert actors == {f"token {fingerprint(TOKEN).hex()[:8]}"}


async def test_what_cannot_be_done_with_one_target_is_done_with_the_others(redis: Redis) -> None:
    queue, operations = TaskQueue(redis, PROCESSING_QUEUE), operations_on(redis, LogInMemory())
    outcome = await operations.carry_out("pause", Order([PROCESSING_QUEUE, "nonsense"], who=Person("ada")))
    assert (list(outcome.done), outcome.sentences()) == ([PROCESSING_QUEUE], ["nonsense: no such queue"])
    assert (await queue.stats()).paused_since
    await operations.carry_out("resume", Order([PROCESSING_QUEUE], who=Person("ada")))
    assert not (await queue.stats()).paused_since
