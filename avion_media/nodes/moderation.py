"""Keeps the block lists and the unfinished blocks of this process up to date, and carries out what others left."""

from __future__ import annotations

import random
from functools import partial

import trio

from avion_media.backends.redis import Channels, Redis
from avion_media.common.errors import Unavailable
from avion_media.items.moderation import CHANNEL, Moderation
from avion_media.process.runtime import Observed, Runtime
from supervisors import Child
from trio_redis import Backoff, run_all
from trio_telemetry import get_logger

MODERATED = frozenset({"grpc", "http", "processing", "cache"})
"""The roles that need the block lists, or block media."""


async def moderation(runtime: Runtime, child: Child[None]) -> None:
    """Ready at once: an outage is a state. Tasks wait for the first load of the lists."""
    parts = runtime.moderation
    looks = Looks(parts, runtime.observed, runtime.config.moderation.reload, child.path)
    child.started()
    with child.until_stopping():
        await run_all([parts.likeness.run, looks.run, partial(looks.listen, runtime.redis)])


class Looks:
    """When to look at the bucket: at every message, and from time to time."""

    def __init__(self, moderation: Moderation, observed: Observed, reload_s: float, path: str) -> None:
        self._moderation = moderation
        self._observed = observed
        self._reload_s = reload_s
        self._due = trio.Event()
        self._log = get_logger(path=path)

    async def run(self) -> None:
        pause = Backoff()
        while True:
            self._due = trio.Event()
            if await self.once():
                pause.succeeded()
                wait_s = self._reload_s * random.uniform(0.8, 1.2)
            else:
                wait_s = pause.failed()
            with trio.move_on_after(wait_s):
                await self._due.wait()

    async def once(self) -> bool:
        """Do everything that a look is for, each part whatever becomes of the others. Return whether all was done."""
        all_done = True
        for part in (
            self._moderation.hosts.reload,
            self._moderation.blocking.resume,
            self._moderation.lists.reload,
            self._count_waiting,
        ):
            try:
                await part()
            except Unavailable as error:
                self._log.info("moderation.backed_off", dependency=error.dependency, detail=error.detail)
                all_done = False
        return all_done

    async def _count_waiting(self) -> None:
        reviews = self._moderation.reviews
        self._observed.held = tuple(sorted(each.at for each in await reviews.waiting()))
        self._observed.notices_due = tuple(each.due.timestamp() for each in (await reviews.notices()).values())

    async def listen(self, redis: Redis) -> None:
        def heard(_channel: str, media_id: bytes) -> None:
            if media_id:
                self._moderation.status.watch(media_id.decode(errors="replace"))
            self._due.set()

        await redis.keep_listening(Channels(CHANNEL, heard=heard, subscribed=lambda _channel: self._due.set()))
