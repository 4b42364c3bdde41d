"""The Trio side of the sandbox: admits jobs, sends them to the fork server, reads results without trusting them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

import trio

from trio_sandbox.errors import (
    BudgetTooSmall,
    InputRejected,
    JobCrashed,
    JobKilled,
    LimitExceeded,
    NotConfined,
    SandboxJobFailed,
    SandboxUnavailable,
)
from trio_sandbox.fork_server_process import ForkServerProcess, Job, Observer, start_fork_server
from trio_sandbox.kernel import describe_exit
from trio_sandbox.messages import ForkServerSettings, JobRequest, Limits, SandboxReport

_log = logging.getLogger("trio_sandbox")
_MAX_ANSWER_BYTES: Final = 256 << 10  # large results travel in files
# A file that learns where the libraries lie in memory can use that against a later job only as long as the same fork
# server runs: its children share its layout. A start costs 0.12 s of CPU time, self-test included: 1 ms for each job,
# about a hundredth of the work on a picture of 2 MP.
_JOBS_PER_SERVER: Final = 128
_RENEW_PAUSE_S: Final = 30.0  # after a failed start; the present fork server continues
_SELF_TEST: Final = "trio_sandbox.selftest:probe"
_SELF_TEST_LIMITS: Final = Limits(memory_bytes=16 << 20, cpu_s=5, wall_s=10, output_bytes=1 << 20)


@dataclass(frozen=True, slots=True)
class Renewal:
    """An attempt to replace a fork server after ``jobs``. If ``error`` is set, it failed; the old one continues."""

    jobs: int
    error: str = ""


def _log_renewal(renewal: Renewal) -> None:
    if renewal.error:
        _log.warning("the fork server was not replaced after %d jobs: %s", renewal.jobs, renewal.error)
    else:
        _log.debug("the fork server was replaced after %d jobs", renewal.jobs)


class Sandbox:
    """An open sandbox; made by `open_sandbox`. All methods may be called by many tasks at once."""

    def __init__(
        self,
        server: ForkServerProcess,
        settings: ForkServerSettings,
        admission: Admission,
        *,
        observer: Observer | None,
        codes: Container[str] | None,
        jobs_per_server: int,
    ) -> None:
        self._server = server
        self._settings = settings
        self._preload = dict.fromkeys(settings.preload)  # with modules of jobs, which the next fork server loads too
        self._retired: ForkServerProcess | None = None  # the former one, which may still run jobs
        self._observer = observer
        self._codes = codes
        self._jobs_per_server = jobs_per_server
        self.admission = admission
        self.report = server.report

    @property
    def fork_server_pid(self) -> int:
        """The id of the present fork server's process."""
        return self._server.process.pid

    async def call(self, target: str, arguments: dict[str, Any], *, files: Sequence[int] = (), limits: Limits) -> Any:
        """Run the function ``target`` (``package.module:function``) in a fresh sandboxed process; return its result.

        The function gets ``arguments`` (JSON, up to 64 KiB) and its own copies of ``files``, and returns something
        JSON-able up to 256 KiB. It can open nothing, so its module must import all that it needs; the fork server
        loads the module at its first call, and the next one at its start. The caller keeps its descriptors; file
        offsets are shared. A hijacked child can return anything, so check the result.

        Waits for a free slot and memory first. Raises the job's own `InputRejected`; `LimitExceeded`, `JobCrashed`,
        `JobKilled`; `SandboxJobFailed` for any other exception of the job, `JobNotStarted` for one before it;
        `SandboxUnavailable` if the sandbox is down;
        `ValueError` for more than 64 KiB of arguments or 32 files.
        A cancel kills the child and waits until it is reaped; its writes to ``files`` until then stay.
        """
        result = await self._call(JobRequest(target, limits, arguments), files)
        self._preload[target.partition(":")[0]] = None
        return result

    async def maintain(self, renewed: Callable[[Renewal], None] | None = None) -> NoReturn:
        """Replace the fork server each time that it has run its maximum of jobs. Never returns.

        There is no gap: the next one accepts jobs before the former one stops accepting them, and the former one
        finishes its jobs. At most two run at once. ``renewed`` is called after each attempt, synchronously;
        None logs it, by the logger ``trio_sandbox``.

        Raises `SandboxUnavailable` if the fork server dies. A cancel leaves the present one in service.
        """
        while self._server.process.returncode is None:
            server = self._server
            await _first_of(server.process.wait, server.worn.wait)
            if server.process.returncode is None:
                renewal = await self._renew()
                (renewed or _log_renewal)(renewal)
                if renewal.error:
                    with trio.move_on_after(_RENEW_PAUSE_S):
                        await server.process.wait()
                else:
                    await _first_of(self._server.process.wait, server.retire)
        raise SandboxUnavailable(f"the fork server {describe_exit(self._server.process.returncode)}")

    async def _renew(self) -> Renewal:
        former = self._server
        try:
            successor = await start_fork_server(replace(self._settings, preload=tuple(self._preload)))
            try:
                report = await self._tested(successor)
                if set(report.gaps) - set(self.report.gaps):
                    gaps = ", ".join(report.gaps)
                    raise SandboxUnavailable(f"there are new gaps in the confinement: {gaps}")
            except BaseException:
                await successor.aclose()
                raise
        except SandboxUnavailable as error:
            return Renewal(former.jobs, str(error))
        self._server, self._retired, self.report = successor, former, report
        return Renewal(former.jobs)

    async def _call(self, request: JobRequest, files: Sequence[int], server: ForkServerProcess | None = None) -> Any:
        """Admit the job, send it to the fork server, and return its result. Afterwards nothing of it is left."""
        async with self.admission.admitted(request.limits.memory_bytes):
            server = server or self._server
            try:
                job = Job(request, server.process, self._observer, self._codes)
            except OSError as error:  # no descriptors left
                raise SandboxUnavailable(f"cannot start a task: {error}") from error
            with server.used(self._jobs_per_server):
                try:
                    async with server.sending:
                        await job.send(server.control, files)
                    return await job.answer(_MAX_ANSWER_BYTES)
                finally:
                    await job.aclose()

    async def _tested(self, server: ForkServerProcess) -> SandboxReport:
        """Return the report of ``server`` with the gaps found. `SandboxUnavailable` if a child cannot confine
        itself."""
        found: list[str] = []
        if os.geteuid() == 0 and not server.report.drops_root:
            found.append("children stay root: CAP_SETUID, CAP_SETGID or CAP_KILL is missing")
        request = JobRequest(_SELF_TEST, _SELF_TEST_LIMITS, arguments={"service_pid": os.getpid()})
        try:
            answer = await self._call(request, (), server)
            found += [str(each) for each in answer] if isinstance(answer, list) else ["the self-test gave no list"]
        except (
            InputRejected,
            LimitExceeded,
            JobCrashed,
        ) as error:
            # Most likely it could execute another program, and became that.
            found.append(f"the self-test did not come back ({error})")
        except JobKilled as error:
            raise SandboxUnavailable(str(error)) from error
        except SandboxJobFailed as error:
            raise SandboxUnavailable(f"the self-test failed: {error}") from error
        return replace(server.report, gaps=tuple(found))

    async def _close(self) -> None:
        left = [each for each in (self._retired, self._server) if each is not None]
        for each in left:
            each.control.close()  # both end at once; below they are waited for
        for each in left:
            await each.aclose()


