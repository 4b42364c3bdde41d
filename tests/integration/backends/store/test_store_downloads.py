"""Objects into spool files: whole, or as ranges into a sparse file."""

from __future__ import annotations

import os
import random
import tempfile

import pytest

from avion_media.backends.store import ObjectStore, RangeNotSatisfiable, TooLarge
from avion_media.common.errors import ObjectMissing, PreconditionFailed

MEBIBYTE = 1 << 20
CONTENT = random.Random(1).randbytes(5 * MEBIBYTE + 123)


async def test_a_download_is_the_object_byte_for_byte(either_store: ObjectStore) -> None:
    etag = await either_store.put("a", CONTENT, content_type="video/mp4")

    with tempfile.TemporaryFile() as file:
        info = await either_store.download("a", file.fileno(), max_bytes=len(CONTENT), if_match=etag)

        assert (info.size_bytes, info.etag) == (len(CONTENT), etag)
        assert file.read() == CONTENT


async def test_a_download_beyond_its_bound_writes_nothing(either_store: ObjectStore) -> None:
    await either_store.put("a", b"0123456789", content_type="text/plain")

    with tempfile.TemporaryFile() as file:
        with pytest.raises(TooLarge):
            await either_store.download("a", file.fileno(), max_bytes=9)
        assert os.fstat(file.fileno()).st_size == 0


async def test_ranges_land_at_their_own_offsets_of_a_sparse_file(either_store: ObjectStore) -> None:
    etag = await either_store.put("a", CONTENT, content_type="video/mp4")
    ranges = [(0, 100), (MEBIBYTE + 1, 2 * MEBIBYTE), (len(CONTENT) - 7, 7), (4 * MEBIBYTE, 0)]

    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), len(CONTENT))
        await either_store.read_ranges("a", ranges, file.fileno(), etag=etag)
        got = file.read()

    expected = bytearray(len(CONTENT))
    for offset, length in ranges:
        expected[offset : offset + length] = CONTENT[offset : offset + length]
    assert got == expected


async def test_ranges_of_another_version_are_never_mixed_in(either_store: ObjectStore) -> None:
    etag = await either_store.put("a", CONTENT, content_type="video/mp4")
    await either_store.put("a", CONTENT[::-1], content_type="video/mp4")

    with tempfile.TemporaryFile() as file:
        with pytest.raises(PreconditionFailed):
            await either_store.read_ranges("a", [(0, 10), (20, 10)], file.fileno(), etag=etag)
        assert file.read() == b""


async def test_errors_of_ranges_come_out_as_themselves(either_store: ObjectStore) -> None:
    await either_store.put("short", b"0123", content_type="text/plain")

    with tempfile.TemporaryFile() as file:
        with pytest.raises(RangeNotSatisfiable):
            await either_store.read_ranges("short", [(0, 2), (100, 10)], file.fileno())
        with pytest.raises(ObjectMissing):
            await either_store.read_ranges("nothing", [(0, 2), (2, 1), (3, 1)], file.fileno())
