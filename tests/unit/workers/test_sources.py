"""Ranges of an object in a sparse file: fetched once, never past the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime

from avion_media.backends.store import ObjectInfo
from avion_media.workers.processor import StoreSource
from mediascrub.ranges import Range

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
        await source.fetch([Range(0, 10), Range(20, 5)])
        assert store.asked == [(0, 256 << 10)]
        await source.fetch([Range(100, 1000)])
        assert len(store.asked) == 1
        await source.fetch([Range(SIZE - 1, 1)])
        assert store.asked[-1][0] + store.asked[-1][1] == SIZE
        assert os.fstat(file.fileno()).st_size == SIZE
