"""One open cage per test: forks are cheap, and no test sees another's children."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from avion_media.media.cage import Cage, JobReport, Limits, open_cage

LIMITS = Limits(memory_bytes=128 << 20, cpu_s=10, wall_s=20, output_bytes=1 << 20)


@pytest.fixture
def reports() -> list[JobReport]:
    return []


@pytest.fixture
async def cage(reports: list[JobReport]) -> AsyncIterator[Cage]:
    async with open_cage(budget_bytes=1 << 30, preload=("caged_jobs",), observer=reports.append) as opened:
        reports.clear()  # the self-test's
        yield opened


@pytest.fixture
def limits() -> Limits:
    return LIMITS
