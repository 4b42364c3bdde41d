"""How long a comparison with many PDQ hashes blocks the event loop: ``python -m tests.scale.likeness``.

Each own entry is a PDQ hash. It prints the longest time for which nothing else could run, while the entries are read
and for each picture that is compared: the median of some pictures, because other programs disturb.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import cast

import trio

from avion_media.backends.store import ObjectStore
from avion_media.common.errors import Dependency
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation.entries import Entry, HashType, OwnEntries
from avion_media.items.moderation.lists import Blocklists, Changes
from tests.crash.stage import MemoryStore, Steps, Stored

PICTURES = 21
BLOCKED_S = 0.002


class _Changes:
    """Nothing changes."""

    async def generation(self) -> bytes:
        return b"1"


async def longest_block(work: Callable[[], Awaitable[object]]) -> float:
    """Return the longest time for which this task did not run while ``work`` did (seconds)."""
    longest = 0.0
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await work()
            nursery.cancel_scope.cancel()

        nursery.start_soon(run)
        before = time.perf_counter()
        while not nursery.cancel_scope.cancel_called:
            await trio.lowlevel.cancel_shielded_checkpoint()
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    return longest


async def measure(entries: int) -> tuple[float, float]:
    """Return the longest block while the entries are read, and of one picture."""
    random = Random(1)
    objects: dict[str, Stored] = {}
    slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    slot.fill(cast("ObjectStore", MemoryStore(objects, Steps())))
    await OwnEntries(slot).add([Entry(HashType.PDQ, random.randbytes(32), "bench") for _ in range(entries)])
    lists = Blocklists(slot, cast("Changes", _Changes()))
    read = await longest_block(lists.reload)
    pictures = [random.randbytes(32) for _ in range(PICTURES)]
    return read, statistics.median([await longest_block(partial(lists.alike, each)) for each in pictures])


def main() -> int:
    """Return 0 if a picture blocks nothing for long."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.likeness", description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    arguments = parser.parse_args()
    read, picture = trio.run(measure, arguments.entries)
    print(
        f"{arguments.entries} own PDQ entries: the event loop is blocked for {picture * 1e3:.1f} ms per picture, to"
        f" reach {BLOCKED_S * 1e3:.0f} ms; {read * 1e3:.0f} ms while they are read"
    )
    return 0 if picture <= BLOCKED_S else 1


if __name__ == "__main__":
    sys.exit(main())
