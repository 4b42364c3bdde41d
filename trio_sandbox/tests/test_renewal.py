"""A fork server is replaced after so many jobs: what was learned from one is worth nothing against the next."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_sandbox import JobKilled, Limits, Renewal, Sandbox, SandboxUnavailable, open_sandbox, sandbox

from .sandboxed_jobs import JOBS

HARD_LIMIT_S = 60
BATCH = 6  # of which the self-test takes two


class Maintained:
    """An open sandbox that is being maintained, and the renewals that happened."""

    def __init__(self, opened: Sandbox, limits: Limits) -> None:
        self.sandbox = opened
        self.renewals: list[Renewal] = []
        self._limits = limits
        self._renewed = trio.Event()

    def note(self, renewal: Renewal) -> None:
        self.renewals.append(renewal)
        self._renewed.set()
        self._renewed = trio.Event()

    async def renewed(self) -> Renewal:
        """The next one."""
        await self._renewed.wait()
        return self.renewals[-1]

    async def call(self, name: str, arguments: dict[str, Any] | None = None, files: tuple[int, ...] = ()) -> Any:
        return await self.sandbox.call(f"{JOBS}:{name}", arguments or {}, files=files, limits=self._limits)

    async def wear_out(self) -> None:
        """Give the present fork server all jobs that it should get."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.renewed)
            for _ in range(BATCH - self.sandbox._server.jobs):
                await self.call("echo")


@asynccontextmanager
async def maintained(limits: Limits, slots: int = 2) -> AsyncIterator[Maintained]:
    with trio.fail_after(HARD_LIMIT_S):
        async with (
            open_sandbox(slots=slots, budget_bytes=1 << 30, preload=(JOBS,), jobs_per_server=BATCH) as opened,
            trio.open_nursery() as nursery,
        ):
            one = Maintained(opened, limits)
            nursery.start_soon(opened.maintain, one.note)
            yield one
            nursery.cancel_scope.cancel()


async def test_addresses_learned_from_one_fork_server_do_not_hold_in_the_next(limits: Limits) -> None:
    async with maintained(limits) as it:
        first, second = await it.call("find_layout"), await it.call("find_layout")
        assert first == second  # all children of one fork server share its layout: hence the bound
        await it.wear_out()
        third = await it.call("find_layout")
        assert third["server"] == it.sandbox.fork_server_pid != first["server"]
        assert third["code"] != first["code"]
        assert third["heap"] != first["heap"]
        assert it.renewals == [Renewal(BATCH)]


async def test_a_job_that_runs_ends_on_the_former_fork_server_which_ends_after_it(limits: Limits) -> None:
    running_reader, running_writer = os.pipe()
    end_reader, end_writer = os.pipe()
    answers: list[str] = []
    async with maintained(limits) as it, trio.lowlevel.FdStream(running_reader) as runs, trio.open_nursery() as nursery:

        async def wait_for_end() -> None:
            answers.append(await it.call("wait_for_end", {"name": "late"}, (running_writer, end_reader)))

        former = it.sandbox._server
        nursery.start_soon(wait_for_end)
        assert await runs.receive_some(1) == b"r"
        await it.wear_out()
        assert it.sandbox.fork_server_pid != former.process.pid
        assert (await it.call("find_layout"))["server"] == it.sandbox.fork_server_pid
        assert former.process.returncode is None
        assert it.sandbox.admission.used_slots == 1
        for each in (end_writer, end_reader, running_writer):
            os.close(each)
        await former.process.wait()
        assert answers == ["late"]
        assert former.process.pid not in fork_servers()
        assert it.sandbox.admission.used_bytes == 0


async def test_no_call_waits_or_fails_for_a_renewal(limits: Limits) -> None:
    """More callers than slots, over several renewals; and never more than two fork servers."""
    async with maintained(limits, slots=4) as it:
        most = 0
        servers: set[int] = set()

        async def call_often() -> None:
            nonlocal most
            while len(it.renewals) < 5:
                servers.add((await it.call("find_layout"))["server"])
                most = max(most, len(fork_servers()))

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(call_often)
        assert all(not each.error for each in it.renewals)
        assert len(servers) >= 5
        assert most <= 2
        assert (it.sandbox.admission.used_bytes, it.sandbox.admission.waiting) == (0, 0)
    assert fork_servers() == []


