"""The plan crosses a process boundary, with patches in order."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from avion_media.media.container import Patch, Range, plan_from_json
from avion_media.media.container.plan import ordered_patches
from avion_media.media.container.sparse import merged
from tests.unit.container.videos import DATA, examine


def test_a_plan_survives_json() -> None:
    plan = examine(DATA / "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov")
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_touching_patches_of_a_kind_become_one() -> None:
    patches = [Patch(8, 4), Patch(4, 2, b"cd"), Patch(2, 2, b"ab"), Patch(12, 1), Patch(6, 2)]
    assert ordered_patches(patches) == (Patch(2, 4, b"abcd"), Patch(6, 7))


@given(st.lists(st.builds(Range, st.integers(0, 60), st.integers(0, 9))), st.integers(0, 3))
def test_merged_ranges_are_sorted_apart_and_cover_the_same(ranges: list[Range], gap: int) -> None:
    joined = merged(ranges, gap)
    wanted = {position for each in ranges for position in range(each.offset, each.end)}
    covered = {position for each in joined for position in range(each.offset, each.end)}
    assert wanted <= covered
    assert gap > 0 or wanted == covered
    assert all(one.end + gap < other.offset for one, other in pairwise(joined))
