"""Reads the audit log from its end: a page of records that match, newest first.

There is no index. A day is one folder, and a chain is one folder of it, whose objects are numbered without holes. So a
page costs one request per chain of a day, one per object that it shows, and one per empty day. Of a chain with more
than a thousand objects a day, about thirty requests find the last one. A page that takes too long ends early, with a
cursor to go on from.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

import trio

from avion_media.backends.store import ListedObject, ObjectStore
from avion_media.backends.store.contents import folders, read_many
from avion_media.common.clock import utc_now
from avion_media.common.resources import ResourceSlot
from avion_media.process.audit.record import (
    AUDIT,
    AUDIT_PREFIX,
    AuditRecord,
    Kind,
    Place,
    day_prefix,
    kind_of,
    object_key,
    place_of,
)
from avion_media.process.audit.verification import MAX_OBJECT_BYTES
from trio_redis import run_all

PAGE_ROWS: Final = 50
_WINDOW: Final = 1000  # objects of one listing request, S3's maximum
_AT_ONCE: Final = 16
_PAGE_S: Final = 5.0
_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which records are meant; by default the actions of people. Empty conditions hold for every record.

    ``text`` is contained in any field, ``target`` in a target, ``actor`` in the actor. ``actions`` are names.
    ``words``: actions that meet the condition ``text`` as well, because a page shows them by other words.
    """

    kinds: Collection[Kind] = (Kind.PEOPLE,)
    text: str = ""
    words: Collection[str] = ()
    actor: str = ""
    actions: Collection[str] = ()
    target: str = ""
    since: datetime | None = None

    def matches(self, record: AuditRecord) -> bool:
        """Return whether a record is meant. The start and the end of a process are only by their names."""
        if record.is_about_the_log and record.action not in self.actions:
            return False
        ids = () if isinstance(record.target, int) else record.target
        return (
            (not self.actions or record.action in self.actions)
            and self.actor.casefold() in record.actor.casefold()
            and (not self.target or any(self.target in each for each in ids))
            and (not self.text or record.action in self.words or record.contains(self.text))
            and (self.since is None or record.at >= self.since.timestamp())
        )


@dataclass(frozen=True, slots=True, order=True)
class _Cursor:
    """The last record of a page: when its object was written, then its time, its chain and its number."""

    written_at: datetime
    time: str = ""
    process: str = ""
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.written_at:%Y%m%dT%H%M%SZ}~{self.time}~{self.process}~{self.seq}"


def _cursor(text: str) -> _Cursor | None:
    """Return the cursor of a page; None if there is none."""
    try:
        at, time, process, seq = text.split("~")
        return _Cursor(datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC), time, process, int(seq))
    except ValueError:
        return None


async def read(
    store: ResourceSlot[ObjectStore],
    query: AuditQuery,
    before: str = "",
    most: int = PAGE_ROWS,
    within_s: float = _PAGE_S,
) -> tuple[list[AuditRecord], str]:
    """Return a page of the records that match, newest first, and the cursor behind it, which is empty at the end.

    A page that is not complete ``within_s`` ends early. Raises `Unavailable`.
    """
    walk = _Walk(store, query, _cursor(before) or _Cursor(_END_OF_TIME))
    found: list[AuditRecord] = []
    with trio.move_on_after(within_s) as scope:
        while (group := await walk.next()) is not None:
            for cursor, record in group:
                if len(found) == most:
                    return found, str(walk.last)
                walk.last = cursor
                found.append(record)
    return found, str(walk.last) if scope.cancelled_caught else ""


class _Walk:
    """A walk backwards over the log, from a cursor. ``last`` is how far the caller came, or which days are done."""

    def __init__(self, slot: ResourceSlot[ObjectStore], query: AuditQuery, start: _Cursor) -> None:
        self.last = start
        self._slot = slot
        self._query = query
        self._start = start
        self._day = min(utc_now() + timedelta(days=1), start.written_at).date()
        self._first: date | None = None
        self._merged: _Merged | None = None  # of the present day

    async def next(self) -> list[tuple[_Cursor, AuditRecord]] | None:
        """Return the records that match among some more, newest first, with their cursors; None at the end."""
        if self._first is None:
            self._first = await self._first_day()
        while self._day >= self._first:
            if self._merged is None:
                self._merged = await self._open_day()
            if objects := await self._merged.next():
                return await self._read(objects)
            self._leave_day()
        return None

    async def _first_day(self) -> date:
        """Return the first day that has an object, or that of the query if it is later."""
        since = date.min if self._query.since is None else self._query.since.date()
        async for page in self._slot.get().list_keys(AUDIT_PREFIX, page_size=1):
            place = place_of(page[0]) if page else None
            if place is not None:
                return max(place.day, since)
            break
        return date.max

    async def _open_day(self) -> _Merged:
        named = [each async for each in folders(self._slot, day_prefix(self._day))]
        wanted = [each for each in named if kind_of(each) in self._query.kinds]
        store, until = self._slot.get(), self._start.written_at
        return _Merged([_Backwards(store, self._day, each, until) for each in wanted])

    def _leave_day(self) -> None:
        self._merged = None
        self._day -= timedelta(days=1)
        midnight = datetime(self._day.year, self._day.month, self._day.day, 23, 59, 59, tzinfo=UTC)
        self.last = min(self.last, _Cursor(midnight, "~"))

    async def _read(self, objects: Sequence[ListedObject]) -> list[tuple[_Cursor, AuditRecord]]:
        keys = [each.key for each in objects]
        bodies = await read_many(self._slot.get(), keys, max_bytes=MAX_OBJECT_BYTES, at_once=_AT_ONCE)
        found = [pair for each in objects for pair in self._matching(each, bodies.get(each.key, b""))]
        return sorted(found, key=lambda pair: pair[0], reverse=True)

    def _matching(self, written: ListedObject, body: bytes) -> list[tuple[_Cursor, AuditRecord]]:
        found = []
        for line in body.splitlines():
            record = AUDIT.read_or_skip(line, written.key)
            if record is None:
                continue
            cursor = _Cursor(written.last_modified.replace(microsecond=0), record.time, record.process, record.seq)
            if cursor < self._start and self._query.matches(record):
                found.append((cursor, record))
        return found


