"""The index of each owner's media: one empty object per media item, ``owner/{owner}/{media_id}.{bytes}``.

Usage, listing and erasure of an account are listings of ``owner/{owner}/``; there are no other counters. The index
object is written before the original, and removed before it. So a public media item with an owner always has one. A
crash can leave an index object without an original, which the sweep removes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Generic, TypeVar

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import remove_below
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.ids import MEDIA_ID_PATTERN, MediaId, parse_media_id, time_prefix, unix_ms_of
from avion_media.common.media import is_owner
from avion_media.common.records import CustomRecord, Record
from avion_media.common.resources import ResourceSlot
from trio_redis import run_all

E = TypeVar("E")

_NAME = re.compile(rf"({MEDIA_ID_PATTERN})\.([0-9]+)", re.ASCII)
_TYPE = "application/octet-stream"
_PAGE = 1000  # S3's own bound
_AT_ONCE = 4  # listings of one usage


@dataclass(frozen=True, slots=True)
class OwnedMedium:
    """One media item of an owner, and its bytes in the store when it became public."""

    owner: str
    media_id: MediaId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Number and bytes of the media of an owner."""

    count: int = 0
    size_bytes: int = 0


class OwnerIndex:
    """The index in one bucket. Every call can raise `Unavailable`, and can be repeated."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    async def add(self, owner: str, media_id: MediaId, size_bytes: int) -> None:
        """Add a media item to its owner's index."""
        await self._store.get().put(keys.owned(owner, media_id, size_bytes), b"", content_type=_TYPE)

    async def remove_if_doubled(self, owner: str, media_id: MediaId, size_bytes: int) -> None:
        """Remove the index object of an attempt whose file did not become public, if the public one has another
        size."""
        listed = [each async for page in self._store.get().list_keys(keys.owned_by(owner, media_id)) for each in page]
        if len(listed) > 1:
            await self._store.get().delete([keys.owned(owner, media_id, size_bytes)])

    async def remove(self, owner: str, media_id: MediaId) -> None:
        """Remove a media item from its owner's index."""
        await remove_below(self._store.get(), keys.owned_by(owner, media_id))

    def media(self, owner: str = "", after: MediaId | None = None, *, page_size: int = 1000) -> EntryPages[OwnedMedium]:
        """Iterate over the media of an owner after the id ``after``, page by page, in the order of their ids.

        Without an owner: over those of all owners, one owner after another.
        """
        prefix = keys.owned_by(owner) if owner else keys.OWNER_PREFIX
        start_after = None if after is None else keys.behind(f"{prefix}{after}.")
        return EntryPages(self._store.get().list_keys(prefix, start_after, page_size=page_size), OWNER_ENTRY)

    async def usage(self, owner: str) -> Usage:
        """Return the usage of an owner in constant memory, with one request per thousand media items, a few at once.

        Ids are counted, not decoded as by `media`: the event loop has other things to do.
        """
        first = _Count(keys.owned_by(owner))
        page: list[str] = await anext(self._store.get().list_keys(first.prefix, page_size=_PAGE), [])
        first.add(page)
        counts = [first]
        if len(page) == _PAGE and first.last:
            ranges = _ranges(first.prefix, first.last, utc_now())
            counts += [_Count(first.prefix) for _ in ranges]
            await run_all([partial(self._count, *each) for each in zip(counts[1:], ranges, strict=True)])
        return Usage(sum(each.media for each in counts), sum(each.size_bytes for each in counts))

    async def _count(self, count: _Count, between: tuple[str, str]) -> None:
        """Count all media items after the first key and before the second; an empty second key means no end."""
        after, end = between
        async for page in self._store.get().list_keys(count.prefix, after, page_size=_PAGE):
            wanted = page if not end else page[: bisect_left(page, end)]
            count.add(wanted)
            if len(wanted) < len(page):
                return


@dataclass(slots=True)
class _Count:
    """A count of media items of one owner, by their keys. ``last`` is the id that was counted last."""

    prefix: str
    media: int = 0
    size_bytes: int = 0
    last: str = ""

    def add(self, page: Sequence[str]) -> None:
        """Count the media items of some keys, in order. One that two attempts have written counts once."""
        start = len(self.prefix)
        for key in page:
            found = _NAME.fullmatch(key, start)
            if found and found[1] != self.last:
                self.last = found[1]
                self.media += 1
                self.size_bytes += int(found[2])


def _ranges(prefix: str, last: str, now: datetime) -> list[tuple[str, str]]:
    """Return ranges of equal length in time that together hold all keys after ``last``. Ids begin with their time."""
    behind = keys.behind(f"{prefix}{last}.")
    begin_ms, end_ms = unix_ms_of(last), int(now.timestamp() * 1000)
    times = (begin_ms + (end_ms - begin_ms) * number // _AT_ONCE for number in range(1, _AT_ONCE))
    marks = [f"{prefix}{time_prefix(each)}" for each in times if each > begin_ms]
    return list(pairwise([behind, *marks, ""]))


class EntryPages(Generic[E]):
    """An asynchronous iterator of pages of an index, which can be left anywhere.

    Keys end with the id and, behind a dot, the bytes. An id that two attempts have written is in it once.
    """

    def __init__(self, keys_of_index: AsyncIterator[list[str]], record: Record[E]) -> None:
        self._keys = keys_of_index
        self._record = record
        self._last = ""

    def __aiter__(self) -> EntryPages[E]:
        return self

    async def __anext__(self) -> list[E]:
        found = []
        for key in await anext(self._keys):
            entry = self._record.read_or_skip(key.encode(), key)
            folder, _, name = key.rpartition("/")
            item = f"{folder}/{name.partition('.')[0]}"
            if entry is not None and item != self._last:
                found.append(entry)
                self._last = item
        return found


def _parse(key: str, _key: str) -> OwnedMedium:
    """Return what the key of an index object says. Raises ValueError."""
    owner, _, name = key.removeprefix(keys.OWNER_PREFIX).partition("/")
    found = _NAME.fullmatch(name)
    if not is_owner(owner) or found is None:
        raise ValueError("it is not owner/<owner>/<id>.<bytes>")
    return OwnedMedium(owner, parse_media_id(found[1]), int(found[2]))


OWNER_ENTRY = CustomRecord(
    "owner_entry",
    OwnedMedium,
    f"{keys.OWNER_PREFIX}<owner>/<id>.<bytes>",
    "workers of uploads",
    fields=["owner", "id", "bytes"],
    parse=_parse,
)
