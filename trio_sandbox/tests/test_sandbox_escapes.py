"""What a hijacked decoder would try, tried from inside."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from trio_sandbox import Limits, Sandbox, SandboxJobFailed, open_sandbox
from trio_sandbox.confinement import USERS

from .forbidden_calls import forbidden_calls
from .sandboxed_jobs import JOBS

HARD_LIMIT_S = 60
X32 = 0x40000000


async def test_no_forbidden_call_exists(sandbox: Sandbox, limits: Limits) -> None:
    calls = forbidden_calls()
    assert len(calls) > 80
    ends = await sandbox.call(f"{JOBS}:make_calls", {"calls": calls}, limits=limits)
    refused = {"prctl": "EPERM"}
    assert ends == {name: refused.get(name, "ENOSYS") for name in calls}


async def test_an_extra_call_is_made_and_a_gap_that_it_opens_is_named(limits: Limits) -> None:
    calls = {name: number for name, number in forbidden_calls().items() if name in ("memfd_create", "socket", "kill")}
    async with open_sandbox(budget_bytes=1 << 30, extra_calls=[calls["memfd_create"], calls["socket"]]) as sandbox:
        ends = await sandbox.call(f"{JOBS}:make_calls", {"calls": calls}, limits=limits)
        assert any(gap.startswith("socket AF_") for gap in sandbox.report.gaps)
    assert ends == {"memfd_create": "EINVAL", "socket": "EINVAL", "kill": "ENOSYS"}


async def test_nor_by_the_numbers_of_x32(sandbox: Sandbox, limits: Limits) -> None:
    calls = {name: number | X32 for name, number in {**forbidden_calls(), "read": 0, "open": 2}.items()}
    ends = await sandbox.call(f"{JOBS}:make_calls", {"calls": calls}, limits=limits)
    assert set(ends.values()) == {"ENOSYS"}


async def test_a_job_maps_no_code(sandbox: Sandbox, limits: Limits) -> None:
    with pytest.raises(SandboxJobFailed, match="PermissionError"):
        await sandbox.call(f"{JOBS}:use_i386", {}, limits=limits)


async def test_limits_are_never_raised(sandbox: Sandbox, limits: Limits) -> None:
    assert await sandbox.call(f"{JOBS}:raise_limits", {}, limits=limits) == []


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _limit(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line[len(name) :].split()[1] for line in lines if line.startswith(name))


def _check_confined(pid: int, limits: Limits) -> None:
    """What the kernel says of a running child, from outside."""
    status = _status(pid)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter
    assert {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {""}
    assert int(*{*status["Uid"].split()}) in USERS
    assert set(status["Gid"].split()) == {"65534"}
    assert _limit(pid, "Max processes") == "64"
    assert _limit(pid, "Max core file size") == "0"
    assert _limit(pid, "Max file size") == str(limits.output_bytes)
    assert _limit(pid, "Max open files") == str(limits.max_files)
    assert _limit(pid, "Max address space") != "unlimited"
    assert _limit(pid, "Max cpu time") != "unlimited"
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


def _environment(pid: int) -> set[str]:
    text = Path(f"/proc/{pid}/environ").read_text()
    return {variable.partition("=")[0] for variable in text.split("\0") if variable}


async def test_a_job_is_confined_as_the_kernel_sees_it(sandbox: Sandbox, limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:

            async def hang() -> None:
                await sandbox.call(f"{JOBS}:hang", {}, files=[writer], limits=limits)

            nursery.start_soon(hang)
            pid = int(await told.receive_some(100))
            os.close(writer)
            _check_confined(pid, limits)
            # The fork server's own, which the kernel goes on showing; the child's is empty. No secrets in either.
            assert _environment(pid) == {"PYTHONPATH", "GLIBC_TUNABLES"}
            nursery.cancel_scope.cancel()


async def test_jobs_at_once_are_of_different_users(sandbox: Sandbox, limits: Limits) -> None:
    reader, writer = os.pipe()
    with trio.fail_after(HARD_LIMIT_S):
        async with trio.lowlevel.FdStream(reader) as told, trio.open_nursery() as nursery:

            async def hang() -> None:
                await sandbox.call(f"{JOBS}:hang", {}, files=[writer], limits=limits)

            users = set()
            for _ in range(2):
                nursery.start_soon(hang)
                users.add(_status(int(await told.receive_some(100)))["Uid"])
            os.close(writer)
            assert len(users) == 2
            nursery.cancel_scope.cancel()


async def test_a_job_starts_only_so_many_threads(sandbox: Sandbox, limits: Limits) -> None:
    started = await sandbox.call(f"{JOBS}:start_threads", {}, limits=replace(limits, memory_bytes=1 << 30))
    assert 10 < started < 64
