"""Two fleets of different configuration work on one queue, and take turns in having its janitor."""

from __future__ import annotations

from collections import Counter
from functools import partial

import redis as redis_py
import trio

from avion_media.backends.queue import QueueKeys, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Dependency, Reason, Unavailable
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import PROCESSING_QUEUE, EnsureLease, Task, TaskHandler, processing_fields
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from supervisors import Supervisor
from trio_telemetry import NO_TELEMETRY

KEYS = QueueKeys(PROCESSING_QUEUE)
SMALL = ConsumerPolicy(1, 3, 0.8, 0.05, 0.05, tenant_cap=1)
LARGE = ConsumerPolicy(4, 5, 1.6, 0.1, 0.1, tenant_cap=3)
TASKS = 60


class Shared(TaskHandler):
    """Notes what both fleets do; every fifth task fails once."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.most = 0
        self._failed: set[str] = set()

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        owner = task.fields["owner"]
        self.running[owner] += 1
        self.most = max(self.most, self.running[owner])
        try:
            await trio.lowlevel.checkpoint()
            await ensure_lease()
            if int(task.task_id) % 5 == 0 and task.task_id not in self._failed:
                self._failed.add(task.task_id)
                raise Unavailable(Dependency.OBJECT)
            self.done[task.task_id] += 1
        finally:
            self.running[owner] -= 1

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        raise NotImplementedError

    async def until(self, count: int) -> None:
        while self.done.total() < count:  # noqa: ASYNC110 - it notes, and wakes nobody
            await trio.sleep(0.01)


def fleet(redis: Redis, handler: Shared, policy: ConsumerPolicy, name: str) -> Supervisor:
    """One replica."""
    consumer = Consumer(
        TaskQueue(redis, PROCESSING_QUEUE),
        handler,
        policy,
        name=name,
        accepting_tasks=lambda: True,
        telemetry=NO_TELEMETRY,
    )
    return Supervisor(name, consumer.children)


async def test_nothing_is_lost_doubled_or_beyond_the_larger_cap(redis_of_process: str) -> None:
    handler = Shared()
    with redis_py.Redis.from_url(redis_of_process, decode_responses=True) as other:
        other.flushall()
        async with open_redis(redis_of_process) as redis, trio.open_nursery() as nursery:
            queue = TaskQueue(redis, PROCESSING_QUEUE)
            for number in range(TASKS):
                fields = processing_fields(str(new_media_id(JPEG, 1_700_000_000_000)), f"owner {number % 3}")
                await queue.enqueue(fields, task_id=str(number))
            await queue.settle(tenant_cap=1, slots=1, idle_s=SMALL.claim_after_s)
            a_fleet = partial(fleet, redis, handler)
            with trio.fail_after(30):
                first, second = a_fleet(SMALL, "first"), a_fleet(LARGE, "second")
                nursery.start_soon(first.run)
                nursery.start_soon(second.run)
                await handler.until(TASKS // 3)
                holder = str(other.get(KEYS.janitor))
                (
                    first if holder.endswith("first") else second
                ).stop()  # the other fleet's configuration holds from now on
                await handler.until(2 * TASKS // 3)
                third = a_fleet(SMALL, "third")
                nursery.start_soon(third.run)
                await handler.until(TASKS)
                for each in (first, second, third):
                    each.stop()
        assert handler.done == dict.fromkeys(map(str, range(TASKS)), 1)
        assert handler.most <= LARGE.tenant_cap
        assert not [name for name in other.hkeys(KEYS.state) if name.startswith(("entry:", "running:"))]