@asynccontextmanager
async def open_sandbox(
    *,
    slots: int = 2,
    budget_bytes: int,
    preload: Sequence[str] = (),
    translate: str = "",
    codes: Container[str] | None = None,
    extra_calls: Sequence[int] = (),
    require: bool = False,
    observer: Observer | None = None,
    waited: Callable[[float], None] | None = None,
    jobs_per_server: int = _JOBS_PER_SERVER,
) -> AsyncIterator[Sandbox]:
    """Start the fork server, test the confinement, and yield the `Sandbox`. After the block nothing of it runs.

    At most ``slots`` jobs run at once, and the sum of their memory limits is at most ``budget_bytes``. ``preload``
    names modules (``module``) or modules with a function to call (``module:function``) for the fork server to load.
    ``require``: a gap in the confinement is fatal. ``observer`` gets every finished job. ``waited`` gets the seconds
    that each job waited to be admitted. Both are called synchronously and must not raise. `Sandbox.maintain` replaces a
    fork server after ``jobs_per_server``.

    ``translate`` names a function (``module:function``) that is called inside the job's process with any other
    exception of the job than those of this package, and returns `InputRejected`, `LimitExceeded`, or None for a bug.
    So jobs can raise errors of their own application. ``codes`` are the codes that a job may reject its input with
    (None: all); with another one, it counts as crashed. ``extra_calls`` are numbers of system calls on this machine's
    architecture that jobs may make with any arguments, besides those that Python and libraries of decoders need.

    Raises `SandboxUnavailable` if the fork server cannot start, and `NotConfined` because of ``require``.
    """
    admission = Admission(slots, budget_bytes, waited)
    settings = ForkServerSettings(tuple(preload), translate, tuple(extra_calls))
    server = await start_fork_server(settings)
    sandbox = Sandbox(server, settings, admission, observer=observer, codes=codes, jobs_per_server=jobs_per_server)
    try:
        sandbox.report = await sandbox._tested(sandbox._server)
        if require and sandbox.report.gaps:
            raise NotConfined(sandbox.report.gaps)
        yield sandbox
    finally:
        await sandbox._close()


