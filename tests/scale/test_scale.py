"""A long backlog does not make a task more expensive. The full size: ``make scale``."""

from __future__ import annotations

from tests.scale.backlog import BACKLOG_AGE_S
from tests.scale.costs import measure

FEW, MANY = 1000, 20_000


async def test_figures_are_right_and_a_task_costs_the_same_at_any_length(redis_of_process: str) -> None:
    ((few,), (many,)) = [await measure([(redis_of_process, count)], rounds=100) for count in (FEW, MANY)]
    for measured, count in ((few, FEW), (many, MANY)):
        tasks, deletions = measured.tasks, measured.deletions
        assert (tasks.depth, tasks.lag, tasks.pending, tasks.dead_letters) == (count, count, 0, count)
        assert BACKLOG_AGE_S <= tasks.oldest_age_s < BACKLOG_AGE_S + 300
        assert (deletions.depth, deletions.delayed) == (0, count)
        assert deletions.next_due is not None
    # Twenty times the length, so a scan of all of it would cost a multiple. CPU time, so that load does not matter.
    for name in many.costs:
        assert many.cost(name).server < 4 * few.cost(name).server + 50, name
        assert many.cost(name).ours < 4 * few.cost(name).ours + 200, name
