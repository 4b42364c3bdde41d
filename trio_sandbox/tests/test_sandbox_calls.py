"""`Sandbox.call`: what a job gets and gives, how each way of ending arrives, and that nothing outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_sandbox import (
    InputRejected,
    JobCrashed,
    JobKilled,
    JobNotStarted,
    JobOutcome,
    JobReport,
    LimitExceeded,
    Limits,
    NotConfined,
    Renewal,
    Sandbox,
    SandboxError,
    SandboxJobFailed,
    SandboxUnavailable,
    fork_server_process,
    open_sandbox,
    read_only,
)

from .machine import confines_fully
from .sandboxed_jobs import JOBS

HARD_LIMIT_S = 30


async def _error(sandbox: Sandbox, name: str, limits: Limits, **arguments: object) -> SandboxError:
    with trio.fail_after(HARD_LIMIT_S), pytest.raises(SandboxError) as caught:
        await sandbox.call(f"{JOBS}:{name}", arguments, limits=limits)
    return caught.value


async def test_arguments_go_in_and_an_answer_comes_out(sandbox: Sandbox, limits: Limits) -> None:
    answer = await sandbox.call(f"{JOBS}:echo", {"name": "ä", "numbers": [1, 2.5, None]}, limits=limits)
    assert answer == {"arguments": {"name": "ä", "numbers": [1, 2.5, None]}, "files": 0}


async def test_a_job_reads_and_writes_the_files_it_is_given(sandbox: Sandbox, limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        files = [source.fileno(), target.fileno()]
        assert await sandbox.call(f"{JOBS}:copy", {}, files=files, limits=limits) == 3
    assert (tmp_path / "target").read_bytes() == b"ABC"


async def test_a_source_given_read_only_cannot_be_changed(sandbox: Sandbox, limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with (tmp_path / "source").open("r+b") as source, read_only(source.fileno()) as given:
        with pytest.raises(SandboxJobFailed, match="Bad file descriptor"):
            await sandbox.call(f"{JOBS}:copy", {}, files=[source.fileno(), given], limits=limits)
        assert source.read() == b""  # the first file shared its offset, the second one did not touch the content
    assert (tmp_path / "source").read_bytes() == b"abc"


async def test_a_child_has_no_identity_no_environment_and_only_its_own_descriptors(
    sandbox: Sandbox, limits: Limits
) -> None:
    with tempfile.TemporaryFile() as given:
        found = await sandbox.call(f"{JOBS}:describe", {}, files=[given.fileno()], limits=limits)
    assert found["uid"] != 0
    assert found["environment"] == {}
    assert found["leads_group"]
    assert found["core"] == [0, 0]
    assert found["files"] == [limits.max_files, limits.max_files]
    assert found["open"] == [0, 1, 2, 3, 4]  # nothing, nowhere, nowhere, its answer, its file


async def test_every_call_is_a_process_of_its_own(sandbox: Sandbox, limits: Limits) -> None:
    pids = {(await sandbox.call(f"{JOBS}:describe", {}, limits=limits))["pid"] for _ in range(3)}
    assert len(pids) == 3


async def test_threads_work(sandbox: Sandbox, limits: Limits) -> None:
    assert await sandbox.call(f"{JOBS}:compute_in_threads", {}, limits=limits) == 4


async def test_a_rejection_travels_back(sandbox: Sandbox, limits: Limits) -> None:
    error = await _error(sandbox, "reject", limits)
    assert isinstance(error, InputRejected)
    assert (error.code, error.detail, str(error)) == ("corrupt", "not a picture", "corrupt: not a picture")


async def test_a_limit_that_a_job_foresees_travels_back(sandbox: Sandbox, limits: Limits) -> None:
    error = await _error(sandbox, "foresee", limits)
    assert isinstance(error, LimitExceeded)
    assert str(error) == "needs 9 GB"


async def test_what_a_job_rejects_with_is_cut(limits: Limits) -> None:
    async with open_sandbox(budget_bytes=1 << 30, preload=(JOBS,)) as sandbox:
        error = await _error(sandbox, "lie", limits, answer=json.dumps({"rejected": ["c" * 9000, "d" * 9000]}))
    assert isinstance(error, InputRejected)
    assert (len(error.code), len(error.detail)) == (500, 500)


@pytest.mark.parametrize("kind", ["failed", "unready", "limit", "killed", "none such"])
async def test_no_text_of_a_job_is_longer_than_500_characters(limits: Limits, kind: str) -> None:
    async with open_sandbox(budget_bytes=1 << 30, preload=(JOBS,)) as sandbox:
        with pytest.raises((SandboxError, SandboxJobFailed)) as caught:
            await sandbox.call(f"{JOBS}:lie", {"answer": json.dumps({kind: "A" * 9000 + "."})}, limits=limits)
    assert len(str(caught.value)) == 500
    assert str(caught.value).endswith(".") == (kind not in {"limit", "killed"})  # of a traceback the end is kept


async def test_a_full_disk_says_nothing_about_the_file(sandbox: Sandbox, limits: Limits) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(JobKilled, match="No space left on device"):
            await sandbox.call(f"{JOBS}:write", {}, files=[full], limits=limits)
    finally:
        os.close(full)


async def test_errors_of_an_application_are_translated_inside(limits: Limits, reports: list[JobReport]) -> None:
    async with open_sandbox(
        budget_bytes=1 << 30, translate=f"{JOBS}:rejection_of", codes={"too_deep"}, observer=reports.append
    ) as sandbox:
        reports.clear()
        deep = await _error(sandbox, "fail_as_application", limits, how="deep")
        assert isinstance(deep, InputRejected)
        assert (deep.code, deep.detail) == ("too_deep", "9 levels")
        long = await _error(sandbox, "fail_as_application", limits, how="long")
        assert isinstance(long, LimitExceeded)
        assert str(long) == "9 pages"
        assert isinstance(await _error(sandbox, "foresee", limits), LimitExceeded)
        with pytest.raises(SandboxJobFailed, match="LookupError: a bug"):
            await sandbox.call(f"{JOBS}:fail_as_application", {"how": "other"}, limits=limits)
    outcomes = [JobOutcome.REJECTED, JobOutcome.LIMIT, JobOutcome.LIMIT, JobOutcome.FAILED]
    assert [each.outcome for each in reports] == outcomes


async def test_the_fork_server_has_not_loaded_trio(sandbox: Sandbox, limits: Limits) -> None:
    loaded = set(await sandbox.call(f"{JOBS}:loaded_modules", {}, limits=limits))
    assert "trio_sandbox.seccomp" in loaded
    assert not loaded & {"trio", "trio_sandbox.sandbox", "asyncio", "subprocess"}


async def test_a_defect_comes_with_its_traceback(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(SandboxJobFailed, match="KeyError: 'a mistake of ours'"):
        await sandbox.call(f"{JOBS}:defect", {}, limits=limits)


async def test_an_import_inside_a_job_fails_as_an_import(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(SandboxJobFailed, match="ModuleNotFoundError: No module named 'wave'"):
        await sandbox.call(f"{JOBS}:import_lazily", {}, limits=limits)


async def test_the_module_of_a_job_is_loaded_once_by_the_fork_server(limits: Limits) -> None:
    async with open_sandbox(budget_bytes=1 << 30) as sandbox:
        loaded = [await sandbox.call(f"{JOBS}:tell_when_loaded", {}, limits=limits) for _ in range(2)]
    assert loaded[0] == loaded[1]


async def test_an_unknown_job_never_started(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(JobNotStarted, match="no_such_module"):
        await sandbox.call("no_such_module:job", {}, limits=limits)


async def test_memory_is_limited(sandbox: Sandbox, limits: Limits) -> None:
    assert await sandbox.call(f"{JOBS}:allocate", {"bytes": 64 << 20}, limits=limits) == 64 << 20
    error = await _error(sandbox, "allocate", limits, bytes=256 << 20)
    assert isinstance(error, LimitExceeded)
    assert str(error) == "out of memory"


async def test_cpu_time_is_limited(sandbox: Sandbox, limits: Limits) -> None:
    error = await _error(sandbox, "spin", replace(limits, cpu_s=1))
    assert isinstance(error, LimitExceeded)
    assert re.fullmatch(r"killed by SIG(XCPU|KILL) after \d\.\d s of CPU", str(error))


async def test_wall_time_is_limited(sandbox: Sandbox, limits: Limits, tmp_path: Path) -> None:
    brief = replace(limits, wall_s=0.3)
    with (
        (tmp_path / "pid").open("w+b") as pid_file,
        trio.fail_after(HARD_LIMIT_S),
        pytest.raises(JobKilled, match="of CPU in"),
    ):
        await sandbox.call(f"{JOBS}:hang", {}, files=[pid_file.fileno()], limits=brief)
    assert not _runs(int((tmp_path / "pid").read_text()))


async def test_written_bytes_are_limited(sandbox: Sandbox, limits: Limits, tmp_path: Path) -> None:
    with (tmp_path / "target").open("wb") as target, pytest.raises(LimitExceeded, match="SIGXFSZ"):
        await sandbox.call(
            f"{JOBS}:write_much",
            {"chunks": 17},
            files=[target.fileno()],
            limits=limits,
        )
    assert (tmp_path / "target").stat().st_size == limits.output_bytes


async def test_a_segmentation_fault_is_a_crash(sandbox: Sandbox, limits: Limits) -> None:
    error = await _error(sandbox, "crash", limits)
    assert isinstance(error, JobCrashed)
    assert str(error) == f"{JOBS}:crash was killed by SIGSEGV"


async def test_leaving_without_an_answer_is_a_crash(sandbox: Sandbox, limits: Limits) -> None:
    error = await _error(sandbox, "leave", limits)
    assert isinstance(error, JobCrashed)
    assert str(error) == "ended without an answer"


async def test_too_long_an_answer_is_cut_and_killed(sandbox: Sandbox, limits: Limits) -> None:
    error = await _error(sandbox, "answer_much", limits, bytes=1 << 20)
    assert isinstance(error, LimitExceeded)
    assert str(error) == "too much output"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{",
        "[]",
        "{}",
        "1",
        '"text"',
        "\xff",
        '{"rejected": 1}',
        '{"rejected": ["no_such_reason", ""]}',
        "[" * 100_000,
    ],
)
async def test_a_hijacked_child_that_babbles_is_a_crash(sandbox: Sandbox, limits: Limits, answer: str) -> None:
    if len(answer) > 1000:  # too long for the request: let the job repeat it
        error = await _error(sandbox, "lie", limits, answer="[" * 60_000)
    else:
        error = await _error(sandbox, "lie", limits, answer=answer)
    assert isinstance(error, JobCrashed)


async def test_too_large_arguments_are_refused_at_once(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        await sandbox.call(f"{JOBS}:echo", {"data": "x" * (1 << 20)}, limits=limits)
    assert await sandbox.call(f"{JOBS}:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_a_cancel_kills_the_child_and_waits_until_it_is_gone(sandbox: Sandbox, limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def hang() -> None:
                with scope:
                    await sandbox.call(f"{JOBS}:hang", {}, files=[writer], limits=limits)

            nursery.start_soon(hang)
            pid = int(await told.receive_some(100))
            os.close(writer)
            assert _runs(pid)
            scope.cancel()
    assert not _runs(pid)
    assert sandbox.admission.used_bytes == 0
    assert await sandbox.call(f"{JOBS}:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_cancels_at_any_moment_under_contention_leave_nothing(sandbox: Sandbox, limits: Limits) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            for delay in range(40):

                async def call(delay_s: float = delay / 2000) -> None:
                    with trio.move_on_after(delay_s):
                        await sandbox.call(f"{JOBS}:echo", {}, limits=limits)

                nursery.start_soon(call)
        assert (sandbox.admission.used_bytes, sandbox.admission.waiting) == (0, 0)
        assert len(os.listdir("/proc/self/fd")) == before
        assert await sandbox.call(f"{JOBS}:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_slots_bound_how_many_run_at_once(limits: Limits) -> None:
    running_reader, running_writer = os.pipe()
    end_reader, end_writer = os.pipe()
    ended: list[str] = []
    async with open_sandbox(slots=2, budget_bytes=1 << 30, preload=(JOBS,)) as sandbox:

        async def call(name: str) -> None:
            files = [running_writer, end_reader]
            ended.append(await sandbox.call(f"{JOBS}:wait_for_end", {"name": name}, files=files, limits=limits))

        with trio.fail_after(HARD_LIMIT_S):
            async with trio.lowlevel.FdStream(running_reader) as told, trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(call, name)
                running = b""
                while len(running) < 2:
                    running += await told.receive_some(10)
                assert sandbox.admission.waiting == 1
                os.close(end_writer)
                running += await told.receive_some(10)
    for each in (running_writer, end_reader):
        os.close(each)
    assert running == b"rrr"
    assert sorted(ended) == ["a", "b", "c"]


async def test_the_observer_is_told_what_each_job_used(
    sandbox: Sandbox, limits: Limits, reports: list[JobReport]
) -> None:
    await sandbox.call(f"{JOBS}:allocate", {"bytes": 64 << 20}, limits=limits)
    await _error(sandbox, "reject", limits)
    await _error(sandbox, "crash", limits)
    await _error(sandbox, "allocate", limits, bytes=1 << 30)
    assert [each.outcome for each in reports] == [
        JobOutcome.DONE,
        JobOutcome.REJECTED,
        JobOutcome.CRASHED,
        JobOutcome.LIMIT,
    ]
    assert reports[0].name == f"{JOBS}:allocate"
    assert reports[0].usage.peak_rss_bytes > 64 << 20
    assert 0 < reports[0].usage.cpu_s < 5


async def test_when_the_fork_server_dies_its_children_die_and_calls_fail(limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with open_sandbox(budget_bytes=1 << 30, preload=(JOBS,)) as sandbox:
            fork_server_pid = sandbox.fork_server_pid
            async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:

                async def hang() -> None:
                    with pytest.raises(JobKilled, match="the fork server is gone, and the job with it"):
                        await sandbox.call(f"{JOBS}:hang", {}, files=[writer], limits=limits)

                nursery.start_soon(hang)
                child = os.pidfd_open(int(await told.receive_some(100)))
                os.close(writer)
                os.kill(fork_server_pid, signal.SIGKILL)
                with pytest.raises(SandboxUnavailable, match=r"the fork server was killed by SIGKILL$"):
                    await sandbox.maintain(unexpected)
                await trio.lowlevel.wait_readable(child)  # which says that it has ended
                os.close(child)
            with pytest.raises(SandboxUnavailable, match="the fork server takes no task"):
                await sandbox.call(f"{JOBS}:echo", {}, limits=limits)


async def test_a_child_killed_from_outside_says_nothing_about_the_medium(sandbox: Sandbox, limits: Limits) -> None:
    """As the kernel's OOM killer does: the same medium may pass another time."""
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:

            async def hang() -> None:
                with pytest.raises(JobKilled, match="was killed after"):
                    await sandbox.call(f"{JOBS}:hang", {}, files=[writer], limits=limits)

            nursery.start_soon(hang)
            pid = int(await told.receive_some(100))
            os.close(writer)
            os.kill(pid, signal.SIGKILL)
    assert await sandbox.call(f"{JOBS}:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_a_fork_server_that_hangs_is_given_up(
    sandbox: Sandbox, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server_process, "_DEADLINE_SLACK_S", 0.1)
    os.kill(sandbox.fork_server_pid, signal.SIGSTOP)
    with trio.fail_after(HARD_LIMIT_S):
        with pytest.raises(JobKilled, match="the fork server is gone, and the job with it"):
            await sandbox.call(f"{JOBS}:echo", {}, limits=replace(limits, wall_s=0.1))
        with pytest.raises(SandboxUnavailable, match=r"fork server was killed by SIGKILL$"):
            await sandbox.maintain(unexpected)


