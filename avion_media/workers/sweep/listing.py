"""Merges the listings of the object store by media item.

Keys of all kinds sort like their ids: a media id begins with its time, and its key with the date. So the sweep finds
an orphan without a HEAD request, and keeps one page of each listing in memory. Uploads are listed in spans of days, the
newest span first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from avion_media.backends.store import ListedObject, ObjectStore
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.formats import Family, by_filename
from avion_media.common.ids import AnyId, time_prefix
from avion_media.common.resources import ResourceSlot
from avion_media.items.state.sweep_state import SweepPart
from avion_media.workers.sweep.policy import Medium
from mediathumbs import WEBP_SUFFIX

_ID_LENGTHS = {"incoming": 26, "uploads": 26, "remote": 64}
_DAY = "%Y/%m/%d"
_SPANS = (
    1,
    4,
    16,
    64,
    256,
)  # ages in days: each span is three times as long as all before; the last has all older ones


class Kind(StrEnum):
    """The kind of an object."""

    INCOMING = "incoming"
    ORIGINAL = "original"
    THUMBNAIL = "thumbnail"
    CREDENTIALS = "credentials"


_LABELS = {
    (SweepPart.INCOMING, Kind.INCOMING): "incoming",
    (SweepPart.UPLOADS, Kind.INCOMING): "incoming",
    (SweepPart.UPLOADS, Kind.ORIGINAL): "",  # image, video or audio
    (SweepPart.UPLOADS, Kind.THUMBNAIL): "thumbnail",
    (SweepPart.UPLOADS, Kind.CREDENTIALS): "credentials",
    (SweepPart.REMOTE, Kind.ORIGINAL): "remote",
    (SweepPart.REMOTE, Kind.THUMBNAIL): "remote_thumbnail",
    (SweepPart.REMOTE, Kind.CREDENTIALS): "credentials",
}
STORED_KINDS = (
    "incoming",
    *(str(family) for family in Family),
    "thumbnail",
    "remote",
    "remote_thumbnail",
    "credentials",
)
"""The kinds of objects that the sweep counts and reports."""


def _family_of(key: str) -> str:
    fmt = by_filename(key)
    return str(fmt.family if fmt is not None else Family.IMAGE)


@dataclass(frozen=True, slots=True)
class Found:
    """One listed object, and the id in its key."""

    name: str
    kind: Kind
    listed: ListedObject


class _Source:
    """One listing, read object by object. Skips and counts keys without a media id."""

    def __init__(
        self,
        pages: AsyncIterator[Sequence[ListedObject]],
        limiter: RateLimiter,
        kind: Kind,
        part: SweepPart,
        end: str,
    ) -> None:
        self._pages = pages
        self._limiter = limiter
        self._kind = kind
        self._id_length = _ID_LENGTHS[part]
        self._end = end
        self._page: list[ListedObject] = []
        self._label = _LABELS[part, kind]
        self.listed = 0
        self.unrecognized = 0
        self.stored: Counter[tuple[str, str]] = Counter()  # objects and bytes by kind
        self.head: Found | None = None

    async def advance(self) -> None:
        """Move ``head`` to the next object; None at the end."""
        self.head = None
        while self.head is None:
            while not self._page:
                await self._limiter.acquire()
                try:
                    self._page = list(reversed(await anext(self._pages)))
                except StopAsyncIteration:
                    return
            listed = self._page.pop()
            if self._end and listed.key >= self._end:
                return
            self.listed += 1
            name = keys.name_in(listed.key)
            if len(name) == self._id_length:
                label = self._label or _family_of(listed.key)
                self.stored[label, "objects"] += 1
                self.stored[label, "bytes"] += listed.size_bytes
                self.head = Found(name, self._kind, listed)
            else:
                self.unrecognized += 1


class Media:
    """The media items of one part, in the order of their ids. Made by `open_media`."""

    def __init__(self, sources: list[_Source]) -> None:
        self._sources = sources

    @property
    def listed(self) -> int:
        """Objects seen so far."""
        return sum(each.listed for each in self._sources)

    @property
    def unrecognized(self) -> int:
        """Listed objects whose key has no media id. The service leaves them alone."""
        return sum(each.unrecognized for each in self._sources)

    @property
    def stored(self) -> Counter[tuple[str, str]]:
        """``objects`` and ``bytes`` listed so far, by kind of object."""
        return sum((each.stored for each in self._sources), Counter())

    async def next(self) -> Medium | None:
        """Return the next media item with all of its objects; None after the last."""
        name = min((each.head.name for each in self._sources if each.head is not None), default=None)
        if name is None:
            return None
        found: list[Found] = []
        for source in self._sources:
            while source.head is not None and source.head.name == name:
                found.append(source.head)
                await source.advance()
        return _medium(name, found)


def _medium(name: str, found: list[Found]) -> Medium:
    def one(kind: Kind) -> ListedObject | None:
        return next((each.listed for each in found if each.kind is kind), None)

    thumbnails = tuple(each.listed for each in found if each.kind is Kind.THUMBNAIL)
    return Medium(name, one(Kind.INCOMING), one(Kind.ORIGINAL), thumbnails, one(Kind.CREDENTIALS))


async def open_media(
    store: ResourceSlot[ObjectStore],
    limiter: RateLimiter,
    part: SweepPart,
    sizes: Sequence[str],
    after: AnyId | None = None,
    *,
    since: str = "",
    before: str = "",
    page_size: int = 1000,
) -> Media:
    """Open the media items of ``part`` after the id ``after``. Raises `Unavailable`.

    ``sizes``: those of all thumbnails in the store. ``since``, ``before``: only uploads from the first of these days
    on, up to the end of the day before the second.
    """

    def source(kind: Kind, prefix: str, key_of: Callable[[AnyId], str], begin: str = "", end: str = "") -> _Source:
        start = key_of(after) if after is not None else f"{prefix}{begin}" if begin else None
        pages = store.get().list(prefix, start, page_size=page_size)
        return _Source(pages, limiter, kind, part, end and f"{prefix}{end}")

    is_remote = part is SweepPart.REMOTE
    below, place = ("remote/", keys.CACHED_REMOTE_PREFIX) if is_remote else ("", keys.ORIGINAL_PREFIX)
    sources: list[_Source] = []
    if not is_remote:
        first, last = (_first_id(day) for day in (since, before))
        sources.append(
            source(Kind.INCOMING, keys.INCOMING_PREFIX, lambda any_id: f"{keys.INCOMING_PREFIX}{any_id}", first, last)
        )
    if part is not SweepPart.INCOMING:
        # What is made of remote media has the same prefix as what is made of uploads, and sorts after it.
        last = before or ("" if is_remote else "remote/")
        sources.append(source(Kind.ORIGINAL, place, keys.original, since, before))
        sources.append(source(Kind.CREDENTIALS, f"{keys.CREDENTIALS_PREFIX}{below}", keys.credentials, since, last))
        for size in sizes:
            # Continue after the last thumbnail of an id, which is the WebP.
            prefix = f"{keys.THUMBNAIL_PREFIX}{size}/{below}"
            sources.append(source(Kind.THUMBNAIL, prefix, partial(_last_thumbnail, size), since, last))
    for each in sources:
        await each.advance()
    return Media(sources)


def start_of_span(before: str, now: datetime) -> str:
    """Return the first day of the span of uploads that ends before this day; empty: it has all older ones."""
    days = (f"{now - timedelta(days=each):{_DAY}}" for each in _SPANS)
    return next((day for day in days if not before or day < before), "")


def _first_id(day: str) -> str:
    """Return how the ids begin that are not older than this day; empty for no day."""
    return time_prefix(round(datetime.strptime(day, _DAY).replace(tzinfo=UTC).timestamp() * 1000)) if day else ""


def _last_thumbnail(size: str, any_id: AnyId) -> str:
    return keys.thumbnail(any_id, f"{size}{WEBP_SUFFIX}")
