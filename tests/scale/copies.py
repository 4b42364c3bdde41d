"""How long a block searches for copies: ``python -m tests.scale.copies``.

Ten of many originals are copies of the blocked one. It prints the seconds of the whole block, and of a block without
other originals.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial

import trio

from avion_media.backends.redis import open_redis
from avion_media.backends.store import ObjectStore, open_store
from avion_media.common import keys
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import MediaId, new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.telemetry import silence_logging
from avion_media.config import Config
from avion_media.items.item import Items
from avion_media.items.moderation import Blocking, Moderation, Unwanted
from tests.bench.setting import Setting, open_setting

COPIES = 10
_WRITERS = 16
_START_MS = 1_700_000_000_000


async def fill(store: ObjectStore, media: int) -> MediaId:
    """Write the originals. Return the first, of which others are copies."""
    ids = [new_media_id(JPEG, _START_MS + number) for number in range(media)]
    every = max(1, media // (COPIES + 1))
    numbers: Iterator[int] = iter(range(media))

    async def write() -> None:
        for number in numbers:
            is_copy = number % every == 0 and number // every <= COPIES
            body = b"the same" if is_copy else f"{number:08}".encode()  # of the same size: the worst case
            await store.put(keys.original(ids[number]), body, content_type="image/jpeg")

    async with trio.open_nursery() as nursery:
        for _ in range(_WRITERS):
            nursery.start_soon(write)
    return ids[0]


async def measure(setting: Setting, media: int) -> tuple[float, float, int]:
    """Return the seconds of a block with one original and with ``media`` originals, and the copies that it found."""
    async with open_store(setting.store.config()) as store, open_redis(setting.redis_url) as redis:
        slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
        slot.fill(store)
        blocking = Moderation(Items(slot, redis), Config()).blocking
        alone = await fill(store, 1)
        alone_s, _ = await _block(blocking, alone)
        first = await fill(store, media)
        many_s, copies = await _block(blocking, first)
        return alone_s, many_s, copies


async def _block(blocking: Blocking, media_id: MediaId) -> tuple[float, int]:
    began = time.monotonic()
    copies = await blocking.block(media_id, Unwanted())
    return time.monotonic() - began, copies


def main() -> int:
    """Return 0 if all copies were found."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.copies", description=__doc__.split("\n")[0])
    parser.add_argument("--media", type=int, default=20_000)
    arguments = parser.parse_args()
    silence_logging()
    with open_setting(quick=False) as setting:
        alone_s, many_s, copies = trio.run(partial(measure, setting, arguments.media))
    page_ms = (many_s - (COPIES + 1) * alone_s) / (arguments.media / 1000) * 1000
    print(f"block: {alone_s:.2f} s alone; {many_s:.2f} s with {copies} copies among {arguments.media} originals")
    print(f"that is at most {max(0.0, page_ms):.0f} ms for a thousand originals")
    return 0 if copies == COPIES else 1


if __name__ == "__main__":
    sys.exit(main())
