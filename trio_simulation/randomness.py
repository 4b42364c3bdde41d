"""Randomness by a seed: `random`, `secrets`, `os.urandom`, `uuid`."""

from __future__ import annotations

import os
import random
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .patches import Patches

_NODE_OF_UUIDS = 0x02_00_00_00_00_01  # a locally administered address, in place of this machine's


def patch_randomness(patches: Patches, seed: str) -> None:
    """Let every source of randomness of the standard library follow the seed. Those of C libraries do not."""
    bytes_of = random.Random(f"{seed}/urandom")

    def urandom(size: int, /) -> bytes:
        return bytes_of.randbytes(size)

    def getrandom(size: int, flags: int = 0) -> bytes:
        return bytes_of.randbytes(size)

    def reseed(self: random.Random, a: Any = None, version: int = 2) -> None:
        real_seed(self, bytes_of.getrandbits(256) if a is None else a, version)

    real_seed = random.Random.seed
    patches.everywhere(os.urandom, urandom)
    patches.everywhere(os.getrandom, getrandom)
    patches.attribute(random.Random, "seed", reseed)
    # In C, these read the clock and the address of the machine.
    patches.attribute(uuid, "_generate_time_safe", None)
    patches.attribute(uuid, "_UuidCreate", None)
    patches.attribute(uuid, "_node", _NODE_OF_UUIDS)
    for version in ("", "_v6", "_v7"):
        patches.attribute(uuid, f"_last_timestamp{version}", None)
    patches.attribute(tempfile, "_name_sequence", None)


@contextmanager
def seeded_random(seed: str) -> Iterator[None]:
    """Seed the generator behind the functions of `random`, and restore it afterwards."""
    state = random.getstate()
    random.seed(f"{seed}/random")
    try:
        yield
    finally:
        random.setstate(state)
