"""The dead letters of all queues as one list, filtered and in pages, for commands and for the console.

There is no index for these filters. So a page walks over the streams, starting where the previous page ended. Each walk
is bounded, so a page costs the same with a hundred thousand dead letters as with a thousand. A page reports how many
dead letters its walk read.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from avion_media.backends.queue import DeadLetter, DeadLetterFilter, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.tasks import QUEUES
from avion_media.operations.queues import bulk_target

PAGE_ROWS: Final = 25
MAX_EXAMINED: Final = 3000
"""Maximum number of dead letters that are read for one page, one question, or the groups by cause."""
MAX_AT_ONCE: Final = 1000
"""Maximum number of dead letters that one action of the console works on."""
_CHUNK: Final = 250
_LAST_SEQUENCE: Final = (1 << 64) - 1  # the largest sequence number in an entry id
_HOURS: Final = 24
_ORDER: Final = list(QUEUES)
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters of some queues that meet all conditions; by default every dead letter."""

    queues: Sequence[str] = tuple(QUEUES)
    conditions: DeadLetterFilter = field(default_factory=DeadLetterFilter)


@dataclass(slots=True)
class Row:
    """Dead letters of one queue with the same error, or a single one, which is then the ``newest``."""

    newest: DeadLetter
    count: int = 1
    first_failed_at: float = math.inf


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """One page. ``older`` and ``newer`` are cursors; each is empty if its direction has nothing more to read."""

    rows: tuple[Row, ...]
    older: str
    newer: str
    examined: int


