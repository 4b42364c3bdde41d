"""`Cage.call`: what a job gets and gives, how each way of ending arrives, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from avion_media.domain.errors import Reason, Rejected, Unavailable
from avion_media.media.cage import Cage, CageJobFailed, JobReport, Limits, Outcome, job, open_cage, read_only

HARD_LIMIT_S = 30


async def _rejection(cage: Cage, name: str, limits: Limits, **arguments: object) -> Rejected:
    with trio.fail_after(HARD_LIMIT_S), pytest.raises(Rejected) as caught:
        await cage.call(f"caged_jobs:{name}", arguments, limits=limits)
    return caught.value


async def test_arguments_go_in_and_an_answer_comes_out(cage: Cage, limits: Limits) -> None:
    answer = await cage.call("caged_jobs:echo", {"name": "ä", "numbers": [1, 2.5, None]}, limits=limits)
    assert answer == {"arguments": {"name": "ä", "numbers": [1, 2.5, None]}, "files": 0}


async def test_a_job_reads_and_writes_the_files_it_is_given(cage: Cage, limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("wb") as target:
        files = [source.fileno(), target.fileno()]
        assert await cage.call("caged_jobs:copy", {}, files=files, limits=limits) == 3
    assert (tmp_path / "target").read_bytes() == b"ABC"


async def test_a_source_given_read_only_cannot_be_changed(cage: Cage, limits: Limits, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with (tmp_path / "source").open("r+b") as source, read_only(source.fileno()) as given:
        with pytest.raises(CageJobFailed, match="Bad file descriptor"):
            await cage.call("caged_jobs:copy", {}, files=[source.fileno(), given], limits=limits)
        assert source.read() == b""  # the first file shared its offset, the second one did not touch the content
    assert (tmp_path / "source").read_bytes() == b"abc"


async def test_a_child_has_no_identity_no_environment_and_only_its_own_descriptors(cage: Cage, limits: Limits) -> None:
    with tempfile.TemporaryFile() as given:
        found = await cage.call("caged_jobs:describe", {}, files=[given.fileno()], limits=limits)
    assert found["uid"] != 0
    assert found["environment"] == {}
    assert found["leads_group"]
    assert found["core"] == [0, 0]
    assert found["files"] == [limits.max_files, limits.max_files]
    assert found["open"] == [0, 1, 2, 3, 4]  # nothing, nowhere, nowhere, its answer, its file


async def test_every_call_is_a_process_of_its_own(cage: Cage, limits: Limits) -> None:
    pids = {(await cage.call("caged_jobs:describe", {}, limits=limits))["pid"] for _ in range(3)}
    assert len(pids) == 3


async def test_threads_work(cage: Cage, limits: Limits) -> None:
    assert await cage.call("caged_jobs:compute_in_threads", {}, limits=limits) == 4


async def test_a_rejection_travels_back(cage: Cage, limits: Limits) -> None:
    error = await _rejection(cage, "reject", limits)
    assert (error.reason, error.detail) == (Reason.CORRUPT, "not a picture")


async def test_a_defect_comes_with_its_traceback(cage: Cage, limits: Limits) -> None:
    with pytest.raises(CageJobFailed, match="KeyError: 'a mistake of ours'"):
        await cage.call("caged_jobs:defect", {}, limits=limits)


async def test_an_import_inside_a_job_fails_as_an_import(cage: Cage, limits: Limits) -> None:
    with pytest.raises(CageJobFailed, match="ModuleNotFoundError: No module named 'wave'"):
        await cage.call("caged_jobs:import_lazily", {}, limits=limits)


async def test_an_unknown_job_is_a_defect(cage: Cage, limits: Limits) -> None:
    with pytest.raises(CageJobFailed, match="no_such_module"):
        await cage.call("no_such_module:job", {}, limits=limits)


async def test_memory_is_limited(cage: Cage, limits: Limits) -> None:
    assert await cage.call("caged_jobs:allocate", {"bytes": 64 << 20}, limits=limits) == 64 << 20
    assert (await _rejection(cage, "allocate", limits, bytes=256 << 20)).reason is Reason.DECODER_LIMIT


async def test_cpu_time_is_limited(cage: Cage, limits: Limits) -> None:
    error = await _rejection(cage, "spin", replace(limits, cpu_s=1))
    assert error.reason is Reason.DECODER_LIMIT
    assert "of CPU" in error.detail


async def test_wall_time_is_limited(cage: Cage, limits: Limits, tmp_path: Path) -> None:
    brief = replace(limits, wall_s=0.3)
    with (tmp_path / "pid").open("w+b") as pid_file, trio.fail_after(HARD_LIMIT_S), pytest.raises(Rejected) as caught:
        await cage.call("caged_jobs:hang", {}, files=[pid_file.fileno()], limits=brief)
    assert caught.value.reason is Reason.DECODER_LIMIT
    assert not _runs(int((tmp_path / "pid").read_text()))


async def test_written_bytes_are_limited(cage: Cage, limits: Limits, tmp_path: Path) -> None:
    with (tmp_path / "target").open("wb") as target, pytest.raises(Rejected) as caught:
        await cage.call(
            "caged_jobs:write_much",
            {"chunks": 17},
            files=[target.fileno()],
            limits=limits,
        )
    assert caught.value.reason is Reason.DECODER_LIMIT
    assert (tmp_path / "target").stat().st_size == limits.output_bytes


async def test_a_segmentation_fault_is_a_crash(cage: Cage, limits: Limits) -> None:
    error = await _rejection(cage, "crash", limits)
    assert error.reason is Reason.DECODER_CRASHED
    assert "SIGSEGV" in error.detail


async def test_leaving_without_an_answer_is_a_crash(cage: Cage, limits: Limits) -> None:
    assert (await _rejection(cage, "leave", limits)).reason is Reason.DECODER_CRASHED


async def test_too_long_an_answer_is_cut_and_killed(cage: Cage, limits: Limits) -> None:
    assert (await _rejection(cage, "answer_much", limits, bytes=1 << 20)).reason is Reason.DECODER_LIMIT


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
async def test_a_hijacked_child_that_babbles_is_a_crash(cage: Cage, limits: Limits, answer: str) -> None:
    if len(answer) > 1000:  # too long for the request: let the job repeat it
        error = await _rejection(cage, "lie", limits, answer="[" * 60_000)
    else:
        error = await _rejection(cage, "lie", limits, answer=answer)
    assert error.reason is Reason.DECODER_CRASHED


async def test_too_large_arguments_are_refused_at_once(cage: Cage, limits: Limits) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        await cage.call("caged_jobs:echo", {"data": "x" * (1 << 20)}, limits=limits)
    assert await cage.call("caged_jobs:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_a_cancel_kills_the_child_and_waits_until_it_is_gone(cage: Cage, limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def hang() -> None:
                with scope:
                    await cage.call("caged_jobs:hang", {}, files=[writer], limits=limits)

            nursery.start_soon(hang)
            pid = int(await told.receive_some(100))
            os.close(writer)
            assert _runs(pid)
            scope.cancel()
    assert not _runs(pid)
    assert cage.admission.used_bytes == 0
    assert await cage.call("caged_jobs:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_cancels_at_any_moment_under_contention_leave_nothing(cage: Cage, limits: Limits) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            for delay in range(40):

                async def call(delay_s: float = delay / 2000) -> None:
                    with trio.move_on_after(delay_s):
                        await cage.call("caged_jobs:echo", {}, limits=limits)

                nursery.start_soon(call)
        assert (cage.admission.used_bytes, cage.admission.waiting) == (0, 0)
        assert len(os.listdir("/proc/self/fd")) == before
        assert await cage.call("caged_jobs:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_slots_bound_how_many_run_at_once(limits: Limits) -> None:
    running_reader, running_writer = os.pipe()
    end_reader, end_writer = os.pipe()
    ended: list[str] = []
    async with open_cage(slots=2, budget_bytes=1 << 30, preload=("caged_jobs",)) as cage:

        async def call(name: str) -> None:
            files = [running_writer, end_reader]
            ended.append(await cage.call("caged_jobs:wait_for_end", {"name": name}, files=files, limits=limits))

        with trio.fail_after(HARD_LIMIT_S):
            async with trio.lowlevel.FdStream(running_reader) as told, trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(call, name)
                running = b""
                while len(running) < 2:
                    running += await told.receive_some(10)
                assert cage.admission.waiting == 1
                os.close(end_writer)
                running += await told.receive_some(10)
    for each in (running_writer, end_reader):
        os.close(each)
    assert running == b"rrr"
    assert sorted(ended) == ["a", "b", "c"]


async def test_the_observer_is_told_what_each_task_used(cage: Cage, limits: Limits, reports: list[JobReport]) -> None:
    await cage.call("caged_jobs:allocate", {"bytes": 64 << 20}, limits=limits)
    await _rejection(cage, "reject", limits)
    await _rejection(cage, "crash", limits)
    await _rejection(cage, "allocate", limits, bytes=1 << 30)
    assert [each.outcome for each in reports] == [Outcome.DONE, Outcome.REJECTED, Outcome.CRASHED, Outcome.LIMIT]
    assert reports[0].name == "caged_jobs:allocate"
    assert reports[0].usage.peak_rss_bytes > 64 << 20
    assert 0 < reports[0].usage.cpu_s < 5


async def test_when_the_forker_dies_its_children_die_and_calls_fail(limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with open_cage(budget_bytes=1 << 30, preload=("caged_jobs",)) as cage:
            forker_pid = cage.forker_pid
            async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:

                async def hang() -> None:
                    with pytest.raises(Unavailable, match="cage"):
                        await cage.call("caged_jobs:hang", {}, files=[writer], limits=limits)

                nursery.start_soon(hang)
                child = os.pidfd_open(int(await told.receive_some(100)))
                os.close(writer)
                os.kill(forker_pid, signal.SIGKILL)
                with pytest.raises(Unavailable, match="cage"):
                    await cage.wait_failed()
                await trio.lowlevel.wait_readable(child)  # which says that it has ended
                os.close(child)
            with pytest.raises(Unavailable, match="cage"):
                await cage.call("caged_jobs:echo", {}, limits=limits)


async def test_a_child_killed_from_outside_says_nothing_about_the_medium(cage: Cage, limits: Limits) -> None:
    """As the kernel's OOM killer does: the same medium may pass another time."""
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:

            async def hang() -> None:
                with pytest.raises(Unavailable, match="killed from outside"):
                    await cage.call("caged_jobs:hang", {}, files=[writer], limits=limits)

            nursery.start_soon(hang)
            pid = int(await told.receive_some(100))
            os.close(writer)
            os.kill(pid, signal.SIGKILL)
    assert await cage.call("caged_jobs:echo", {}, limits=limits) == {"arguments": {}, "files": 0}


