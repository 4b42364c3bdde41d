"""What deletions cost: ``python -m tests.scale.deletions``.

It measures the undelete of 10,000 media items beside a million waiting removals; and one notice of 30,000 media items
on a Redis that syncs each write (``appendfsync always``): until they are not served, and until the notice is
acknowledged.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import redis as redis_py
import trio

from avion_media.backends.queue import QueueKeys
from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.store import ObjectStore, open_store
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DELETE_QUEUE, DROP_DELETED, State, Status
from avion_media.items.deletion import (
    DeletionJournal,
    DeletionRecords,
    JournalReplay,
    NoticeHandler,
    NoticeStream,
    undelete,
)
from avion_media.items.item import Items
from avion_media.items.state import StatusStore
from tests.bench.setting import Setting, open_setting
from tests.scale.backlog import fill_delayed
from tests.services import RedisServer, ServiceFailed
from tests.services.process import working_directory
from trio_telemetry import silence_logging

UNDELETED, UNDELETED_TARGET_S = 10_000, 5.0
NOTICE, NOTICE_TARGET_S = 30_000, 1.0
DELAY_S = 86_400.0
T = TypeVar("T")
_LOOKED_AT = 300  # media items from all parts of the notice, because reading all would be more load than the notice
_USAGE_ERROR = 2


async def measure_undelete(url: str, store: ObjectStore, waiting: int) -> float:
    """Return the seconds to undelete `UNDELETED` media items beside ``waiting`` removals."""
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
        fill_delayed(client, QueueKeys(DELETE_QUEUE).delayed, waiting)
    media = new_media(UNDELETED)
    async with open_redis(url, timeout_s=30.0) as redis:
        status_store = StatusStore(redis)
        for each in media:
            await status_store.put(Status(each.text, State.READY), ttl_s=DELAY_S)
        handler = deleting(redis, store)
        stream = NoticeStream(redis)
        await redis.execute("XADD", DROP_DELETED, "*", "event", event_of(media))
        await stream.ensure_group()
        for notice in await stream.take("c", block_s=1):
            await handler.handle(notice)
        began = time.monotonic()
        outcome = await undelete(replay_of(redis, store), media)
        seconds = time.monotonic() - began
        assert set(outcome.values()) == {None}
    return seconds


async def measure_notice(url: str, store: ObjectStore) -> tuple[float, float]:
    """Return the seconds until no media item of a notice is served, and until the notice is acknowledged."""
    media = new_media(NOTICE)
    async with open_redis(url, timeout_s=30.0) as redis:
        stream, handler = NoticeStream(redis), deleting(redis, store)
        await stream.ensure_group()
        await replay_of(redis, store).ensure_complete()  # as every replica does at its start
        await redis.execute("XADD", DROP_DELETED, "*", "event", event_of(media))
        began = time.monotonic()
        gone_s = 0.0

        async def look() -> None:
            nonlocal gone_s
            records = DeletionRecords(redis)
            some = [each.text for each in media[:: NOTICE // _LOOKED_AT]] + [media[-1].text]
            while len(await records.get_many(some)) < len(some):  # noqa: ASYNC110 - as a client looks
                await trio.sleep(0.05)
            gone_s = time.monotonic() - began

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            for notice in await stream.take("c", block_s=1):
                await handler.handle(notice)
                await stream.done(notice)
            acknowledged_s = time.monotonic() - began
    return gone_s, acknowledged_s


def new_media(count: int) -> list[MediaId]:
    return [new_media_id(JPEG, time.time_ns() // 1_000_000) for _ in range(count)]


def event_of(media: list[MediaId]) -> str:
    return json.dumps({"media_ids": [each.text for each in media]})


def deleting(redis: Redis, store: ObjectStore) -> NoticeHandler:
    return NoticeHandler(replay_of(redis, store), DELAY_S)


def replay_of(redis: Redis, store: ObjectStore) -> JournalReplay:
    return JournalReplay(Items(_slot(store), redis), DeletionJournal(_slot(store), DELAY_S))


def _slot(value: Any) -> ResourceSlot[Any]:
    slot: ResourceSlot[Any] = ResourceSlot(Dependency.STORE)
    slot.fill(value)
    return slot


async def with_store(setting: Setting, measure: Callable[[ObjectStore], Awaitable[T]]) -> T:
    async with open_store(setting.store.config()) as store:
        return await measure(store)


def main() -> int:
    """Return 0 if both reach their goals."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.deletions", description=__doc__.split("\n")[0])
    parser.add_argument("--waiting", type=int, default=1_000_000)
    arguments = parser.parse_args()
    silence_logging()
    try:
        with open_setting(quick=False) as setting, working_directory("redis") as directory:
            measure = partial(measure_undelete, setting.redis_url, waiting=arguments.waiting)
            undelete_s = trio.run(with_store, setting, lambda store: measure(store=store))
            print(f"{UNDELETED} media undeleted beside {arguments.waiting} waiting removals: {undelete_s:.1f} s")
            server = RedisServer(directory, "--appendonly", "yes", "--appendfsync", "always")
            server.start()
            try:
                gone_s, done_s = trio.run(with_store, setting, partial(measure_notice, server.url))
            finally:
                server.kill()
            print(f"a notice of {NOTICE} media, appendfsync always: gone in {gone_s:.2f} s, done in {done_s:.2f} s")
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    return 0 if undelete_s <= UNDELETED_TARGET_S and gone_s <= NOTICE_TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