@dataclass(slots=True)
class Cause:
    """The dead letters with one reason, among those that were read. ``by_hour``: how many failed in each of the last 24
    hours. ``same_error``: all have that of the newest one."""

    newest: DeadLetter
    count: int = 0
    last_failed_at: float = 0.0
    same_error: bool = True
    by_hour: list[int] = field(default_factory=lambda: [0] * _HOURS)

    def add(self, each: DeadLetter, now: float) -> None:
        """Count one of them."""
        self.count += 1
        self.last_failed_at = max(self.last_failed_at, each.failed_at)
        self.same_error = self.same_error and each.error == self.newest.error
        hour = _HOURS - 1 - int((now - each.failed_at) // 3600)
        if 0 <= hour < _HOURS:
            self.by_hour[hour] += 1


class Walk:
    """A walk over selected dead letters in the order of their ids, after a cursor (a `DeadLetter.key`).

    ``first`` and ``last`` are the keys of the first and last dead letter that was read; ``has_ended``: there was none
    behind it.
    """

    def __init__(self, redis: Redis, wanted: Selection, cursor: str = "", *, newest_first: bool = True) -> None:
        self.examined = 0
        self.first = self.last = ""
        self.has_ended = False
        self._conditions = wanted.conditions
        self._streams = [_Stream(redis, name, _place(cursor), newest_first) for name in wanted.queues]
        self._pick = max if newest_first else min

    async def matching(self, count: float, max_examined: float = MAX_EXAMINED) -> list[DeadLetter]:
        """Return up to ``count`` of the next dead letters that match. Raises `Unavailable`."""
        found: list[DeadLetter] = []
        while True:
            self._streams = [each for each in self._streams if each.rows or await each.fill()]
            if not self._streams:
                self.has_ended = True
                return found
            if len(found) >= count or self.examined >= max_examined:
                return found
            _, each = self._pick(self._streams, key=lambda each: each.rows[0][0]).rows.popleft()
            self.examined += 1
            self.first, self.last = self.first or each.key, each.key
            if self._conditions.lets_through(each):
                found.append(each)


class _Stream:
    """The dead letters of one queue behind a cursor, with their places, read in chunks."""

    def __init__(self, redis: Redis, queue: str, cursor: Place, newest_first: bool) -> None:
        self.rows: deque[tuple[Place, DeadLetter]] = deque()
        self._cursor = cursor
        self._newest_first = newest_first
        dead_letters = TaskQueue(redis, queue).dead_letters
        self._read = dead_letters.newest if newest_first else dead_letters.list
        self._has_more = True
        self._last = ""  # the first chunk can have some that are not behind the cursor: of its millisecond
        if cursor and newest_first:
            self._last = f"{cursor[0] + 1}-0"
        elif cursor and cursor[0]:
            self._last = f"{cursor[0] - 1}-{_LAST_SEQUENCE}"

    async def fill(self) -> bool:
        """Read the next chunk. Return whether there are rows. Raises `Unavailable`."""
        while self._has_more and not self.rows:
            chunk = await self._read(_CHUNK, self._last)
            self._has_more = len(chunk) == _CHUNK
            self._last = chunk[-1].entry_id if chunk else ""
            placed = [(_place(each.key), each) for each in chunk]
            self.rows.extend(row for row in placed if not self._cursor or self._is_behind(row[0]))
        return bool(self.rows)

    def _is_behind(self, place: Place) -> bool:
        return place < self._cursor if self._newest_first else place > self._cursor


async def read_page(redis: Redis, wanted: Selection, *, before: str = "", after: str = "") -> DeadLetterPage:
    """Return the page after a cursor: older dead letters with ``before``, newer ones with ``after``.

    Raises `Unavailable`.
    """
    walk = Walk(redis, wanted, after or before, newest_first=not after)
    rows = await walk.matching(PAGE_ROWS)
    onward = "" if walk.has_ended else walk.last
    if after:
        rows.reverse()
        return DeadLetterPage(tuple(map(Row, rows)), rows[-1].key if rows else after, onward, walk.examined)
    newer = (rows[0].key if rows else before) if before else ""
    return DeadLetterPage(tuple(map(Row, rows)), onward, newer, walk.examined)


async def read_folded(redis: Redis, wanted: Selection, before: str = "") -> DeadLetterPage:
    """Return the page after a cursor, with one row for the dead letters of a queue that have the same error.

    Raises `Unavailable`.
    """
    walk = Walk(redis, wanted, before)
    rows: dict[tuple[str, str], Row] = {}
    last = ""
    while found := await walk.matching(1):
        each = found[0]
        same = each.queue, each.folded_error
        if same in rows:
            rows[same].count += 1
        elif len(rows) == PAGE_ROWS:
            break
        row = rows.setdefault(same, Row(each))
        row.first_failed_at = min(row.first_failed_at, each.failed_at)
        last = each.key
    else:
        last = "" if walk.has_ended else walk.last
    return DeadLetterPage(tuple(rows.values()), last, "", walk.examined)


async def count_newer(redis: Redis, wanted: Selection, than: str) -> int:
    """Return how many matching dead letters are newer than the cursor, at most a page. Raises `Unavailable`."""
    return len(await Walk(redis, wanted, than, newest_first=False).matching(PAGE_ROWS))


async def read_causes(redis: Redis) -> tuple[list[Cause], int]:
    """Return the newest dead letters by reason, largest group first, and how many were read. Raises `Unavailable`."""
    walk, now = Walk(redis, Selection()), time.time()
    causes: dict[str, Cause] = {}
    while found := await walk.matching(1):  # one at a time: to keep thousands costs more than to read them
        causes.setdefault(found[0].reason, Cause(found[0])).add(found[0], now)
    return sorted(causes.values(), key=lambda each: -each.count), walk.examined


async def find_matching(redis: Redis, wanted: Selection, until: str = "") -> tuple[list[str], str, bool]:
    """Return the keys of matching dead letters, newest first; the newest cursor; and whether there might be more.

    Returns at most `MAX_AT_ONCE` keys, and reads at most `MAX_EXAMINED` dead letters. ``until`` is a cursor of an
    earlier call or of a page: dead letters that were added after it are left out. Raises `Unavailable`.
    """
    newest = await show(redis, until)
    is_wanted = newest is not None and newest.queue in wanted.queues and wanted.conditions.lets_through(newest)
    found = [newest] if newest is not None and is_wanted else []
    walk = Walk(redis, wanted, until)
    found += await walk.matching(MAX_AT_ONCE - len(found))
    return [each.key for each in found], until or walk.first, not walk.has_ended


async def find_all(redis: Redis, wanted: Selection) -> list[DeadLetter]:
    """Return all that match now, queue by queue, the oldest first. Raises `Unavailable`."""
    found: list[DeadLetter] = []
    for queue in wanted.queues:  # from the newest on, so that none that is added meanwhile is found
        walk = Walk(redis, Selection([queue], wanted.conditions))
        found += reversed(await walk.matching(math.inf, max_examined=math.inf))
    return found


async def bulk_targets(redis: Redis, wanted: Selection) -> list[str]:
    """Return the targets of a replay in bulk: queues that have dead letters. Jobs find out which of them match."""
    with_some = [each for each in wanted.queues if await TaskQueue(redis, each).dead_letters.list(1)]
    return [bulk_target(each, wanted.conditions) for each in with_some]


async def show(redis: Redis, key: str) -> DeadLetter | None:
    """Return the dead letter with this key; None if there is none. Raises `Unavailable`."""
    queue, _, entry_id = key.partition("/")
    return await TaskQueue(redis, queue).dead_letters.show(entry_id) if queue in QUEUES else None


def is_entry_id(text: str) -> bool:
    """Return whether a text is the id of a stream's entry."""
    milliseconds, _, sequence = text.partition("-")
    return all(each.isascii() and each.isdigit() and len(each) <= 20 for each in (milliseconds, sequence))


def _place(key: str) -> Place:
    """Return the place of a dead letter in the list: by time, then by its queue; empty if ``key`` is not valid."""
    queue, _, entry_id = key.partition("/")
    if queue not in QUEUES or not is_entry_id(entry_id):
        return ()
    return (*map(int, entry_id.split("-")), _ORDER.index(queue))