async def test_a_forker_that_hangs_is_given_up(cage: Cage, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_OVERTIME_S", 0.1)
    os.kill(cage.forker_pid, signal.SIGSTOP)
    with trio.fail_after(HARD_LIMIT_S):
        with pytest.raises(Unavailable, match="cage"):
            await cage.call("caged_jobs:echo", {}, limits=replace(limits, wall_s=0.1))
        with pytest.raises(Unavailable, match="forker ended"):
            await cage.wait_failed()


async def test_a_cancel_while_the_forker_hangs_is_bounded(
    cage: Cage, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_REAP_S", 0.1)
    os.kill(cage.forker_pid, signal.SIGSTOP)
    with trio.fail_after(HARD_LIMIT_S):
        with trio.move_on_after(0.05) as scope:
            await cage.call("caged_jobs:echo", {}, limits=limits)
        assert scope.cancelled_caught
        with pytest.raises(Unavailable, match="forker ended"):
            await cage.wait_failed()


async def test_leaving_the_cage_leaves_no_process(limits: Limits) -> None:
    async with open_cage(budget_bytes=1 << 30, preload=("caged_jobs",)) as cage:
        forker_pid = cage.forker_pid
        assert _runs(forker_pid)
    assert not _runs(forker_pid)


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_cage(budget_bytes=1 << 30):
            raise KeyError("mine")


async def test_a_forker_that_cannot_start_says_why() -> None:
    with pytest.raises(Unavailable, match="no_such_codec"):
        async with open_cage(budget_bytes=1 << 30, preload=("no_such_codec",)):
            pass


async def test_the_self_test_finds_no_gap_here() -> None:
    async with open_cage(budget_bytes=1 << 30, require=True) as cage:
        assert cage.report.gaps == ()
        assert cage.report.seccomp
        assert cage.report.landlock_abi >= 1


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
