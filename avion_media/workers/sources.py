"""The bytes of stored files: whole, or of a large video ranges on demand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from avion_media.backends.files import SpooledSource, open_spool
from avion_media.backends.store import ObjectInfo, ObjectStore
from avion_media.common.formats import Family
from avion_media.media.pipeline import MediaSource
from mediascrub import HEAD_BYTES
from mediascrub.ranges import Range, merged, missing

# Videos up to this size are fetched whole: fewer calls than ranges, and their SHA-256 comes for free.
WHOLE_VIDEO_BYTES = 8 << 20
# Small reads are rounded up: a call to the store costs more than these bytes.
_FETCH_UNIT_BYTES = 256 << 10


class StoreSource:
    """An object of which only requested ranges are fetched, into a sparse spool file."""

    def __init__(self, store: ObjectStore, info: ObjectInfo, fd: int) -> None:
        self._store = store
        self._info = info
        self.fd = fd
        self.size_bytes = info.size_bytes
        self.present: Sequence[Range] = ()
        os.ftruncate(fd, info.size_bytes)

    @property
    def whole(self) -> bool:
        """Whether all of it was fetched."""
        return not missing([Range(0, self.size_bytes)], self.present)

    async def fetch(self, ranges: Sequence[Range]) -> None:
        """Fetch ``ranges``. Raises `PreconditionFailed` if the object was replaced meanwhile."""
        wanted = missing([_rounded(each, self.size_bytes) for each in ranges], self.present)
        if wanted:
            await self._store.read_ranges(self._info.key, wanted, self.fd, etag=self._info.etag)
            self.present = merged([*self.present, *wanted])


def whole_bytes(family: Family, max_bytes: int) -> int:
    """Return up to which size a file of at most ``max_bytes`` is fetched whole."""
    return min(max_bytes, WHOLE_VIDEO_BYTES) if family is Family.VIDEO else max_bytes


async def open_stored(store: ObjectStore, info: ObjectInfo, family: Family, files: ExitStack) -> MediaSource:
    """Open a stored file. Raises `PreconditionFailed` or `ObjectMissing` if it was replaced or removed."""
    fd = files.enter_context(open_spool())
    if info.size_bytes > whole_bytes(family, info.size_bytes):
        source = StoreSource(store, info, fd)
        await source.fetch([Range(0, HEAD_BYTES)])
        return source
    await store.download(info.key, fd, max_bytes=info.size_bytes, if_match=info.etag)
    return SpooledSource(fd, info.size_bytes)


def _rounded(wanted: Range, size_bytes: int) -> Range:
    first = wanted.offset - wanted.offset % _FETCH_UNIT_BYTES
    end = min(size_bytes, -(-wanted.end // _FETCH_UNIT_BYTES) * _FETCH_UNIT_BYTES)
    return Range(first, max(0, end - first))
