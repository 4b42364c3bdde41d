"""The plan crosses a process boundary and is applied piece by piece."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from avion_media.media.container import Patch, Range, apply_patches, plan_from_json
from avion_media.media.container.plan import ordered_patches
from avion_media.media.container.sparse import merged
from tests.unit.container.videos import DATA, examine


def test_a_plan_survives_json() -> None:
    plan = examine(DATA / "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov")
    assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_part_is_patched_as_in_the_whole(start: int, length: int) -> None:
    original = bytes(range(1, 41))
    patches = (Patch(3, 4), Patch(7, 3, b"abc"), Patch(20, 15))
    whole = apply_patches(patches, 0, original)
    assert len(whole) == len(original)
    assert whole[3:10] == b"\0\0\0\0abc"
    assert apply_patches(patches, start, original[start : start + length]) == whole[start : start + length]


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
