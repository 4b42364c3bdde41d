"""Figures of this process (Linux): CPU time, memory, open files, and how late the event loop is."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import trio

_LAG_EVERY_S = 0.25


def cpu_seconds() -> Mapping[str, float]:
    """Return the CPU time of this process so far, by mode: ``user`` and ``system``."""
    times = os.times()
    return {"user": times.user, "system": times.system}


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "VmRSS":
            return int(value.split()[0]) * 1024
    return 0


def open_files() -> int:
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))


async def loop_lags() -> AsyncGenerator[float, None]:
    """Yield by how many seconds the event loop is late, four times a second. Never ends."""
    while True:
        due = trio.current_time() + _LAG_EVERY_S
        await trio.sleep_until(due)
        yield trio.current_time() - due
