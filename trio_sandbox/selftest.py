"""Tries, from inside, what the sandbox must deny. `open_sandbox` runs it at every start."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from trio_sandbox.kernel import syscall
from trio_sandbox.seccomp import NUMBERS

_DENIALS: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
_FAMILIES: Final = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")


def probe(arguments: dict[str, Any], files: list[int]) -> list[str]:
    """Return the attempts that were not denied. A job; ``arguments["service_pid"]`` is a process to try to signal."""
    return [name for name, attempt in _attempts(arguments["service_pid"]) if not _denied(attempt)]


def _attempts(service_pid: int) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "read /usr/lib", lambda: os.listdir("/usr/lib")
    yield "read /etc/passwd", lambda: os.open("/etc/passwd", os.O_RDONLY)
    yield "read /proc", lambda: os.listdir("/proc")
    yield "write /tmp", lambda: os.open("/tmp", os.O_TMPFILE | os.O_WRONLY)
    yield "make a folder", lambda: os.mkdir(f"/tmp/sandbox-self-test-{os.getpid()}")
    yield "map executable memory", lambda: mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
    yield "signal the service", lambda: os.kill(service_pid, 0)
    yield "signal the fork server", lambda: os.kill(os.getppid(), 0)
    yield "signal a thread of the fork server", lambda: syscall(NUMBERS["tgkill"], os.getppid(), os.getppid(), 0)
    for family in _FAMILIES:
        yield f"socket {family}", partial(socket.socket, getattr(socket, family), socket.SOCK_DGRAM)
    yield "socket pair", socket.socketpair
    yield "clone3", lambda: syscall(NUMBERS["clone3"], None, 0)
    yield "fork", _fork
    yield "execute", lambda: os.execv("/bin/sh", ["sh", "-c", "exit 0"])  # last: if it works there is no answer


def _denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in _DENIALS
    return False


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)
