"""The CPU time of one task, and of one read of the statistics, beside backlogs: of this process and of Redis."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import redis as redis_py

from avion_media.backends.queue import QueueKeys, QueueStats, TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE
from tests.scale.backlog import fill_dead_letters, fill_delayed, fill_queue
from trio_redis import run_all

Client: TypeAlias = Any  # redis-py's types cover options that no test here uses
MOST_DEAD_LETTERS = 90_000  # a queue keeps 100,000
TENANTS_QUEUE = "tenants"  # of tasks that wait for their turn, one of each tenant
FIELDS = {"media_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "type": "thumbnail"}
_TURNS = 20
_ENQUEUED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds of one step."""

    ours: float
    server: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All costs beside one backlog, and its statistics. ``costs`` has those of each turn, by step."""

    count: int
    costs: dict[str, list[Cost]]
    tasks: QueueStats
    deletions: QueueStats

    def cost(self, step: str) -> Cost:
        """The median of a step."""
        turns = self.costs[step]
        return Cost(statistics.median(each.ours for each in turns), statistics.median(each.server for each in turns))


async def measure(backlogs: Sequence[tuple[str, int]], rounds: int) -> list[Measured]:
    """Measure each step ``rounds`` times beside each backlog: a server, which is empty, and what to fill it with.

    There are so many queued tasks, delayed ones, tenants with a task that waits for its turn, and dead letters up to
    the limit of a queue. The backlogs take turns, so that they share whatever else this machine does.
    """
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(_filled(url, count)) for url, count in backlogs]
        found = [Measured(each.count, {}, await each.tasks.stats(), await each.deletions.stats()) for each in opened]
        for name in opened[0].all():
            for turn in range(-1, _TURNS):
                for steps, measured in zip(opened, found, strict=True):
                    cost = await _cost(steps.client, steps.all()[name], max(1, rounds // _TURNS))
                    if turn >= 0:  # the first one only warms up: afterwards the server knows the scripts
                        measured.costs.setdefault(name, []).append(cost)
    return found


@asynccontextmanager
async def _filled(url: str, count: int) -> AsyncIterator[_Steps]:
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
        fill_queue(client, PROCESSING_QUEUE, count)
        fill_delayed(client, QueueKeys(DELETE_QUEUE).delayed, count)
        fill_dead_letters(client, QueueKeys(PROCESSING_QUEUE).dead_letters, min(count, MOST_DEAD_LETTERS))
        async with open_redis(url, timeout_s=30.0) as redis:
            tasks, deletions, tenants = (
                TaskQueue(redis, name) for name in (PROCESSING_QUEUE, DELETE_QUEUE, TENANTS_QUEUE)
            )
            waiting = [partial(tenants.enqueue, FIELDS | {"owner": f"owner-{number}"}) for number in range(count)]
            await run_all(waiting, _ENQUEUED_AT_ONCE)
            yield _Steps(client, tasks, deletions, tenants, count)


@dataclass
class _Steps:
    """The steps. Each leaves the length of the backlog unchanged."""

    client: Client
    tasks: TaskQueue
    deletions: TaskQueue
    tenants: TaskQueue
    count: int
    _number: int = 0

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the steps by their names in the table."""
        return {
            "queued, taken, renewed, completed": self._complete,
            "queued, taken, released, completed": self._release,
            "queued, taken, given up, replayed, completed": self._give_up,
            "queued, one taken and completed, beside tenants": self._take_turns,
            "delayed until now, promoted, completed": self._promote,
            "looked for abandoned tasks": self._reclaim,
            "asked for the figures of the queue": self._look,
            "listed 100 dead letters, somewhere": self._list,
        }

    async def _complete(self) -> None:
        await self._enqueue()
        lease = await self.tasks.take("a", 0)
        assert lease is not None
        await lease.renew()
        await lease.complete()

    async def _release(self) -> None:
        await self._enqueue()
        for ends in (False, True):
            lease = await self.tasks.take("a", 0)
            assert lease is not None
            await (lease.complete() if ends else lease.release())

    async def _give_up(self) -> None:
        await self._enqueue()
        lease = await self.tasks.take("a", 0)
        assert lease is not None
        await lease.dead_letter("internal: out of luck")
        (oldest,) = await self.tasks.dead_letters.list(1)
        assert await self.tasks.dead_letters.replay(oldest.entry_id)
        await self._finish_one(self.tasks)

    async def _take_turns(self) -> None:
        self._number += 1
        await self.tenants.enqueue(FIELDS | {"owner": f"another-{self._number}"})
        await self._finish_one(self.tenants)

    async def _promote(self) -> None:
        self._number += 1
        assert await self.deletions.delay(
            [({"media_id": f"now-{self._number}"}, f"now-{self._number}", time.time() - 1)]
        )
        assert await self.deletions.promote() == 1
        await self._finish_one(self.deletions)

    async def _reclaim(self) -> None:
        assert await self.tasks.reclaim("b", idle_s=60) == 0

    async def _look(self) -> None:
        assert (await self.tasks.stats()).depth == self.count

    async def _list(self) -> None:
        dead_letters = self.tasks.dead_letters
        (somewhere,) = await dead_letters.list(1)
        assert len(await dead_letters.list(100, somewhere.entry_id)) == 100

    async def _enqueue(self) -> None:
        self._number += 1
        await self.tasks.enqueue(FIELDS, dedup_key=f"m{self._number}")

    @staticmethod
    async def _finish_one(queue: TaskQueue) -> None:
        lease = await queue.take("a", 0)
        assert lease is not None
        await lease.complete()


async def _cost(client: Client, step: Callable[[], Awaitable[None]], rounds: int) -> Cost:
    ours, server = time.process_time(), server_cpu_s(client)
    for _ in range(rounds):
        await step()
    ours, server = time.process_time() - ours, server_cpu_s(client) - server
    return Cost(ours * 1e6 / rounds, server * 1e6 / rounds)


def server_cpu_s(client: Client) -> float:
    told = client.info("cpu")
    return float(told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"])
