"""One fork server, as seen from Trio: its process, the control socket, and its tasks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from avion_media.common.errors import Dependency, Unavailable
from avion_media.media.sandbox import SandboxReport
from avion_media.media.sandbox.wire import MAX_MESSAGE_BYTES

_START_S: Final = 30.0  # an interpreter, Pillow and all codecs, on a cold and busy disk
_STOP_S: Final = 5.0  # the fork server only kills and reaps
# For the children, which inherit the fork server's heap: a picture passes through buffers of megabytes, and a fresh
# process gets each of their pages by a fault. Huge pages (where the kernel grants them on request) make that 512 times
# fewer, and a heap that keeps what is freed hands it to the next buffer instead of fetching new pages from the kernel.
# A seventh (JPEG) to a quarter (WebP) of a job's CPU time. glibc's; other C libraries ignore it.
ALLOCATOR: Final = (
    "glibc.malloc.hugetlb=1"
    f":glibc.malloc.mmap_threshold={32 << 20}"  # Pillow's blocks have 16 MiB; what is larger goes back when freed
    f":glibc.malloc.trim_threshold={256 << 20}"
    ":glibc.malloc.arena_max=1"  # each thread's own would reserve 64 MiB of the job's address space
)


class ForkServerProcess:
    """A running fork server; made by `start_fork_server`, ended by `aclose`."""

    def __init__(self, process: trio.Process, control: trio.socket.SocketType, report: SandboxReport) -> None:
        self.process = process
        self.control = control
        self.report = report
        self.sending = trio.Lock()
        self.tasks = 0  # number of started tasks
        self.worn = trio.Event()  # set when it has had its maximum of tasks
        self._running = 0
        self._ended = trio.lowlevel.ParkingLot()

    @contextmanager
    def used(self, worn_after: int) -> Iterator[None]:
        """Count one task inside the block."""
        self.tasks += 1
        self._running += 1
        if self.tasks >= worn_after:
            self.worn.set()
        try:
            yield
        finally:
            self._running -= 1
            self._ended.unpark_all()

    async def retire(self) -> None:
        """End it when its tasks have ended. It must get no further tasks. A cancel leaves it running."""
        while self._running:
            await self._ended.park()
        await self.aclose()

    async def aclose(self) -> None:
        """Make it kill running children, and exit. Safe to repeat."""
        self.control.close()  # it treats that as the order to end
        with trio.CancelScope(shield=True):  # bounded by _STOP_S, and by SIGKILL
            with trio.move_on_after(_STOP_S):
                await self.process.wait()
            self.process.kill()
            await self.process.wait()


async def start_fork_server(preload: Sequence[str]) -> ForkServerProcess:
    """Start one, and wait until it accepts tasks, or raise `Unavailable`. A cancel leaves none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = trio.socket.from_stdlib_socket(ours)
    process: trio.Process | None = None
    try:
        with os.fdopen(os.memfd_create("fork server"), "w+b") as complaints:
            with theirs:
                process = await _spawn(theirs, complaints.fileno(), preload)
            return ForkServerProcess(process, control, await _wait_ready(control, complaints.fileno()))
    except BaseException:
        control.close()
        if process is not None:
            process.kill()
            with trio.CancelScope(shield=True):  # bounded by SIGKILL
                await process.wait()
        raise


async def _spawn(theirs: socket.socket, complaints: int, preload: Sequence[str]) -> trio.Process:
    arguments = [str(theirs.fileno()), json.dumps(list(preload))]
    command = [sys.executable, "-P", "-m", "avion_media.media.sandbox.fork_server", *arguments]
    try:
        return await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C at a terminal is for the service
            env={"PYTHONPATH": os.pathsep.join(sys.path), "GLIBC_TUNABLES": ALLOCATOR},
        )
    except OSError as error:
        raise Unavailable(Dependency.SANDBOX, f"cannot start the fork server: {error}") from error


async def _wait_ready(control: trio.socket.SocketType, complaints: int) -> SandboxReport:
    data = b""
    with trio.move_on_after(_START_S), contextlib.suppress(OSError):
        data = await control.recv(MAX_MESSAGE_BYTES)
    if data:
        return SandboxReport(**json.loads(data))
    reason = os.pread(complaints, 4096, max(0, os.fstat(complaints).st_size - 4096)).decode(errors="replace").strip()
    raise Unavailable(Dependency.SANDBOX, f"the fork server did not start: {reason or 'no answer'}")
