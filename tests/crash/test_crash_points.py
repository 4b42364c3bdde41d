"""A sample of the crash points, always the same; all of them by `make crash`."""

from __future__ import annotations

import random

import pytest

from tests.crash.lane import open_lane
from tests.crash.points import KINDS, count_points, try_point
from tests.services import S3Address

SAMPLE = 12
SEED = 20
FEWEST = 500  # fewer points mean that the counting misses calls


@pytest.mark.timeout(600)  # half a minute on an idle machine; each point has a limit of its own
def test_a_sample_of_all_crash_points(ceph_address: S3Address) -> None:
    with open_lane(ceph_address) as lane:
        points = count_points(lane)
        assert len(points) >= FEWEST
        assert {point.kind for point in points} == set(KINDS)
        sample = random.Random(SEED).sample(points, SAMPLE)
        failed = [outcome for outcome in (try_point(lane, point) for point in sample) if outcome.violations]
        print(f"{len(points)} crash points, {len(sample)} tried, {len(failed)} failed")
        assert not [(str(each.point), each.violations, each.log[-3000:]) for each in failed]
        assert not lane.checker.violations()
