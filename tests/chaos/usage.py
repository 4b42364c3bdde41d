"""The resources of a process, to check that none grows."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.service.harness import Service

# Connections that an idle service may keep (S3__THREADS, and the default of `open_redis`). It opens them when they are
# first needed at once, so after a busy time there are more than before.
_MAX_POOLED = {"S3__ENDPOINT_URL": 16, "REDIS__URL": 24}


@dataclass(frozen=True)
class Usage:
    """Counts of one process at one moment. ``descriptors`` does not include kept connections, which are ``pooled``."""

    tasks: int
    threads: int
    descriptors: int
    children: int
    pooled: dict[str, int]

    def within(self, bound: Usage) -> bool:
        """Return whether no count exceeds ``bound``, and no pool its limit."""
        return (
            self.tasks <= bound.tasks
            and self.threads <= bound.threads
            and self.descriptors <= bound.descriptors
            and self.children <= bound.children
            and all(self.pooled[name] <= most for name, most in _MAX_POOLED.items())
        )


def tree_of(service: Service) -> dict[str, Any]:
    """Return the live tree."""
    tree: dict[str, Any] = httpx.get(f"{service.admin_url}/tree", trust_env=False, verify=False, timeout=30).json()
    return tree


def usage_of(service: Service) -> Usage:
    """Return the counts of the service's process, including all descendants."""
    process = Path(f"/proc/{service.process.pid}")
    tasks = tree_of(service)["tasks"]
    descriptors = _descriptors(process)
    peers = Counter(port for port in map(_connected_ports(process).get, descriptors) if port)
    pooled = {name: peers[urlsplit(service.environment[f"AVION_MEDIA_{name}"]).port or 0] for name in _MAX_POOLED}
    return Usage(
        tasks=tasks,
        threads=len(list((process / "task").iterdir())),
        descriptors=len(descriptors) - sum(pooled.values()),
        children=_descendants(process),
        pooled=pooled,
    )


def _descriptors(process: Path) -> list[str]:
    """Return the target of each open descriptor: a path, or ``socket:[inode]``."""
    found = []
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(descriptor))
    return found


def _connected_ports(process: Path) -> dict[str, int]:
    """Return the remote port of each TCP connection over IPv4 (proc(5), /proc/pid/net/tcp)."""
    rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]": int(row[2].rpartition(":")[2], 16) for row in rows}


def _descendants(process: Path) -> int:
    children = [
        Path("/proc") / pid for task in (process / "task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return len(children) + sum(_descendants(child) for child in children)


def processes_with(mark: str) -> list[str]:
    """Return the command lines of all processes with ``mark`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:  # it ended meanwhile, or belongs to another user
            continue
    return found
