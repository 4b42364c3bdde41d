"""How long lost uploads wait until a sweep queues them again: ``python -m tests.scale.lost``.

Redis is empty, 10,000 uploads are in ``incoming/``, and other media are beside them: few in the first round,
``--media`` in the second. The store is a real Ceph. The sweep runs with the default settings, up to the moment when all
tasks are queued.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import trio

from avion_media.backends.redis import open_redis
from avion_media.backends.store import ObjectStore, open_store
from avion_media.common import keys
from avion_media.common.concurrency import first_of
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.config import Config
from avion_media.items.deletion import DeletionJournal, JournalReplay
from avion_media.items.item import Items
from avion_media.workers.sweep import Reconciliation, SweepDecision
from tests.bench.setting import Setting, open_setting
from tests.services import ServiceFailed
from trio_telemetry import silence_logging

TARGET_S, FEW = 60.0, 100
_WRITERS = 16
_DAY_MS = 86_400_000
_USAGE_ERROR = 2


async def put_all(store: ObjectStore, count: int, age_days: int, key_of: Callable[[MediaId], str]) -> None:
    """Write one object for each of so many media of the days up to ``age_days`` ago."""
    now_ms = round(time.time() * 1000)
    numbers: Iterator[int] = iter(range(count))

    async def write() -> None:
        for number in numbers:
            media_id = new_media_id(JPEG, now_ms - number * age_days * _DAY_MS // count)
            await store.put(key_of(media_id), b"x", content_type="image/jpeg")

    async with trio.open_nursery() as nursery:
        for _ in range(_WRITERS):
            nursery.start_soon(write)


async def measure(setting: Setting, media: int, lost: int) -> list[tuple[int, float]]:
    """Return for few and for many media the seconds until all lost uploads are queued."""
    config = Config(s3=setting.store.config())
    async with open_store(config.s3) as store, open_redis(setting.redis_url) as redis:
        slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
        slot.fill(store)
        items = Items(slot, redis)
        await put_all(store, lost, 1, keys.incoming)
        found, filled = [], 0
        for count in (FEW, media):
            await put_all(store, count - filled, 3650, keys.original)
            filled = count
            await redis.execute("FLUSHALL")
            replay = JournalReplay(items, DeletionJournal(slot, config.delete.delay))

            all_queued, numbers = trio.Event(), itertools.count(1)

            def note(
                _decision: SweepDecision, numbers: Iterator[int] = numbers, event: trio.Event = all_queued
            ) -> None:
                if next(numbers) == lost:
                    event.set()

            began = time.monotonic()
            await first_of(all_queued.wait, partial(Reconciliation(replay, config).run, observe=note))
            found.append((count, time.monotonic() - began))
            queued = await items.queues[PROCESSING_QUEUE].stats()
            assert queued.depth == lost, queued
        return found


def main() -> int:
    """Return 0 if the uploads were queued within the goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.lost", description=__doc__.split("\n")[0])
    parser.add_argument("--media", type=int, default=50_000)
    parser.add_argument("--lost", type=int, default=10_000)
    arguments = parser.parse_args()
    silence_logging()
    try:
        with open_setting(quick=False) as setting:
            found = trio.run(partial(measure, setting, arguments.media, arguments.lost))
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    for count, seconds in found:
        print(f"{arguments.lost} lost uploads beside {count} media: queued again after {seconds:.1f} s")
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 0 if found[1][1] <= TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