async def test_a_second_renewal_waits_until_the_first_one_is_over(limits: Limits) -> None:
    running_reader, running_writer = os.pipe()
    end_reader, end_writer = os.pipe()
    async with maintained(limits) as it, trio.lowlevel.FdStream(running_reader) as runs, trio.open_nursery() as nursery:
        nursery.start_soon(it.call, "wait_for_end", {"name": ""}, (running_writer, end_reader))
        assert await runs.receive_some(1) == b"r"
        await it.wear_out()
        for _ in range(2 * BATCH):
            await it.call("echo")
        assert len(fork_servers()) == 2
        assert len(it.renewals) == 1
        async with trio.open_nursery() as waiting:
            waiting.start_soon(it.renewed)
            os.close(end_writer)
        assert len(it.renewals) == 2
        os.close(end_reader)
        os.close(running_writer)


async def test_an_attempt_is_logged_unless_the_caller_takes_it(
    limits: Limits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "trio_sandbox")
    with trio.fail_after(HARD_LIMIT_S):
        async with (
            open_sandbox(budget_bytes=1 << 30, preload=(JOBS,), jobs_per_server=BATCH) as opened,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(opened.maintain)
            monkeypatch.setattr(sys, "executable", "/no/such/python")
            monkeypatch.setattr(sandbox, "_RENEW_PAUSE_S", 0.1)
            while not caplog.records:
                await opened.call(f"{JOBS}:echo", {}, limits=limits)
            monkeypatch.undo()
            while caplog.records[-1].levelname == "WARNING":  # noqa: ASYNC110 - nothing else tells it
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert "the fork server was not replaced after" in caplog.records[0].getMessage()
    assert "no/such/python" in caplog.records[0].getMessage()
    assert "the fork server was replaced after" in caplog.records[-1].getMessage()


async def test_a_start_that_fails_leaves_the_present_one_in_service(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with maintained(limits) as it:
        before = it.sandbox.fork_server_pid
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/no/such/python")
            broken.setattr(sandbox, "_RENEW_PAUSE_S", 0.1)
            await it.wear_out()
            assert "no/such/python" in it.renewals[0].error
            assert (await it.call("find_layout"))["server"] == before
        while it.renewals[-1].error:
            await it.renewed()
        assert (await it.call("find_layout"))["server"] != before


async def test_a_former_fork_server_that_dies_takes_only_its_own_jobs_along(limits: Limits) -> None:
    reader, writer = os.pipe()
    async with maintained(limits) as it, trio.lowlevel.FdStream(reader) as runs, trio.open_nursery() as nursery:

        async def hang() -> None:
            with pytest.raises(JobKilled):
                await it.call("hang", None, (writer,))

        former = it.sandbox._server
        nursery.start_soon(hang)
        await runs.receive_some(100)
        os.close(writer)
        await it.wear_out()
        os.kill(former.process.pid, signal.SIGKILL)
        await former.process.wait()
        assert await it.call("echo") == {"arguments": {}, "files": 0}


async def test_the_death_of_the_present_one_is_raised_also_after_renewals(limits: Limits) -> None:
    async with open_sandbox(budget_bytes=1 << 30, preload=(JOBS,), jobs_per_server=BATCH) as opened:
        it = Maintained(opened, limits)

        async def kill_after_a_renewal() -> None:
            await it.wear_out()
            os.kill(opened.fork_server_pid, signal.SIGKILL)

        with trio.fail_after(HARD_LIMIT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_after_a_renewal)
                with pytest.raises(SandboxUnavailable, match=r"the fork server was killed by SIGKILL$"):
                    await opened.maintain(it.note)
    assert fork_servers() == []


def fork_servers() -> list[int]:
    """Those of this process that run."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            try:
                if b"trio_sandbox.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
            except OSError:
                pass  # it has ended
    return found
