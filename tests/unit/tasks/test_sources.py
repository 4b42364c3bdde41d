"""Ranges of an object in a sparse file: fetched once, never past the end."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from avion_media.store import ObjectInfo
from avion_media.tasks.sources import StoreSource, merged, missing

SIZE = 1_000_000


class _Store:
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def read_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], fd: int, *, etag: str | None = None
    ) -> None:
        self.asked += ranges
        for offset, length in ranges:
            os.pwrite(fd, b"x" * length, offset)


async def test_ranges_are_rounded_up_and_fetched_once() -> None:
    store = _Store()
    info = ObjectInfo("k", SIZE, "etag", datetime.now(UTC), "video/mp4")
    with tempfile.TemporaryFile() as file:
        source = StoreSource(store, info, file.fileno())  # type: ignore[arg-type]
        await source.fetch([(0, 10), (20, 5)])
        assert store.asked == [(0, 256 << 10)]
        await source.fetch([(100, 1000)])
        assert len(store.asked) == 1
        await source.fetch([(SIZE - 1, 1)])
        assert store.asked[-1][0] + store.asked[-1][1] == SIZE
        assert os.fstat(file.fileno()).st_size == SIZE


_RANGES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=8)


def _bytes(ranges: Sequence[tuple[int, int]]) -> set[int]:
    return {position for offset, length in ranges for position in range(offset, offset + length)}


@given(_RANGES, _RANGES)
def test_missing_is_what_is_wanted_and_not_there(wanted: list[tuple[int, int]], present: list[tuple[int, int]]) -> None:
    found = missing(wanted, merged(present))
    assert _bytes(found) == _bytes(wanted) - _bytes(present)
    assert sum(length for _, length in found) == len(_bytes(found))


@given(_RANGES)
def test_merged_ranges_are_sorted_and_apart(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert _bytes(found) == _bytes(ranges)
    assert all(a[0] + a[1] < b[0] for a, b in itertools.pairwise(found))
