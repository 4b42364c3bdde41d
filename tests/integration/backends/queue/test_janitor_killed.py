"""A janitor is killed, as a process, after each of its calls to Redis: another process goes on where it was."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import redis as redis_py
import trio

from avion_media.backends.queue import BulkJobs, DeadLetterFilter, JobState, QueueKeys, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.tasks import CONSUMER_GROUP, Task
from supervisors import Supervisor
from tests.integration.backends.queue.conftest import Client
from tests.integration.backends.queue.doomed_janitors import NoTasks, janitor_of

CALLS = range(1, 19)  # two rounds
LEASED_MS = 60_000
EXPECTED = {"due", "abandoned", *(f"foreign {n}" for n in range(20)), *(f"dead {n}" for n in range(3))}


class Noting(NoTasks):
    """Notes how often it did each task."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    async def run(self, task: Task, ensure_lease: object) -> None:
        self.done[task.task_id] += 1


async def prepare(redis: Redis, other: Client, name: str) -> None:
    """A queue in which every step of a janitor finds something to do."""
    queue, keys = TaskQueue(redis, name), QueueKeys(name)
    for number in range(3):
        await queue.enqueue({"media_id": "m"}, task_id=f"dead {number}")
        lease = await queue.take("gone", block_s=0)
        assert lease is not None
        await lease.dead_letter("internal: boom")
    await queue.enqueue({"media_id": "m"}, task_id="abandoned")
    lease = await queue.take("dead", block_s=0)
    assert lease is not None
    other.xclaim(name, CONSUMER_GROUP, "dead", 0, [lease.entry_id], idle=LEASED_MS, justid=True)
    other.hset(keys.state, mapping={"since": "1", "last": f"{float(other.time()[0]) + 2:.3f}"})
    for number in range(20):
        other.xadd(name, {"task_id": f"foreign {number}", "media_id": "m"})
    await queue.delay([({"media_id": "m"}, "due", 1.0)])
    assert await BulkJobs(redis, name).begin_replay(DeadLetterFilter(), rate=1000.0, by="ada@desk")


async def succeed(redis: Redis, name: str) -> Counter[str]:
    """Let another process work on the queue until all is done; how often each task was."""
    handler = Noting()
    consumer = janitor_of(redis, name, handler)
    supervisor = Supervisor(name, consumer.children)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        while not await is_over(redis, name, handler):  # noqa: ASYNC110 - the queue tells nobody
            await trio.sleep(0.05)
        supervisor.stop()
    return handler.done


async def is_over(redis: Redis, name: str, handler: Noting) -> bool:
    job, stats = await BulkJobs(redis, name).get("replay"), await TaskQueue(redis, name).stats()
    ended = job is not None and job.state is JobState.DONE
    return ended and handler.done.keys() >= EXPECTED and not stats.depth


def test_another_process_goes_on_after_each_call(redis_of_process: str) -> None:
    names = {f"queue_{call}": call for call in CALLS}
    found: dict[str, Counter[str]] = {}

    async def run() -> None:
        async with open_redis(redis_of_process) as redis:
            for name in names:
                await prepare(redis, other, name)
            arguments = [part for name, call in names.items() for part in (name, str(call))]
            command = [
                sys.executable,
                "-m",
                "tests.integration.backends.queue.doomed_janitors",
                redis_of_process,
                *arguments,
            ]
            await trio.run_process(command, stdin=subprocess.DEVNULL)

            async def note(name: str) -> None:
                found[name] = await succeed(redis, name)

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for name in names:
                        nursery.start_soon(note, name)

    with redis_py.Redis.from_url(redis_of_process, decode_responses=True) as other:
        other.flushall()
        trio.run(run)
    for name, done in found.items():
        assert done == dict.fromkeys(EXPECTED, 1), name
