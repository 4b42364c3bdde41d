"""A short run of stopped workers with a fixed seed; ``python -m tests.chaos.stops`` runs longer, with more of them."""

from __future__ import annotations

from tests.chaos.stops import run

CLAIM_AFTER_S, STOPS, SEED, WORKERS = 1.0, 4, 31, 4


async def test_workers_that_stand_still_harm_no_upload_and_dead_ones_do() -> None:
    report = await run(CLAIM_AFTER_S, STOPS, SEED, WORKERS)
    assert report.unharmed, "\n".join(report.lines())
