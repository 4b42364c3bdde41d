"""The cost of GetUsage for one owner: ``python -m tests.scale.usage``.

For an owner with 100,000 media items, beside others, it measures the time and the peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator
from functools import partial

import trio

from avion_media.backends.store import ObjectStore, open_store
from avion_media.common.errors import Dependency
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.items.owners import OwnerIndex, Usage
from tests.bench.setting import Setting, open_setting
from tests.services import ServiceFailed
from trio_telemetry import silence_logging

OWNER, TARGET_S, TARGET_BYTES = "owner-with-many", 3.0, 8 << 20
SIZE_BYTES = 123_456
_FIRST_MS, _APART_MS = 1_700_000_000_000, 600_000  # 100,000 media of two years
_WRITERS = 16
_ROUNDS = 3
_USAGE_ERROR = 2


async def fill(index: OwnerIndex, media: int) -> None:
    """Write the index objects of ``media`` media items, and a few of other owners."""
    numbers: Iterator[int] = iter(range(media))

    async def write() -> None:
        for number in numbers:
            await index.add(OWNER, new_media_id(JPEG, _FIRST_MS + number * _APART_MS), SIZE_BYTES)

    async with trio.open_nursery() as nursery:
        for _ in range(_WRITERS):
            nursery.start_soon(write)
    for neighbour in (f"{OWNER}.x", f"{OWNER}0"):
        await index.add(neighbour, new_media_id(JPEG, _FIRST_MS), 1)


async def measure(setting: Setting, media: int) -> tuple[Usage, list[float], int]:
    """Return the usage, the seconds of each round, and the growth of the peak memory."""
    async with open_store(setting.store.config()) as store:
        slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
        slot.fill(store)
        index = OwnerIndex(slot)
        await fill(index, media)
        await index.usage(f"{OWNER}.x")  # so that one-time loading does not count
        before = _peak_bytes()
        seconds = []
        for _ in range(_ROUNDS):
            began = time.monotonic()
            found = await index.usage(OWNER)
            seconds.append(time.monotonic() - began)
        return found, seconds, _peak_bytes() - before


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Return 0 if the result is right, and time and memory reach their goals."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.usage", description=__doc__.split("\n")[0])
    parser.add_argument("--media", type=int, default=100_000)
    arguments = parser.parse_args()
    silence_logging()
    try:
        with open_setting(quick=False) as setting:
            found, seconds, grown = trio.run(partial(measure, setting, arguments.media))
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    shown = ", ".join(f"{each:.2f}" for each in seconds)
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"usage of {found.count} media of one owner: {shown} s; peak memory + {grown / 2**20:.1f} MiB; {load}")
    is_right = found == Usage(arguments.media, arguments.media * SIZE_BYTES)
    return 0 if is_right and min(seconds) <= TARGET_S and grown <= TARGET_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
