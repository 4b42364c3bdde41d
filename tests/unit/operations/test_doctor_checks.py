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
    ("answer_s", "status", "detail"),
    [(0.4, CheckStatus.OK, "median 400 ms"), (2.0, CheckStatus.WARNING, "median 2000 ms")],
)
async def test_a_slow_store_is_named_with_its_median(
    autojump_clock: trio.testing.MockClock, answer_s: float, status: CheckStatus, detail: str
) -> None:
    async def ping() -> None:
        await trio.sleep(answer_s)

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
