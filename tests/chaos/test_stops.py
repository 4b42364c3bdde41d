"""A short run of stopped workers with a fixed seed; ``python -m tests.chaos.stops`` runs longer, with other seeds."""

from __future__ import annotations

from tests.chaos.stops import run

CLAIM_AFTER_S, STOPS, SEED = 1.0, 4, 31


async def test_workers_that_stand_still_harm_no_upload_and_dead_ones_do() -> None:
    report = await run(CLAIM_AFTER_S, STOPS, SEED)
    assert report.unharmed, "\n".join(report.lines())
