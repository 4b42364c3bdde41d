"""Watches, from outside, what the sandboxed processes of a service take: they are the children of its fork servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.service.faults import children_of, fork_servers_of

_EVERY_S = 0.02


@dataclass
class SandboxUse:
    """Peaks so far, in bytes of private resident memory: what a child shares with the fork server is there once."""

    service_pid: int
    seen: set[int] = field(default_factory=set)
    peak_of_one: int = 0
    peak_of_all: int = 0

    def look(self) -> None:
        """Take one sample."""
        servers = fork_servers_of(self.service_pid)  # two, while one takes over from the other
        sizes = {pid: _private_bytes(pid) for server in servers for pid in children_of(server)}
        self.seen |= sizes.keys()
        self.peak_of_one = max(self.peak_of_one, *sizes.values(), 0)
        self.peak_of_all = max(self.peak_of_all, sum(sizes.values()))


@contextmanager
def watching_sandboxes(service_pid: int) -> Iterator[SandboxUse]:
    """Sample for as long as the block runs."""
    use = SandboxUse(service_pid)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            use.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield use
    finally:
        done.set()
        watcher.join()


def _private_bytes(pid: int) -> int:
    """Anonymous resident memory; 0 for a process that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:")), 0)
