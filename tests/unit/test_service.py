"""What the process around the tree promises."""

from __future__ import annotations

from avion_media.service import DrainBudget


def test_the_budget_of_a_drain_is_the_sum_of_its_parts() -> None:
    parts = {"settle": 1, "grace": 2, "stop": 4}
    budget = DrainBudget(parts, allowed_s=8)
    assert budget.total_s == 7
    assert budget.fits
    assert not DrainBudget(parts, allowed_s=7).fits
