"""One crash point of each kind, always the same; all of them by `make crash`."""

from __future__ import annotations

import random

import pytest

from tests.crash.lane import open_lane
from tests.crash.points import KINDS, count_points, try_point
from tests.services import S3Address

SEED = 20
FEWEST = 500  # fewer points mean that the counting misses calls


@pytest.mark.timeout(600)  # a minute on an idle machine; each point has a limit of its own
def test_a_crash_point_of_each_kind(ceph_address: S3Address) -> None:
    with open_lane(ceph_address) as lane:
        count_points(lane, KINDS[:1], runs=1)  # warms up the caches that all kinds have
        points = count_points(lane, runs=1)
        assert len(points) >= FEWEST
        chance = random.Random(SEED)
        sample = [chance.choice([point for point in points if point.kind is kind]) for kind in KINDS]
        failed = [outcome for outcome in (try_point(lane, point) for point in sample) if outcome.violations]
        print(f"{len(points)} crash points, {len(sample)} tried, {len(failed)} failed")
        for each in failed:
            print(each.point, *each.violations, each.log[-10_000:], sep="\n")
        assert not [str(each.point) for each in failed]
        assert not lane.checker.violations()
