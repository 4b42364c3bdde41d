"""One fork server and one job in it, as seen from Trio: processes, sockets, end and result. Results are hostile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Final

import trio

from trio_sandbox.errors import (
    InputRejected,
    JobCrashed,
    JobKilled,
    JobNotStarted,
    LimitExceeded,
    SandboxJobFailed,
    SandboxUnavailable,
)
from trio_sandbox.kernel import signal_name
from trio_sandbox.messages import (
    MAX_FILES,
    MAX_MESSAGE_BYTES,
    Exit,
    ForkServerSettings,
    JobOutcome,
    JobReport,
    JobRequest,
    SandboxReport,
    pack,
    with_fds,
)

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
_SEND_S: Final = 5.0  # the fork server only ever forks and reaps
_REAP_S: Final = 5.0  # SIGKILL to wait(): longer only for a process stuck in the kernel
_DEADLINE_SLACK_S: Final = 5.0  # the fork server enforces the deadline; after this extra time it must be stuck itself
_CHUNK_BYTES: Final = 64 << 10
_OF_A_LIMIT: Final = frozenset({signal.SIGXCPU, signal.SIGXFSZ})
_MAX_DETAIL: Final = 500
_OUTCOMES: Final[dict[type[Exception], JobOutcome]] = {
    JobKilled: JobOutcome.KILLED,
    LimitExceeded: JobOutcome.LIMIT,
    JobCrashed: JobOutcome.CRASHED,
    InputRejected: JobOutcome.REJECTED,
}

Observer = Callable[[JobReport], None]


class ForkServerProcess:
    """A running fork server; made by `start_fork_server`, ended by `aclose`."""

    def __init__(self, process: trio.Process, control: trio.socket.SocketType, report: SandboxReport) -> None:
        self.process = process
        self.control = control
        self.report = report
        self.sending = trio.Lock()
        self.jobs = 0  # number of started jobs
        self.worn = trio.Event()  # set when it has had its maximum of jobs
        self._running = 0
        self._ended = trio.lowlevel.ParkingLot()

    @contextmanager
    def used(self, worn_after: int) -> Iterator[None]:
        """Count one job inside the block."""
        self.jobs += 1
        self._running += 1
        if self.jobs >= worn_after:
            self.worn.set()
        try:
            yield
        finally:
            self._running -= 1
            self._ended.unpark_all()

    async def retire(self) -> None:
        """End it when its jobs have ended. It must get no further jobs. A cancel leaves it running."""
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


async def start_fork_server(settings: ForkServerSettings) -> ForkServerProcess:
    """Start one, and wait until it accepts jobs, or raise `SandboxUnavailable`. A cancel leaves none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = trio.socket.from_stdlib_socket(ours)
    process: trio.Process | None = None
    try:
        with os.fdopen(os.memfd_create("fork server"), "w+b") as complaints:
            with theirs:
                process = await _spawn(theirs, complaints.fileno(), settings)
            return ForkServerProcess(process, control, await _wait_ready(control, complaints.fileno()))
    except BaseException:
        control.close()
        if process is not None:
            process.kill()
            with trio.CancelScope(shield=True):  # bounded by SIGKILL
                await process.wait()
        raise


async def _spawn(theirs: socket.socket, complaints: int, settings: ForkServerSettings) -> trio.Process:
    arguments = [str(theirs.fileno()), json.dumps(asdict(settings))]
    command = [sys.executable, "-P", "-m", "trio_sandbox.fork_server", *arguments]
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
        raise SandboxUnavailable(f"cannot start the fork server: {error}") from error


async def _wait_ready(control: trio.socket.SocketType, complaints: int) -> SandboxReport:
    data = b""
    with trio.move_on_after(_START_S), contextlib.suppress(OSError):
        data = await control.recv(MAX_MESSAGE_BYTES)
    if data:
        return SandboxReport(**json.loads(data))
    reason = os.pread(complaints, 4096, max(0, os.fstat(complaints).st_size - 4096)).decode(errors="replace").strip()
    raise SandboxUnavailable(f"the fork server did not start: {reason or 'no answer'}")


