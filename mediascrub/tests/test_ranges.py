"""Ranges and patches of a file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mediascrub.ranges import Patch, Range, joined_patches, merged, missing

_RANGES = st.lists(st.builds(Range, st.integers(0, 200), st.integers(0, 50)), max_size=8)


def _bytes(ranges: Sequence[Range]) -> set[int]:
    return {position for offset, length in ranges for position in range(offset, offset + length)}


@given(_RANGES, _RANGES)
def test_missing_is_what_is_wanted_and_not_there(wanted: list[Range], present: list[Range]) -> None:
    found = missing(wanted, merged(present))
    assert _bytes(found) == _bytes(wanted) - _bytes(present)
    assert sum(length for _, length in found) == len(_bytes(found))


def test_touching_patches_of_a_kind_become_one() -> None:
    patches = [Patch(8, 4), Patch(4, 2, b"cd"), Patch(2, 2, b"ab"), Patch(12, 1), Patch(6, 2)]
    assert joined_patches(patches) == (Patch(2, 4, b"abcd"), Patch(6, 7))


@given(st.lists(st.builds(Range, st.integers(0, 60), st.integers(0, 9))), st.integers(0, 3))
def test_merged_ranges_are_sorted_apart_and_cover_the_same(ranges: list[Range], gap: int) -> None:
    joined = merged(ranges, gap)
    wanted = {position for each in ranges for position in range(each.offset, each.end)}
    covered = {position for each in joined for position in range(each.offset, each.end)}
    assert wanted <= covered
    assert gap > 0 or wanted == covered
    assert all(one.end + gap < other.offset for one, other in pairwise(joined))
