"""Work that goes on while servers die."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.common.errors import LeaseLost, Unavailable
from trio_redis.tests.outages import persistently


class Workers:
    """Work through a queue, as the service does: taken, worked on for a moment, completed; what was left is reclaimed.

    ``done`` has each task's media_id as often as somebody completed it. ``unsure`` are those whose completion had no
    reply in an outage, and found no lease afterwards: it was carried out, or another worker has the task.
    """

    def __init__(self, queue: TaskQueue, *, count: int = 4, claim_after_s: float = 1.0) -> None:
        self.done: list[str] = []
        self.unsure: set[str] = set()
        self.started: set[str] = set()
        self.outages = 0
        self._something_done = trio.Event()
        self._queue = queue
        self._count = count
        self._claim_after_s = claim_after_s

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._count):
                nursery.start_soon(self._read)
            nursery.start_soon(self._reclaim)

    async def until_done(self, media_ids: set[str], within_s: float = 60.0) -> None:
        """Until all of them are."""
        with trio.fail_after(within_s):
            while not media_ids <= self.unsure.union(self.done):
                self._something_done = trio.Event()
                await self._something_done.wait()
            while (await persistently(self._queue.stats)).depth:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.05)

    async def _read(self) -> None:
        while True:
            lease = await self._through_outages(lambda: self._queue.take("a", block_s=0.5))
            if lease is not None:
                await self._work(lease)

    async def _reclaim(self) -> None:
        while True:
            await self._through_outages(lambda: self._queue.reclaim("a", self._claim_after_s))
            await trio.sleep(0.1)

    async def _work(self, lease: Lease) -> None:
        media_id = lease.task.fields["media_id"]
        self.started.add(media_id)
        await trio.sleep(0.01)
        outages = self.outages
        try:
            await self._through_outages(lease.complete)
            self.done.append(media_id)
        except LeaseLost:
            if self.outages == outages:
                return
            self.unsure.add(media_id)
        self._something_done.set()

    async def _through_outages(self, call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await call()
            except Unavailable:
                self.outages += 1
                await trio.sleep(0.05)
