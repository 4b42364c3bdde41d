"""The model of a large installation, by hand; and its table in the documentation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.scale.flows import Flow, Flows, read
from tests.scale.model import LOADS, PAGE, PICTURE, Limits, Load, picture, uploads_of_one_queue, uses, with_table

NOTHING = Load(replicas=0, uploads=0, copies=0, deletions=0, visits=0, media=0)
LIMITS = Limits(redis_bytes=1e6, writes=10, reads=20, sweep_rate=1, sweep_s=60)
COSTS = Flows(
    {
        "upload": Flow(1000, 2000, {"PutObject": 3, "GetObject": 1}),
        "copy": Flow(500, 0, {"PutObject": 1}),
        "deletion": Flow(200, 5000, {"DeleteObjects": 1}),
        "visit": Flow(10, 0, {"GetObject": 1}),
        "task": Flow(100, 0, {}),
    },
    idle_replica=0.001,
)


@pytest.mark.parametrize(
    ("load", "what", "share", "most"),
    [
        (replace(NOTHING, uploads=100), "CPU of Redis", 0.1, "upload"),
        (replace(NOTHING, uploads=100, replicas=300), "CPU of Redis", 0.4, "idle replicas"),
        (replace(NOTHING, uploads=100), "turns of uploads, on one core", 0.01, "upload"),
        (replace(NOTHING, uploads=10, deletions=10), "memory of Redis", 0.07, "deletion"),
        (replace(NOTHING, uploads=1, copies=2, deletions=3), "writes of the store", 0.8, "upload"),
        (replace(NOTHING, uploads=2, visits=8), "reads of the store", 0.5, "visit"),
        (replace(NOTHING, media=5000), "one whole sweep", 0.5, "media in the store"),
    ],
)
def test_costs_add_up(load: Load, what: str, share: float, most: str) -> None:
    found = next(use for use in uses(load, COSTS, LIMITS) if use.what == what)
    assert found.share == pytest.approx(share)
    assert found.most == most


def test_the_fullest_is_first() -> None:
    shares = [use.share for use in uses(LOADS["the largest"], COSTS, LIMITS)]
    assert shares == sorted(shares, reverse=True)


def test_a_queue_has_seven_tenths_of_a_core() -> None:
    assert uploads_of_one_queue(COSTS) == pytest.approx(7000)


def test_the_page_and_its_picture_are_of_these_figures() -> None:
    page, costs = PAGE.read_text(), read()
    assert page == with_table(page, costs, Limits()), "python -m tests.scale.model --write"
    assert PICTURE.read_text() == picture(costs, Limits()), "python -m tests.scale.model --write"
