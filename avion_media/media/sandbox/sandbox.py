"""The Trio side of the sandbox: start the fork server, admit and send tasks, read answers and believe none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from avion_media.domain.errors import Dependency, Rejected, Unavailable
from avion_media.media.sandbox import selftest
from avion_media.media.sandbox.admission import Admission
from avion_media.media.sandbox.job import Job, Observer
from avion_media.media.sandbox.outcome import answer_of, check_program
from avion_media.media.sandbox.types import Completed, Limits, SandboxJobFailed
from avion_media.media.sandbox.wire import MAX_MESSAGE_BYTES, Ready, Task, unpack_ready

_START_S: Final = 30.0  # an interpreter, Pillow and all codecs, on a cold and busy disk
_STOP_S: Final = 5.0  # the fork server only kills and reaps
_MAX_ANSWER_BYTES: Final = 256 << 10  # facts; pictures travel in files
# For the children, which inherit the fork server's heap: a picture passes through buffers of megabytes, and a fresh
# process gets each of their pages by a fault. Huge pages (where the kernel grants them on request) make that 512 times
# fewer, and a heap that keeps what is freed hands it to the next buffer instead of fetching new pages from the kernel.
# A seventh (JPEG) to a quarter (WebP) of a job's CPU time. glibc's; other C libraries ignore it.
ALLOCATOR: Final = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        f"glibc.malloc.mmap_threshold={32 << 20}",  # Pillow's blocks have 16 MiB; what is larger goes back when freed
        f"glibc.malloc.trim_threshold={256 << 20}",
    )
)
_SELF_TEST: Final = "avion_media.media.sandbox.selftest:probe"
_SELF_TEST_LIMITS: Final = Limits(memory_bytes=16 << 20, cpu_s=5, wall_s=10, output_bytes=1 << 20)


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What confines the children on this machine.

    ``gaps`` are the self-test's findings: what a child could do although it should not; empty is good.
    ``missing_programs`` says for each program that cannot run why.
    """

    landlock_abi: int
    seccomp: bool
    drops_root: bool
    gaps: tuple[str, ...]
    programs: tuple[str, ...]
    missing_programs: Mapping[str, str]


class Sandbox:
    """An open sandbox; made by `open_sandbox`. All methods may be called by many tasks at once."""

    def __init__(
        self,
        process: trio.Process,
        control: trio.socket.SocketType,
        ready: Ready,
        admission: Admission,
        observer: Observer | None,
    ) -> None:
        self._process = process
        self._control = control
        self._sending = trio.Lock()
        self._ready = ready
        self._observer = observer
        self.admission = admission
        self.report = SandboxReport(
            ready.landlock_abi, ready.seccomp, ready.drops_root, (), ready.programs, dict(ready.missing)
        )

    @property
    def fork_server_pid(self) -> int:
        """The fork server's process, for metrics (its memory is the base of every child's)."""
        return self._process.pid

    async def call(
        self,
        target: str,
        arguments: Mapping[str, Any],
        *,
        files: Sequence[int] = (),
        limits: Limits,
    ) -> Any:
        """Run our function ``target`` (``package.module:function``) in a fresh confined fork; return what it returned.

        The function gets ``arguments`` (JSON, up to 64 KiB) and its own copies of ``files``, and returns something
        JSON-able up to 256 KiB. It can open nothing: whatever it imports must be imported with its module, and
        modules not named in ``preload`` are imported anew by every call. The caller keeps its descriptors; offsets
        are shared. A hijacked child can answer anything: check what comes back.

        Waits for a free slot and memory first. Errors: the job's own `Rejected`; `Rejected` with DECODER_LIMIT or
        DECODER_CRASHED; `SandboxJobFailed` for any other exception of the job; `Unavailable` when the sandbox is gone.
        A cancel kills the child and waits until it is reaped; what it wrote into ``files`` until then stays.
        """
        return await self._call(Task(target, limits, arguments=dict(arguments)), files)

    async def execute(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[int, int],
        limits: Limits,
        max_stdout_bytes: int,
        max_stderr_bytes: int = 8 << 10,
        enough: Callable[[bytearray], bool] | None = None,
    ) -> Completed:
        """Run the allowed program ``argv[0]`` (named to `open_sandbox`) with ``files`` (its number: our descriptor).

        Numbers must lie between 3 and 99. The program is killed as soon as ``enough(stdout so far)`` is true, which is
        a success. A return code other than 0 is not an error here: programs say by it that their input is bad.

        Errors and cancel as for `call`; `Rejected` (DECODER_LIMIT) when there is more than ``max_stdout_bytes``;
        `Unavailable` when the program is not there.
        """
        name = argv[0]
        if name not in self._ready.programs:
            raise Unavailable(Dependency.SANDBOX, self._ready.missing.get(name, f"{name} is not an allowed program"))
        if not all(3 <= number < 100 for number in files):
            raise ValueError(f"descriptor numbers must lie between 3 and 99: {sorted(files)}")
        task = Task(name, limits, argv=tuple(argv), numbers=tuple(files))
        async with self.admission.admitted(limits.memory_bytes), self._start(task, list(files.values())) as job:
            await job.read_all(max_stdout_bytes, max_stderr_bytes, enough)
            return check_program(await job.finish(), job, self._observer)

    async def wait_failed(self) -> None:
        """Wait until the fork server dies, then raise `Unavailable`: every call fails from then on."""
        returncode = await self._process.wait()
        raise Unavailable(Dependency.SANDBOX, f"the fork server ended with {returncode}")

    async def _call(self, task: Task, files: Sequence[int]) -> Any:
        async with self.admission.admitted(task.limits.memory_bytes), self._start(task, files) as job:
            await job.read_all(_MAX_ANSWER_BYTES, 0, None)
            return answer_of(await job.finish(), job, self._observer)

    @asynccontextmanager
    async def _start(self, task: Task, files: Sequence[int]) -> AsyncIterator[Job]:
        try:
            job = Job(task, self._process)
        except OSError as error:  # no descriptors left
            raise Unavailable(Dependency.SANDBOX, f"cannot start a task: {error}") from error
        try:
            async with self._sending:
                await job.send(self._control, files)
            yield job
        finally:
            await job.aclose()

    async def _self_test(self) -> tuple[str, ...]:
        """The gaps of the confinement, of jobs and (when there is any) of programs."""
        found: list[str] = []
        if os.geteuid() == 0 and not self._ready.drops_root:
            found.append("children stay root: CAP_SETUID, CAP_SETGID or CAP_KILL is missing")
        for as_program in (False, True) if self._ready.programs else (False,):
            arguments = {"service_pid": os.getpid()}
            task = Task(_SELF_TEST, _SELF_TEST_LIMITS, arguments=arguments, as_program=as_program)
            kind = "program" if as_program else "job"
            try:
                found += [f"{kind}: {gap}" for gap in selftest.gaps(await self._call(task, ()), as_program=as_program)]
            except Rejected as error:  # most likely it could execute another program, and became that
                found.append(f"{kind}: the self-test did not come back ({error})")
        return tuple(found)

    async def _test(self) -> None:
        try:
            self.report = replace(self.report, gaps=await self._self_test())
        except SandboxJobFailed as error:  # a child could not confine itself
            raise Unavailable(Dependency.SANDBOX, f"the self-test failed: {error}") from error


