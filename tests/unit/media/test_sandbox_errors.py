"""The errors of `trio_sandbox` become those of this service, with the messages that logs and statuses have."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from avion_media.common.errors import (
    DecoderFailed,
    DecoderKilled,
    Dependency,
    MediaError,
    Reason,
    Rejected,
    Unavailable,
)
from avion_media.media import sandbox as seam
from avion_media.media.sandbox import Sandbox, open_sandbox
from trio_sandbox import JobNotStarted, JobOutcome, JobReport, Limits, NotConfined, Renewal
from trio_sandbox.tests.machine import confines_fully

LIMITS = Limits(memory_bytes=64 << 20, cpu_s=10, wall_s=20, output_bytes=0)


@pytest.fixture
def reports() -> list[JobReport]:
    return []


@pytest.fixture
async def sandbox(reports: list[JobReport]) -> AsyncIterator[Sandbox]:
    async with open_sandbox(budget_bytes=1 << 30, preload=("failing_jobs",), observer=reports.append) as opened:
        reports.clear()  # the self-test's
        yield opened


async def error_of(sandbox: Sandbox, job: str, limits: Limits = LIMITS, **arguments: str) -> MediaError:
    with trio.fail_after(30), pytest.raises(MediaError) as caught:
        await sandbox.call(f"failing_jobs:{job}", arguments, limits=limits)
    return caught.value


def rejection(error: MediaError) -> tuple[Reason, str]:
    assert isinstance(error, Rejected)
    return error.reason, error.detail


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.CORRUPT, JobOutcome.REJECTED),
        (Reason.TOO_MANY_PIXELS, JobOutcome.REJECTED),
        (Reason.DECODER_LIMIT, JobOutcome.LIMIT),
    ],
)
async def test_a_rejection_of_a_job_arrives_as_it_was_raised(
    sandbox: Sandbox, reports: list[JobReport], reason: Reason, outcome: JobOutcome
) -> None:
    error = await error_of(sandbox, "reject", reason=reason, detail="no frame decodes")
    assert rejection(error) == (reason, "no frame decodes")
    assert str(error) == f"{reason}: no frame decodes"
    assert [each.outcome for each in reports] == [outcome]


async def test_a_limit_and_a_crash_have_their_reasons(sandbox: Sandbox) -> None:
    assert rejection(await error_of(sandbox, "allocate")) == (Reason.DECODER_LIMIT, "out of memory")
    crashed = (Reason.DECODER_CRASHED, "failing_jobs:crash was killed by SIGSEGV")
    assert rejection(await error_of(sandbox, "crash")) == crashed


@pytest.mark.parametrize("code", ["no_such_reason", "decoder_limit", "decoder_crashed", "decoder_failed"])
async def test_a_reason_that_no_job_gives_is_a_crash(sandbox: Sandbox, reports: list[JobReport], code: str) -> None:
    error = await error_of(sandbox, "lie", answer=f'{{"rejected": ["{code}", "mine"]}}')
    assert rejection(error) == (Reason.DECODER_CRASHED, "ended with an answer that is none")
    assert [each.outcome for each in reports] == [JobOutcome.CRASHED]


async def test_a_job_without_its_turn_says_nothing_about_the_file(sandbox: Sandbox) -> None:
    error = await error_of(sandbox, "sleep", replace(LIMITS, wall_s=0.2))
    assert isinstance(error, DecoderKilled)
    assert error.dependency is Dependency.SANDBOX
    assert error.detail.startswith("failing_jobs:sleep was killed after 0.0 s of CPU in 0.")
    assert error.detail.endswith(" s (the host is out of memory or overloaded?)")


async def test_an_unexpected_error_of_a_decoder_is_its_own(sandbox: Sandbox) -> None:
    error = await error_of(sandbox, "defect")
    assert isinstance(error, DecoderFailed)
    assert str(error).endswith("KeyError: 'a mistake of ours'\n")


async def test_a_job_that_cannot_start_stays_a_bug(sandbox: Sandbox) -> None:
    with pytest.raises(JobNotStarted, match="no_such_job"):
        await sandbox.call("failing_jobs:no_such_job", {}, limits=LIMITS)


async def test_a_job_that_can_never_fit_names_the_setting(sandbox: Sandbox) -> None:
    error = await error_of(sandbox, "sleep", replace(LIMITS, memory_bytes=2 << 30))
    assert isinstance(error, Unavailable)
    assert error.dependency is Dependency.SANDBOX
    assert error.detail == "a job needs 2147483648 bytes, and SANDBOX__BUDGET is 1073741824"


async def test_a_fork_server_that_dies_is_unavailable(sandbox: Sandbox) -> None:
    os.kill(sandbox.opened.fork_server_pid, signal.SIGKILL)
    with trio.fail_after(30), pytest.raises(Unavailable) as died:
        await sandbox.maintain()
    assert str(died.value) == "sandbox is not available: the fork server was killed by SIGKILL"
    with pytest.raises(Unavailable, match="sandbox is not available: the fork server takes no task: "):
        await sandbox.call("failing_jobs:sleep", {}, limits=LIMITS)


async def test_a_start_that_fails_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable, match=r"sandbox is not available: cannot start the fork server: .*/no/such/python"):
        async with open_sandbox(budget_bytes=1 << 30):
            pass


async def test_the_refusal_of_a_machine_names_gaps_and_the_setting() -> None:
    """On a kernel that can confine fully, and on one that cannot."""
    expected = (
        "this machine cannot confine decoders as SANDBOX__REQUIRE demands; not denied: fork, execute. Use a kernel that"
        " filters system calls (seccomp), and a container runtime that allows it, or accept the gaps with"
        " AVION_MEDIA_SANDBOX__REQUIRE=false"
    )
    error = seam._translated(NotConfined(["fork", "execute"]))
    assert isinstance(error, Unavailable)
    assert error.detail == expected
    if not confines_fully():
        with pytest.raises(Unavailable, match="AVION_MEDIA_SANDBOX__REQUIRE=false"):
            async with open_sandbox(budget_bytes=1 << 30, require=True):
                pass


def test_a_renewal_is_logged_with_the_names_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, str, dict[str, object]]] = []

    class Log:
        def warning(self, event: str, **fields: object) -> None:
            lines.append(("warning", event, fields))

        def debug(self, event: str, **fields: object) -> None:
            lines.append(("debug", event, fields))

    monkeypatch.setattr(seam, "_log", Log())
    seam.log_renewal(Renewal(128))
    seam.log_renewal(Renewal(128, "no memory"))
    assert lines == [
        ("debug", "sandbox.renewed", {"tasks": 128}),
        ("warning", "sandbox.renewal_failed", {"tasks": 128, "detail": "no memory"}),
    ]
