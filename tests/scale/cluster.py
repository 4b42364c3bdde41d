"""The mix of the model's largest load on a Redis Cluster: what each node has to do, and that nothing is lost.

usage: python -m tests.scale.cluster [--minutes 10] [--rate 20]

For each upload there are as many copies, deletions and requests as in ``LOADS["the largest"]`` of `tests.scale.model`.
They make the calls of the service, without the store and the pictures.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis as redis_py
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import (
    CACHE_QUEUE,
    DELETE_QUEUE,
    PROCESSING_QUEUE,
    State,
    Status,
    processing_fields,
)
from avion_media.items.deletion import DeletionRecords, removal_id
from avion_media.items.state import MediaEvents, StatusStore
from tests.scale.costs import server_cpu_s
from tests.scale.model import LOADS
from tests.services import redis_cluster
from trio_telemetry import silence_logging

_SLOTS = 8  # readers of each queue
_OWNERS = 500
_STATUS_S = 3600.0


@dataclass
class Run:
    """What was done. ``ended``: how often each task ended; ``waits``: seconds from queued to done."""

    queued: dict[str, float] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("upload", "copy", "deletion", "visit"), 0))


class Load:
    """The calls of each flow."""

    def __init__(self, redis: Redis, run: Run) -> None:
        self._redis = redis
        self._run = run
        self._statuses, self._events, self._records = StatusStore(redis), MediaEvents(redis), DeletionRecords(redis)
        self.queues = {name: TaskQueue(redis, name) for name in (PROCESSING_QUEUE, CACHE_QUEUE, DELETE_QUEUE)}
        self._media: list[str] = []

    async def upload(self, number: int) -> None:
        media_id = str(new_media_id(JPEG, time.time_ns() // 1_000_000))
        fields = processing_fields(media_id, f"owner-{number % _OWNERS}")
        self._run.queued[await self.queues[PROCESSING_QUEUE].enqueue(fields, dedup_key=media_id)] = time.monotonic()
        await self._statuses.put(Status(media_id, State.PROCESSING), _STATUS_S)
        self._media.append(media_id)

    async def copy(self, number: int) -> None:
        url = f"https://host-{number % _OWNERS}.example/{number}.jpg"
        task_id = await self.queues[CACHE_QUEUE].enqueue({"remote_url": url}, dedup_key=url)
        self._run.queued[task_id] = time.monotonic()

    async def deletion(self, number: int) -> None:
        media_id = self._media[number % len(self._media)]
        for mark in await self._records.mark([media_id], delay_s=0):
            task_id = removal_id(mark.media_id, mark.generation)
            if mark.fresh:
                self._run.queued[task_id] = time.monotonic()
            await self.queues[DELETE_QUEUE].delay([({"media_id": media_id}, task_id, mark.due_ms / 1000)])

    async def visit(self, number: int) -> None:
        await self._records.get(self._media[number % len(self._media)])

    async def work(self, name: str, consumer: str) -> None:
        """Take the tasks of a queue, and end each."""
        queue = self.queues[name]
        while True:
            lease = await queue.take(consumer, 0.5)
            if lease is None:
                continue
            await lease.renew()
            if name == PROCESSING_QUEUE:
                media_id = lease.task.fields["media_id"]
                if await self._statuses.put(Status(media_id, State.READY), _STATUS_S):
                    await self._events.publish("media.ready", media_id, {})
            await lease.complete()
            self._run.ended[lease.task.task_id] = self._run.ended.get(lease.task.task_id, 0) + 1
            self._run.waits.append(time.monotonic() - self._run.queued[lease.task.task_id])

    async def tend(self) -> None:
        """Do what the janitors do."""
        while True:
            for queue in self.queues.values():
                await queue.settle(tenant_cap=0, slots=_SLOTS, idle_s=60)
                await queue.promote()
            await trio.sleep(0.5)


async def drive(url: str, run: Run, minutes: float, rate: float) -> None:
    """Make ``rate`` uploads a second, and the other flows in proportion; then wait for the last task."""
    largest = LOADS["the largest"]
    async with open_redis(url) as redis, trio.open_nursery() as nursery:
        load = Load(redis, run)
        for name, queue in load.queues.items():
            await queue.ensure_group()
            for slot in range(_SLOTS // 2 if name == DELETE_QUEUE else _SLOTS):
                nursery.start_soon(load.work, name, f"{name}-{slot}")
        nursery.start_soon(load.tend)
        await load.upload(0)
        run.count["upload"] += 1
        calls: dict[str, Callable[[int], Awaitable[None]]] = {
            "upload": load.upload, "copy": load.copy, "deletion": load.deletion, "visit": load.visit,
        }  # fmt: skip
        until = trio.current_time() + minutes * 60
        async with trio.open_nursery() as flows:
            for name, per_s in largest.rates().items():
                every_s = largest.uploads / per_s / rate
                flows.start_soon(partial(_repeat, run, name, calls[name], every_s, until))
        with trio.fail_after(60):
            while run.ended.keys() != run.queued.keys():  # noqa: ASYNC110 - other tasks count, and wake nobody
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def _repeat(run: Run, name: str, call: Callable[[int], Awaitable[None]], every_s: float, until: float) -> None:
    began = trio.current_time()
    for number in range(1, int((until - began) / every_s)):
        await trio.sleep_until(began + number * every_s)
        if trio.current_time() >= until:
            return
        await call(number)
        run.count[name] += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every task ended, and none twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.cluster", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=20.0, help="uploads a second")
    given = parser.parse_args(arguments)
    silence_logging()
    run = Run()
    print(f"load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with redis_cluster() as cluster, ExitStack() as stack:
        nodes: list[Any] = [stack.enter_context(redis_py.Redis.from_url(each.url)) for each in cluster.masters]
        before, began = [server_cpu_s(each) for each in nodes], time.monotonic()
        trio.run(drive, cluster.url, run, given.minutes, given.rate)
        took = time.monotonic() - began
        cpu = [server_cpu_s(node) - former for node, former in zip(nodes, before, strict=True)]
    lost, double = len(run.queued) - len(run.ended), sum(count - 1 for count in run.ended.values())
    done = ", ".join(f"{count} {name}s" for name, count in run.count.items()).replace("copys", "copies")
    print(f"{took / 60:.1f} minutes: {done}; {run.count['upload'] / took:.1f} uploads a second")
    for number, seconds in enumerate(cpu, 1):
        print(f"node {number}: {seconds / took * 100:.1f} % of a core")
    per_upload = sum(cpu) / run.count["upload"] * 1e6
    print(f"all nodes: {per_upload:.0f} µs for an upload with its copies, deletions and requests")
    print(f"fullest node: {max(cpu) / sum(cpu) * 100:.0f} % of that")
    p95 = statistics.quantiles(run.waits, n=20)[-1]
    print(f"queued to done: median {statistics.median(run.waits) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms")
    print(f"lost {lost}, double {double}")
    return 0 if lost == double == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
