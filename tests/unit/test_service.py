"""What the process around the tree promises."""

from __future__ import annotations

from avion_media.service import DrainBudget


def test_the_budget_of_a_drain_is_the_sum_of_its_parts() -> None:
    budget = DrainBudget(1, 2, 4, 8, allowed_s=32, margin_s=16)
    assert budget.total_s == 31 == sum(seconds for seconds, _ in budget.parts())
    assert budget.fits
    assert not DrainBudget(1, 2, 4, 8, allowed_s=31, margin_s=16).fits
