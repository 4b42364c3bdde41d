"""The archive of evidence is made piece by piece, however large a file is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from avion_media.common.ids import parse_any_id
from avion_media.operations import evidence

MEDIA_ID = parse_any_id("01M88C0SJ305C5J3D3BYCKGCA5")
SIZE_BYTES = 40 << 20


class LargeFile:
    """A store with one file of zeros, which counts what is read of it."""

    def __init__(self) -> None:
        self.taken_bytes = 0

    async def head(self, _key: str) -> Any:
        return SimpleNamespace(size_bytes=SIZE_BYTES, etag="e")

    async def read(self, _key: str, offset: int, length: int, *, max_bytes: int, if_match: str) -> bytes:
        assert (offset, if_match) == (self.taken_bytes, "e")
        self.taken_bytes += min(length, max_bytes)
        return bytes(min(length, max_bytes))


async def test_no_more_is_read_than_was_sent() -> None:
    store, sent_bytes = LargeFile(), 0
    async for piece in evidence._write(cast("Any", store), MEDIA_ID, ["original"], {}, "ada"):
        sent_bytes += len(piece)
        assert len(piece) < 512 << 10
        assert store.taken_bytes <= sent_bytes
    assert store.taken_bytes == SIZE_BYTES
