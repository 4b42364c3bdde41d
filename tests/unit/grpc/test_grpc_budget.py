"""Allowances."""

from __future__ import annotations

from avion_media.grpc.budget import NuisanceBudget


def test_a_burst_is_forgiven_and_a_flood_is_not() -> None:
    budget = NuisanceBudget(burst=10, per_s=1.0, now=0.0)
    assert all(budget.spend(1, now=0.0) for _ in range(10))
    assert not budget.spend(1, now=0.0)


def test_the_allowance_comes_back_with_time_up_to_the_burst() -> None:
    budget = NuisanceBudget(burst=10, per_s=1.0, now=0.0)
    assert budget.spend(10, now=0.0)
    assert budget.spend(5, now=5.0)
    assert not budget.spend(1, now=5.0)
    assert budget.spend(10, now=1000.0)
    assert not budget.spend(1, now=1000.0)


def test_honest_work_earns_credit_up_to_the_burst() -> None:
    budget = NuisanceBudget(burst=10, per_s=0.0, now=0.0)
    assert budget.spend(8, now=0.0)
    budget.earn(3)
    assert budget.spend(5, now=0.0)
    budget.earn(1000)
    assert budget.spend(10, now=0.0)
    assert not budget.spend(1, now=0.0)
