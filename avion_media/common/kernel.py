"""Limits of the machine and of the process. Linux only."""

from __future__ import annotations

import math
import os
import resource
from contextlib import suppress
from pathlib import Path

_CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> int:
    """Return the memory of this machine, or of this container if that has less."""
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # not limited: no such file, or "max"
        return min(machine_bytes, int(_CONTAINER_MEMORY.read_text()))
    return machine_bytes


def raise_file_limit() -> float:
    """Let the process open as many files as it may: many systems allow 1,024 by default, and more on request. Return
    the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return math.inf if hard == resource.RLIM_INFINITY else hard