async def test_a_cancel_while_the_fork_server_hangs_is_bounded(
    sandbox: Sandbox, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server_process, "_REAP_S", 0.1)
    os.kill(sandbox.fork_server_pid, signal.SIGSTOP)
    with trio.fail_after(HARD_LIMIT_S):
        with trio.move_on_after(0.05) as scope:
            await sandbox.call(f"{JOBS}:echo", {}, limits=limits)
        assert scope.cancelled_caught
        with pytest.raises(SandboxUnavailable, match=r"fork server was killed by SIGKILL$"):
            await sandbox.maintain(unexpected)


def unexpected(renewal: Renewal) -> None:
    raise AssertionError(renewal)


async def test_leaving_the_sandbox_leaves_no_process(limits: Limits) -> None:
    async with open_sandbox(budget_bytes=1 << 30, preload=(JOBS,)) as sandbox:
        fork_server_pid = sandbox.fork_server_pid
        assert _runs(fork_server_pid)
    assert not _runs(fork_server_pid)


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_sandbox(budget_bytes=1 << 30):
            raise KeyError("mine")


async def test_a_fork_server_that_cannot_start_says_why() -> None:
    with pytest.raises(SandboxUnavailable, match="no_such_codec"):
        async with open_sandbox(budget_bytes=1 << 30, preload=("no_such_codec",)):
            pass


async def test_a_required_sandbox_opens_without_a_gap_or_says_what_is_lacking() -> None:
    """On a kernel that can confine fully, and on one that cannot."""
    expected = (
        contextlib.nullcontext()
        if confines_fully()
        else pytest.raises(NotConfined, match="cannot confine jobs as required; not denied: ")
    )
    with expected:
        async with open_sandbox(budget_bytes=1 << 30, require=True) as sandbox:
            assert sandbox.report.gaps == ()
            assert sandbox.report.seccomp
            assert sandbox.report.landlock_abi >= 1


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
