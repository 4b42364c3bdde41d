"""The bytes of a large upload: ranges of an object, on demand."""

from __future__ import annotations

import os
from collections.abc import Sequence

from avion_media.backends.store import ObjectInfo, ObjectStore
from mediascrub.ranges import Range, merged, missing

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


def _rounded(wanted: Range, size_bytes: int) -> Range:
    first = wanted.offset - wanted.offset % _FETCH_UNIT_BYTES
    end = min(size_bytes, -(-wanted.end // _FETCH_UNIT_BYTES) * _FETCH_UNIT_BYTES)
    return Range(first, max(0, end - first))
