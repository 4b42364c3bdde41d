"""Single checks of the doctor, on what a test cannot have for real: a slow store, a full disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from avion_media.config import Config
from avion_media.operations.doctor.check import Area, CheckResult, CheckStatus, run_checks
from avion_media.operations.doctor.examination import PROMPT, examine
from avion_media.operations.doctor.trial import Trial


@pytest.mark.parametrize(
    ("answers_s", "status", "detail"),
    [
        ([0.4] * 5, CheckStatus.OK, "median 400 ms, at most 400 ms"),
        ([1.0] * 5, CheckStatus.WARNING, "median 1000 ms, at most 1000 ms"),
        ([0.1, 0.1, 2.5, 0.1, 0.1], CheckStatus.WARNING, "median 100 ms, at most 2500 ms"),
    ],
)
async def test_a_store_that_is_slow_or_stalls_is_named(
    autojump_clock: trio.testing.MockClock, answers_s: list[float], status: CheckStatus, detail: str
) -> None:
    left = iter(answers_s)

    async def ping() -> None:
        await trio.sleep(next(left))

    found: list[CheckResult] = []
    trial = cast("Trial", SimpleNamespace(store=SimpleNamespace(ping=ping)))
    await run_checks(PROMPT, trial, found.append)
    assert [(each.status, each.detail) for each in found] == [(status, detail)]


@pytest.mark.parametrize(("folder", "status"), [("/proc", CheckStatus.FAILED), ("", CheckStatus.OK)])
async def test_a_full_spool_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, status: CheckStatus
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", folder or str(tmp_path))  # /proc has no room
    config = Config.model_validate({"upload": {"max_video_bytes": "1KiB", "max_image_bytes": "1KiB"}})
    found = await examine(config, frozenset({Area.PROCESS}), lambda _result: None, files_needed=1)
    spool = found[-1]
    assert (spool.check, spool.status) == ("the spool has room for the largest upload", status)
    assert f"free in {folder or tmp_path}" in spool.detail