class Job:
    """Call ``send``, then ``answer``, and always ``aclose``."""

    def __init__(
        self, request: JobRequest, fork_server: trio.Process, observer: Observer | None, codes: Container[str] | None
    ) -> None:
        self._request = request
        self._codes = codes
        self._observer = observer
        self._answer = bytearray()
        self._fork_server = fork_server
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = trio.socket.from_stdlib_socket(ours)
        self._pipe: trio.lowlevel.FdStream | None = None
        self._exit: Exit | None = None

    async def send(self, control: trio.socket.SocketType, files: Sequence[int]) -> None:
        """Send the job and copies of ``files`` to the fork server. A cancel leaves nothing sent."""
        if len(files) > MAX_FILES:
            raise ValueError(f"{len(files)} files, but at most {MAX_FILES} fit a message")
        message = pack(self._request)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._pipe = trio.lowlevel.FdStream(reader)
            with os.fdopen(writer, "wb"), trio.fail_after(_SEND_S):
                await control.sendmsg([message], with_fds([self._theirs.fileno(), writer, *files]))
        except (OSError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise SandboxUnavailable(f"the fork server takes no task: {error!r}") from error
        finally:
            self._theirs.close()

    async def answer(self, max_bytes: int) -> Any:
        """Return the result of the function, or raise its error. It is killed if it writes more than ``max_bytes``."""
        assert self._pipe is not None
        with trio.move_on_after(self._request.limits.wall_s + _DEADLINE_SLACK_S):
            while len(self._answer) <= max_bytes and (chunk := await self._pipe.receive_some(_CHUNK_BYTES)):
                self._answer += chunk
            if len(self._answer) > max_bytes:
                self._kill()
            await self._receive_exit()
        end = self._exit
        if end is None:
            self._fork_server.kill()  # it may hang, and its children die with it; `Sandbox.maintain` notices
            raise JobKilled("the fork server is gone, and the job with it")
        if end.error:
            raise SandboxUnavailable(end.error)
        outcome = JobOutcome.DONE
        try:
            if len(self._answer) > max_bytes:
                raise LimitExceeded("too much output")
            self._check(end)
            return _read_answer(bytes(self._answer), self._codes)
        except Exception as error:
            outcome = _OUTCOMES.get(type(error), JobOutcome.FAILED)
            raise
        finally:
            if self._observer is not None:
                self._observer(JobReport(self._request.name, outcome, end))

    async def aclose(self) -> None:
        """Kill the child if it still runs, and wait until it is reaped."""
        self._theirs.close()
        try:
            if self._exit is None:
                self._kill()
                with trio.move_on_after(_REAP_S, shield=True) as reaping:  # bounded by _REAP_S
                    await self._receive_exit()
                if reaping.cancelled_caught:
                    self._fork_server.kill()
        finally:
            self._channel.close()
            if self._pipe is not None:
                self._pipe.close()

    async def _receive_exit(self) -> None:
        with suppress(OSError):  # a reset is like a normal end
            if data := await self._channel.recv(MAX_MESSAGE_BYTES):
                self._exit = Exit(**json.loads(data))

    def _kill(self) -> None:
        """Shut our side, which is the order to kill. It works even if the job has not reached the fork server yet."""
        # An error means that the fork server has closed its side: the child is reaped already, or dies with it.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def _check(self, end: Exit) -> None:
        limits = self._request.limits
        if not end.signal:
            return
        # The kernel's two clocks differ by some ticks.
        if end.signal in _OF_A_LIMIT or (end.signal == signal.SIGKILL and end.cpu_s >= 0.9 * limits.cpu_s):
            raise LimitExceeded(f"killed by {signal_name(end.signal)} after {end.cpu_s:.1f} s of CPU")
        if end.signal == signal.SIGKILL:
            # By the kernel's OOM killer, or because its wall time was over although it had little of the CPU: neither
            # says anything about the file. Retry, perhaps elsewhere.
            had = f"{end.cpu_s:.1f} s of CPU in {end.wall_s:.1f} s"
            raise JobKilled(f"{self._request.name} was killed after {had} (the host is out of memory or overloaded?)")
        raise JobCrashed(f"{self._request.name} was killed by {signal_name(end.signal)}")


def _read_answer(data: bytes, codes: Container[str] | None) -> Any:
    try:
        ((kind, value),) = json.loads(data).items()
    except (ValueError, AttributeError, RecursionError):
        raise JobCrashed("ended without an answer") from None
    if kind == "done":
        return value
    if kind == "limit":
        raise LimitExceeded(str(value)[:_MAX_DETAIL])
    if kind == "killed":
        raise JobKilled(str(value)[:_MAX_DETAIL])
    if kind == "rejected":
        match value:
            case [str(code), str(detail)] if codes is None or code in codes:
                raise InputRejected(code[:_MAX_DETAIL], detail[:_MAX_DETAIL])
        raise JobCrashed("ended with an answer that is none")
    end_of_traceback = str(value)[-_MAX_DETAIL:]
    raise (JobNotStarted if kind == "unready" else SandboxJobFailed)(end_of_traceback)
