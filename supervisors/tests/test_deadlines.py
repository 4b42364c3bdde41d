"""What is due first, among thousands of deadlines that were set and replaced."""

from __future__ import annotations

import math
import random
from collections import deque

from supervisors._batch import Batch, Deadlines

IN_USE = 20


def batch() -> Batch:
    return Batch([], deque(), "")


def test_only_the_last_deadline_of_a_target_counts_and_the_others_are_forgotten() -> None:
    deadlines, targets, chance = Deadlines(), [batch() for _ in range(IN_USE)], random.Random(7)
    most = 0
    for number in range(2000):
        deadlines.set(targets[number % IN_USE], chance.random())
        most = max(most, len(deadlines._heap))
    assert most == 64 + 2 * IN_USE
    in_order = sorted(targets, key=lambda each: each.deadline)
    assert deadlines.next() == in_order[0].deadline
    assert deadlines.pop_due(in_order[0].deadline - 1e-9) is None
    assert [deadlines.pop_due(1.0) for _ in targets] == in_order
    assert deadlines.pop_due(1.0) is None


def test_what_is_never_due_takes_no_place() -> None:
    deadlines, target = Deadlines(), batch()
    deadlines.set(target, math.inf)
    assert (deadlines._heap, deadlines.next()) == ([], math.inf)


def test_what_is_left_after_the_others_are_forgotten_is_in_order() -> None:
    for seed in range(20):
        deadlines, targets, chance = Deadlines(), [batch() for _ in range(IN_USE)], random.Random(seed)
        seen = 0
        while len(deadlines._heap) >= seen:  # until the first time that some are forgotten
            seen = len(deadlines._heap)
            deadlines.set(chance.choice(targets), chance.random())
        left = sorted(each.deadline for each in targets if each.deadline < math.inf)
        popped = [deadlines.pop_due(1.0) for _ in left]
        assert [each.deadline for each in popped if each is not None] == left