async def last_place(store: ObjectStore, day: date, process: str) -> Place | None:
    """Return the place of the last object of a chain on a day. Raises `Unavailable`."""
    last = await _Backwards(store, day, process, _END_OF_TIME).next()
    return None if last is None else place_of(last.key)


class _Merged:
    """The objects of several chains, newest first."""

    def __init__(self, chains: Sequence[_Backwards]) -> None:
        self._chains = chains
        self._heap: list[tuple[float, int, ListedObject]] = []
        self._has_begun = False

    async def next(self) -> list[ListedObject]:
        """Return the next objects: at least a few if there are some, and all that were written in one second."""
        if not self._has_begun:
            self._has_begun = True
            await run_all([partial(self._push, number) for number in range(len(self._chains))], _AT_ONCE)
        found: list[ListedObject] = []
        while self._heap and (len(found) < _AT_ONCE or _second(found[-1]) == _second(self._heap[0][2])):
            _, number, newest = heapq.heappop(self._heap)
            found.append(newest)
            await self._push(number)
        return found

    async def _push(self, number: int) -> None:
        newest = await self._chains[number].next()
        if newest is not None:
            heapq.heappush(self._heap, (-_second(newest), number, newest))


def _second(listed: ListedObject) -> float:
    return listed.last_modified.timestamp() // 1


class _Backwards:
    """The objects of one chain of one day, from the last one that was written ``until`` some time."""

    def __init__(self, store: ObjectStore, day: date, process: str, until: datetime) -> None:
        self._store = store
        self._day = day
        self._process = process
        self._until = until
        self._found: list[ListedObject] = []
        self._first = 0  # the chain's first number of the day; 0: not known yet
        self._behind = 0  # objects with this number and above were returned, or are too new

    async def next(self) -> ListedObject | None:
        """Return the object before the last one; None at the beginning. Raises `Unavailable`."""
        if not self._found:
            await (self._open() if not self._first else self._read_window())
        return self._found.pop() if self._found else None

    async def _open(self) -> None:
        found = await self._list(None, _WINDOW)
        self._first = _number(found[0]) if found else 1
        if len(found) < _WINDOW:
            self._behind = self._first
            self._found = [each for each in found if self._is_old_enough(each)]
        else:
            self._behind = await self._last_number() + 1
            await self._read_window()

    async def _read_window(self) -> None:
        first = max(self._first, self._behind - _WINDOW)
        if first < self._behind:
            self._found = await self._list(first - 1, self._behind - first)
            self._behind = first

    async def _last_number(self) -> int:
        """Return the last number that was written in time. At least `_WINDOW` objects are there."""
        low, step = self._first, _WINDOW
        while await self._is_in_time(low + step):
            low, step = low + step, 2 * step
        high = low + step  # the first one that is known not to be
        while high - low > 1:
            middle = (low + high) // 2
            if await self._is_in_time(middle):
                low = middle
            else:
                high = middle
        return low

    async def _is_in_time(self, number: int) -> bool:
        found = await self._list(number - 1, 1)
        return bool(found) and self._is_old_enough(found[0])

    def _is_old_enough(self, listed: ListedObject) -> bool:
        return _second(listed) <= self._until.timestamp()

    async def _list(self, after: int | None, count: int) -> list[ListedObject]:
        prefix = f"{day_prefix(self._day)}{self._process}/"
        start_after = None if after is None else object_key(self._day, self._process, after)
        async for page in self._store.list(prefix, start_after, page_size=count):
            return list(page[:count])
        return []


def _number(listed: ListedObject) -> int:
    place = place_of(listed.key)
    return 1 if place is None else place.number