@asynccontextmanager
async def open_sandbox(
    *,
    slots: int = 2,
    budget_bytes: int,
    preload: Sequence[str] = (),
    programs: Sequence[str] = ("ffmpeg", "ffprobe"),
    require: bool = False,
    observer: Observer | None = None,
    waited: Callable[[float], None] | None = None,
) -> AsyncIterator[Sandbox]:
    """Start the fork server, test the confinement, and give the `Sandbox`; on leaving, nothing of it is left running.

    ``slots`` tasks run at once, the sum of their memory limits within ``budget_bytes``. ``preload`` names modules
    (``module``) or modules with a function to call (``module:function``) for the fork server to load. ``programs`` are
    looked up in PATH (or are absolute paths); missing ones are reported, not fatal. ``require``: a gap in the
    confinement is fatal. ``observer`` is told of every finished task, synchronously, and ``waited`` of the seconds that
    each waited to be admitted.

    Raises `Unavailable` ("sandbox") when the fork server cannot start, or for ``require``.
    """
    admission = Admission(slots, budget_bytes, waited)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        trio.socket.from_stdlib_socket(ours) as control,
        os.fdopen(os.memfd_create("fork server"), "w+b") as complaints,
    ):
        with theirs:
            process = await _spawn(theirs, complaints.fileno(), preload, programs)
        try:
            ready = await _wait_ready(control, process, complaints.fileno())
            sandbox = Sandbox(process, control, ready, admission, observer)
            await sandbox._test()
            if require and sandbox.report.gaps:
                raise Unavailable(
                    Dependency.SANDBOX, f"confinement is required, but there are gaps: {sandbox.report.gaps}"
                )
            yield sandbox
        finally:
            control.close()  # tells the fork server to kill what runs, and to exit
            with trio.CancelScope(shield=True):  # bounded by _STOP_S, and by SIGKILL
                with trio.move_on_after(_STOP_S):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _spawn(
    theirs: socket.socket, complaints: int, preload: Sequence[str], programs: Sequence[str]
) -> trio.Process:
    wanted = {"preload": list(preload), "programs": {name: shutil.which(name) or name for name in programs}}
    command = [
        sys.executable,
        "-P",
        "-m",
        "avion_media.media.sandbox.fork_server",
        str(theirs.fileno()),
        json.dumps(wanted),
    ]
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


async def _wait_ready(control: trio.socket.SocketType, process: trio.Process, complaints: int) -> Ready:
    data = b""
    with trio.move_on_after(_START_S), contextlib.suppress(OSError):
        data = await control.recv(MAX_MESSAGE_BYTES)
    if data:
        return unpack_ready(data)
    reason = os.pread(complaints, 4096, max(0, os.fstat(complaints).st_size - 4096)).decode(errors="replace").strip()
    raise Unavailable(Dependency.SANDBOX, f"the fork server did not start: {reason or 'no answer'}")
