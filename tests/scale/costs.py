"""The CPU time of one task, and of one read of the statistics, at a given backlog: of this process and of Redis."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import redis as redis_py

from avion_media.backends.queue import QueueKeys, QueueStats, TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE
from tests.scale.backlog import fill_dead_letters, fill_delayed, fill_queue

Client: TypeAlias = Any  # redis-py's types cover options that no test here uses
MOST_DEAD_LETTERS = 90_000  # a queue keeps 100,000
FIELDS = {"media_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "type": "thumbnail"}


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds of one step."""

    ours: float
    server: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All costs at one backlog, and its statistics."""

    count: int
    costs: dict[str, Cost]
    tasks: QueueStats
    deletions: QueueStats


async def measure(url: str, count: int, rounds: int) -> Measured:
    """Measure with ``count`` queued tasks, as many delayed ones, and dead letters up to the limit of a queue.

    The server at ``url`` is empty.
    """
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
        fill_queue(client, PROCESSING_QUEUE, count)
        fill_delayed(client, QueueKeys(DELETE_QUEUE).delayed, count)
        fill_dead_letters(client, QueueKeys(PROCESSING_QUEUE).dead_letters, min(count, MOST_DEAD_LETTERS))
        async with open_redis(url, timeout_s=30.0) as redis:
            tasks, deletions = (TaskQueue(redis, name) for name in (PROCESSING_QUEUE, DELETE_QUEUE))
            found = await tasks.stats(), await deletions.stats()
            steps = _Steps(tasks, deletions, count)
            costs = {name: await _cost(client, step, rounds) for name, step in steps.all().items()}
            return Measured(count, costs, *found)


class _Steps:
    """The steps. Each leaves the length of the backlog unchanged."""

    def __init__(self, tasks: TaskQueue, deletions: TaskQueue, count: int) -> None:
        self._tasks = tasks
        self._deletions = deletions
        self._count = count
        self._number = 0

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the steps by their names in the table."""
        return {
            "queued, taken, renewed, completed": self._complete,
            "queued, taken, released, completed": self._release,
            "queued, taken, given up, replayed, completed": self._give_up,
            "delayed until now, promoted, completed": self._promote,
            "looked for abandoned tasks": self._reclaim,
            "asked for the figures of the queue": self._look,
            "listed 100 dead letters, somewhere": self._list,
        }

    async def _complete(self) -> None:
        await self._enqueue()
        lease = await self._tasks.take("a", 0)
        assert lease is not None
        await lease.renew()
        await lease.complete()

    async def _release(self) -> None:
        await self._enqueue()
        for ends in (False, True):
            lease = await self._tasks.take("a", 0)
            assert lease is not None
            await (lease.complete() if ends else lease.release())

    async def _give_up(self) -> None:
        await self._enqueue()
        lease = await self._tasks.take("a", 0)
        assert lease is not None
        await lease.dead_letter("internal: out of luck")
        (oldest,) = await self._tasks.dead_letters.list(1)
        assert await self._tasks.dead_letters.replay(oldest.entry_id)
        await self._finish_one(self._tasks)

    async def _promote(self) -> None:
        self._number += 1
        assert await self._deletions.delay(
            [({"media_id": f"now-{self._number}"}, f"now-{self._number}", time.time() - 1)]
        )
        assert await self._deletions.promote() == 1
        await self._finish_one(self._deletions)

    async def _reclaim(self) -> None:
        assert await self._tasks.reclaim("b", idle_s=60) == 0

    async def _look(self) -> None:
        assert (await self._tasks.stats()).depth == self._count

    async def _list(self) -> None:
        dead_letters = self._tasks.dead_letters
        (somewhere,) = await dead_letters.list(1)
        assert len(await dead_letters.list(100, somewhere.entry_id)) == 100

    async def _enqueue(self) -> None:
        self._number += 1
        await self._tasks.enqueue(FIELDS, dedup_key=f"m{self._number}")

    @staticmethod
    async def _finish_one(queue: TaskQueue) -> None:
        lease = await queue.take("a", 0)
        assert lease is not None
        await lease.complete()


async def _cost(client: Client, step: Callable[[], Awaitable[None]], rounds: int) -> Cost:
    await step()  # afterwards the server knows the scripts
    ours, server = time.process_time(), server_cpu_s(client)
    for _ in range(rounds):
        await step()
    ours, server = time.process_time() - ours, server_cpu_s(client) - server
    return Cost(ours * 1e6 / rounds, server * 1e6 / rounds)


def server_cpu_s(client: Client) -> float:
    told = client.info("cpu")
    return float(told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"])
