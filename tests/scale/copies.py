"""How long a block takes that has copies: ``python -m tests.scale.copies``.

A file with ten copies is blocked in a store with a few other originals, and in one with ``--media``. The store is a
real Ceph. Each original has its index object, as a worker writes it, and all have the same size.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from statistics import median

import trio

from avion_media.backends.redis import open_redis
from avion_media.backends.store import ObjectStore, open_store
from avion_media.common import keys
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.config import Config
from avion_media.items.item import Items
from avion_media.items.moderation import Blocking, Moderation, Unwanted
from tests.bench.setting import Setting, open_setting
from tests.services import ServiceFailed
from trio_telemetry import silence_logging

COPIES, FEW = 10, 1000
TARGET_S, TARGET_GROWTH = 1.0, 1.2
_ROUNDS = 5
_WRITERS = 16
_START_MS = 1_700_000_000_000
_USAGE_ERROR = 2


async def put_original(store: ObjectStore, media_id: MediaId, body: bytes) -> None:
    """Write an original after its index object."""
    sha256 = hashlib.sha256(body).hexdigest()
    await store.put(keys.same_file(sha256, len(body), media_id), b"", content_type="application/octet-stream")
    await store.put(keys.original(media_id), body, content_type="image/jpeg", metadata={"sha256": sha256})


async def fill(store: ObjectStore, first: int, end: int) -> None:
    """Write the originals with these numbers."""
    numbers: Iterator[int] = iter(range(first, end))

    async def write() -> None:
        for number in numbers:
            await put_original(store, new_media_id(JPEG, _START_MS + number), f"{number:08}".encode())

    async with trio.open_nursery() as nursery:
        for _ in range(_WRITERS):
            nursery.start_soon(write)


async def block(store: ObjectStore, blocking: Blocking, body: bytes, copies: int) -> float:
    """Return the seconds of the block of a file with so many copies."""
    media = [new_media_id(JPEG, _START_MS) for _ in range(1 + copies)]
    for each in media:
        await put_original(store, each, body)
    began = time.monotonic()
    found = await blocking.block(media[0], Unwanted())
    seconds = time.monotonic() - began
    assert found == copies, f"{found} of {copies} copies were found"
    return seconds


async def measure(setting: Setting, media: int) -> dict[int, list[float]]:
    """Return for a bucket with few and for one with many originals the median seconds of a block without and with
    copies. The rounds alternate, so that the load of the machine does not matter."""
    many = setting.store.config()
    few = many.model_copy(update={"bucket": f"{many.bucket}-few"})
    setting.store.client.create_bucket(Bucket=few.bucket)
    seconds: dict[tuple[int, int], list[float]] = {}
    async with open_store(few) as first, open_store(many) as second, open_redis(setting.redis_url) as redis:
        stores = {FEW: first, media: second}
        for count, store in stores.items():
            await fill(store, 0, count)
        for number in range(_ROUNDS):
            for copies in (0, COPIES):
                for count, store in stores.items():
                    slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
                    slot.fill(store)
                    blocking = Moderation(Items(slot, redis), Config()).blocking
                    found = await block(store, blocking, f"{copies:02}-{number:05}".encode(), copies)
                    seconds.setdefault((count, copies), []).append(found)
    return {count: [median(seconds[count, copies]) for copies in (0, COPIES)] for count in stores}


def main() -> int:
    """Return 0 if all copies were found within the goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.copies", description=__doc__.split("\n")[0])
    parser.add_argument("--media", type=int, default=50_000)
    arguments = parser.parse_args()
    silence_logging()
    try:
        with open_setting(quick=False) as setting:
            found = trio.run(partial(measure, setting, arguments.media))
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    for count, (alone_s, with_copies_s) in found.items():
        print(f"block beside {count} originals: {alone_s:.2f} s; with {COPIES} copies {with_copies_s:.2f} s")
    growth = found[arguments.media][1] / found[FEW][1]
    print(f"growth {growth:.2f}; load average {os.getloadavg()[0]:.1f}")
    return 0 if found[arguments.media][1] <= TARGET_S and growth <= TARGET_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
