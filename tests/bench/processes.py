"""CPU time and memory of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_CLOSE_WAIT = "08"  # of /proc/net/tcp


def cpu_s(pid: int) -> float:
    """User and system seconds of the whole tree: of those who live, and of those whom they waited for.

    To be asked while no child is about to end: it would be counted twice, or not at all. The kernel's resolution is
    10 ms.
    """
    return sum(_ticks(each) for each in _tree(pid)) / _TICKS_PER_S


def pss_bytes(pid: int) -> int:
    """Proportional set size of the whole tree: shared pages count once, split among those who share them."""
    return sum(_pss_kib(each) for each in _tree(pid)) * 1024


def rss_bytes(pid: int) -> int:
    """Resident set size of one process. It needs no rights over the process, unlike the PSS."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def listener_pid(port: int) -> int:
    """The process that listens on this TCP port of 127.0.0.1. LookupError when there is none that we can see."""
    wanted = _local(port)
    sockets = {f"socket:[{fields[9]}]" for fields in _tcp_sockets() if fields[1] == wanted and fields[3] == "0A"}
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it ended meanwhile, or is not ours to look at
            if os.readlink(entry) in sockets:
                return int(entry.parts[2])
    raise LookupError(f"nothing listens on port {port}")


def responses_held(port: int) -> int:
    """How many connections to this TCP port of 127.0.0.1 have bytes for the client that it has not read.

    The end of an idle connection that the server has closed counts as a byte in the kernel, but is no response.
    """
    server = _local(port)
    held: set[str] = set()
    for _, local, remote, state, queues, *_ in _tcp_sockets():
        sending, received = queues.split(":")
        if local == server and int(sending, 16):
            held.add(remote)
        elif remote == server and int(received, 16) > (state == _CLOSE_WAIT):
            held.add(local)
    return len(held)


def _local(port: int) -> str:
    return f"0100007F:{port:04X}"


def _tcp_sockets() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


class PeakMemory:
    """``peak_bytes``: the largest amount that was seen, at any one moment."""

    def __init__(self) -> None:
        self.peak_bytes = 0


@contextmanager
def watching_memory(pid: int, measured: Callable[[int], int] = pss_bytes) -> Iterator[PeakMemory]:
    """Sample the memory during the block: by default the tree's PSS, which costs the sampled processes some time."""
    peak, over = PeakMemory(), threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            peak.peak_bytes = max(peak.peak_bytes, measured(pid))

    thread = threading.Thread(target=sample, name="memory")
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                parent = int(_stat_fields(int(entry.name))[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def _ticks(pid: int) -> int:
    fields = _stat_fields(pid)
    return sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime


def _stat_fields(pid: int) -> list[str]:
    # What stands before is the process' number, and its name in parentheses, which may hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _pss_kib(pid: int) -> int:
    with suppress(OSError):  # it ended meanwhile
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
