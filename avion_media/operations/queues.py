"""What operators do to queues, their tasks, their dead letters and their bulk jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode

from avion_media.backends.queue import (
    NEVER_GIVEN_UP,
    BulkJob,
    BulkJobs,
    DeadLetterFilter,
    DeadLetters,
    TaskQueue,
    find_jobs,
)
from avion_media.common.tasks import DELETE_QUEUE, QUEUES
from avion_media.operations.operation import (
    OWNER,
    Facts,
    InvalidTarget,
    NoSuchTarget,
    Order,
    Outcome,
    Refused,
    Step,
    media_and_owners,
)
from avion_media.process.runtime import Runtime


def may_be_cancelled(queue: str) -> bool:
    """Return whether a task of this queue may be cancelled."""
    return queue in QUEUES and queue not in NEVER_GIVEN_UP


async def pause(runtime: Runtime, order: Order, target: str) -> Facts:
    """Give no more tasks of a queue to workers."""
    await _queue(runtime, target).pause(order.who.name, order.note, order.for_s)
    return {"paused": True}


async def resume(runtime: Runtime, _order: Order, target: str) -> Facts:
    """Give tasks of a queue to workers again."""
    return {"paused": False, "was_paused": await _queue(runtime, target).resume()}


async def cancel(runtime: Runtime, order: Order, target: str) -> None:
    """End a task, named by its queue and its id, as a dead letter."""
    name, _, task_id = target.partition("/")
    queue = _queue(runtime, name)
    if not may_be_cancelled(name):
        raise Refused("tasks of this queue must be done, and cannot be cancelled")
    if not task_id:
        raise InvalidTarget("the id of the task is missing")
    await queue.cancel(task_id, order.who.name)


def on_dead_letter(take: Callable[[DeadLetters, str], Awaitable[bool]]) -> Step:
    """Return the step that replays or drops one dead letter, named by `DeadLetter.key`."""

    async def step(runtime: Runtime, _order: Order, target: str) -> Facts:
        name, _, entry_id = target.partition("/")
        dead_letters = _queue(runtime, name).dead_letters
        found = await dead_letters.show(entry_id)
        if found is None or not await take(dead_letters, entry_id):
            raise Refused("no such dead letter")
        return {"about": found.subject}

    return step


def bulk_target(queue: str, wanted: DeadLetterFilter) -> str:
    """Return the target of `begin_replay`: a queue and, as a query, the conditions."""
    return f"{queue}?{urlencode(wanted.to_fields())}"


async def begin_replay(runtime: Runtime, order: Order, target: str) -> Facts:
    """Begin the job that replays the dead letters of a queue that match."""
    name, _, query = target.partition("?")
    _queue(runtime, name)
    try:
        wanted = DeadLetterFilter.from_fields(dict(parse_qsl(query)))
    except ValueError:
        raise InvalidTarget("failed_after and failed_before are Unix seconds") from None
    job = await BulkJobs(runtime.items.redis, name).begin_replay(wanted, rate=order.rate, by=order.who.name)
    return _begun(job, "an earlier bulk replay is not done yet")


async def begin_undelete(runtime: Runtime, order: Order) -> Outcome:
    """Begin one job for all targets: media, and at most one owner."""
    ids, owners, problems = media_and_owners(order.targets)
    problems |= {OWNER + each: InvalidTarget("a job has one owner") for each in owners[1:]}
    if problems:
        return Outcome(problems=problems)
    jobs, owner = BulkJobs(runtime.items.redis, DELETE_QUEUE), "".join(owners)
    try:
        job = await jobs.begin_undelete(list(map(str, ids)), owner=owner, rate=order.rate, by=order.who.name)
        return Outcome(dict.fromkeys(order.targets, _begun(job, "an earlier bulk undelete is not done yet")))
    except Refused as error:
        return Outcome(problems={order.targets[0]: error})


def on_job(take: Callable[[BulkJobs, str], Awaitable[bool]], done: str, otherwise: str) -> Step:
    """Return the step that pauses, resumes or cancels a job, named by `BulkJob.name`. ``done``: its state then."""

    async def step(runtime: Runtime, _order: Order, target: str) -> Facts:
        found = find_jobs(runtime.items.redis, target)
        if found is None:
            raise NoSuchTarget("no such job")
        if not await take(*found):
            raise Refused(otherwise)
        return {"state": done}

    return step


def _queue(runtime: Runtime, name: str) -> TaskQueue:
    if name not in runtime.items.queues:
        raise NoSuchTarget("no such queue")
    return runtime.items.queues[name]


def _begun(job: BulkJob | None, otherwise: str) -> Facts:
    if job is None:
        raise Refused(otherwise)
    return {"job": job.name, "total": job.total, "rate": job.rate}
