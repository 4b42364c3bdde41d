"""Single checks of the doctor, on what a test cannot have for real: a slow store, a full disk."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from avion_media.operations.doctor.check import CheckResult, CheckStatus, run_checks
from avion_media.operations.doctor.examination import PROMPT
from avion_media.operations.doctor.trial import Trial


@pytest.mark.parametrize(
    ("answer_s", "status", "detail"),
    [(0.4, CheckStatus.OK, "median 400 ms"), (2.0, CheckStatus.WARNING, "median 2000 ms")],
)
async def test_a_slow_store_is_named_with_its_median(
    autojump_clock: trio.testing.MockClock, answer_s: float, status: CheckStatus, detail: str
) -> None:
    async def ping() -> None:
        await trio.sleep(answer_s)

    found: list[CheckResult] = []
    await run_checks(
        PROMPT, cast("Trial", cast("Any", SimpleNamespace(store=SimpleNamespace(ping=ping)))), found.append
    )
    assert [(each.status, each.detail) for each in found] == [(status, detail)]