class Admission:
    """The slots and the memory of a sandbox: first come, first served.

    A small job never overtakes a large one that waits for memory, which would otherwise starve. ``used_slots`` and
    ``used_bytes`` are taken now, of ``slots`` and ``budget_bytes``."""

    def __init__(self, slots: int, budget_bytes: int, waited: Callable[[float], None] | None = None) -> None:
        """``waited`` is called with the seconds that each admitted job waited."""
        if slots < 1 or budget_bytes < 1:
            raise ValueError("the sandbox needs at least one slot and some memory")
        self.slots = slots
        self.budget_bytes = budget_bytes
        self._waited = waited
        self.used_slots = 0
        self.used_bytes = 0
        self._first_in_line = trio.StrictFIFOLock()
        self._freed = trio.lowlevel.ParkingLot()

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        line = self._first_in_line.statistics()
        return line.locked + line.tasks_waiting

    @asynccontextmanager
    async def admitted(self, memory_bytes: int) -> AsyncIterator[None]:
        """Take a slot and ``memory_bytes`` of the budget for the block.

        Raises `BudgetTooSmall` if the whole budget is less.
        """
        if memory_bytes > self.budget_bytes:
            raise BudgetTooSmall(memory_bytes, self.budget_bytes)
        asked_at = trio.current_time()
        async with self._first_in_line:
            while self.used_slots == self.slots or self.used_bytes + memory_bytes > self.budget_bytes:
                await self._freed.park()
            self.used_slots += 1
            self.used_bytes += memory_bytes
        try:
            if self._waited is not None:
                self._waited(trio.current_time() - asked_at)
            yield
        finally:
            self.used_slots -= 1
            self.used_bytes -= memory_bytes
            self._freed.unpark()


async def _first_of(*calls: Callable[[], Awaitable[object]]) -> None:
    """Run all calls at once, and return as soon as one of them does. The others are cancelled."""
    async with trio.open_nursery() as nursery:

        async def run(call: Callable[[], Awaitable[object]]) -> None:
            await call()
            nursery.cancel_scope.cancel()

        for call in calls:
            nursery.start_soon(run, call)
