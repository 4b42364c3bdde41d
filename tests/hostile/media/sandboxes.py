"""Watches, from outside, what the confined processes of a service take: they are the children of its fork_server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_EVERY_S = 0.02


@dataclass
class SandboxUse:
    """Peaks so far, in bytes of private resident memory: what a child shares with the fork server is there once."""

    fork_server_pid: int
    seen: set[int] = field(default_factory=set)
    peak_of_one: int = 0
    peak_of_all: int = 0

    def look(self) -> None:
        """Take one sample."""
        sizes = {pid: _private_bytes(pid) for pid in _children(self.fork_server_pid)}
        self.seen |= sizes.keys()
        self.peak_of_one = max(self.peak_of_one, *sizes.values(), 0)
        self.peak_of_all = max(self.peak_of_all, sum(sizes.values()))


@contextmanager
def watching_sandboxes(service_pid: int) -> Iterator[SandboxUse]:
    """Sample for as long as the block runs."""
    use = SandboxUse(fork_server_of(service_pid))
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


def fork_server_of(service_pid: int) -> int:
    """The process id of the service's fork_server."""
    for pid in _children(service_pid):
        if b"avion_media.media.sandbox.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("the service has no fork server")


def _children(pid: int) -> list[int]:
    """Of all its threads: the one that started a process is its parent."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found


def _private_bytes(pid: int) -> int:
    """Anonymous resident memory; 0 for a process that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:")), 0)
