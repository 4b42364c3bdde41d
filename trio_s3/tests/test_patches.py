"""The plan of a patched copy keeps S3's rules for parts and moves no more than it must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_s3 import Patch, PlannedPart, patched, plan_patched_copy
from trio_s3.patches import MAX_COPIED_PART_BYTES, MAX_SENT_PART_BYTES, MIN_PART_BYTES

MEBIBYTE = 1 << 20


@st.composite
def sizes_and_patches(draw: st.DrawFn) -> tuple[int, list[Patch]]:
    size = draw(st.integers(0, 400 * MEBIBYTE))
    edges = sorted(draw(st.sets(st.integers(0, size), max_size=12)))
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    return size, [(first, bytes(min(last - first, 20 * MEBIBYTE))) for first, last in spans]


@given(sizes_and_patches())
def test_parts_cover_the_object_and_obey_the_bounds(case: tuple[int, list[Patch]]) -> None:
    size, patches = case
    parts = plan_patched_copy(size, patches)

    assert [part.start for part in parts] == [0, *(part.end for part in parts)][: len(parts)]
    assert (parts[-1].end if parts else 0) == size
    assert all(part.size_bytes >= MIN_PART_BYTES for part in parts[:-1])
    assert all(part.size_bytes > 0 for part in parts)
    assert all(part.size_bytes <= (MAX_SENT_PART_BYTES if part.sent else MAX_COPIED_PART_BYTES) for part in parts)
    for offset, data in patches:
        touched = [part for part in parts if part.start < offset + len(data) and offset < part.end]
        assert all(part.sent for part in touched)


@given(sizes_and_patches())
def test_no_more_is_sent_than_a_part_around_each_patch(case: tuple[int, list[Patch]]) -> None:
    size, patches = case
    sent = sum(part.size_bytes for part in plan_patched_copy(size, patches) if part.sent)

    assert sent <= sum(len(data) + 2 * MIN_PART_BYTES for _, data in patches)


def test_an_index_at_the_end_of_a_gigabyte_costs_only_itself() -> None:
    size = 1 << 30
    parts = plan_patched_copy(size, [(size - 1000, b"x" * 500)])

    assert parts[-1] == PlannedPart(size - 1000, size, sent=True)
    assert not any(part.sent for part in parts[:-1])


def test_a_small_object_is_one_part() -> None:
    assert plan_patched_copy(4 * MEBIBYTE, [(10, b"x")]) == [PlannedPart(0, 4 * MEBIBYTE, sent=True)]
    assert plan_patched_copy(4 * MEBIBYTE, []) == [PlannedPart(0, 4 * MEBIBYTE, sent=False)]
    assert plan_patched_copy(0, []) == []


def test_patches_are_laid_over_what_of_them_falls_into_the_part() -> None:
    assert patched(b"0123456789", 100, [(95, b"abcdefg"), (104, b"X"), (108, b"YZ!!"), (200, b"no")]) == b"fg23X567YZ"
