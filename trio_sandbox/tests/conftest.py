"""One open sandbox per test: forks are cheap, and no test sees another's children."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from trio_sandbox import JobReport, Limits, Sandbox, open_sandbox

from .sandboxed_jobs import JOBS

LIMITS = Limits(memory_bytes=128 << 20, cpu_s=10, wall_s=20, output_bytes=1 << 20)


@pytest.fixture
def reports() -> list[JobReport]:
    return []


@pytest.fixture
async def sandbox(reports: list[JobReport]) -> AsyncIterator[Sandbox]:
    async with open_sandbox(
        budget_bytes=1 << 30, preload=(JOBS,), codes={"corrupt"}, observer=reports.append
    ) as opened:
        reports.clear()  # the self-test's
        yield opened


@pytest.fixture
def limits() -> Limits:
    return LIMITS
