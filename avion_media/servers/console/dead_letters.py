"""The dead letters of all queues as one list: newest first, filtered, in pages.

There is no index for these filters. So a page walks over the streams, starting where the previous page ended. Each walk
is bounded, so a page costs the same with a hundred thousand dead letters as with a thousand. A page reports how many
dead letters its walk read, and whether the walk reached the end.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

import trio

from avion_media.backends.queue import DeadLetter, DeadLetterFilter, TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.tasks import QUEUES

PAGE_ROWS: Final = 25
MAX_EXAMINED: Final = 3000
"""Maximum number of dead letters that are read for one page, one question, or the groups by cause."""
MAX_AT_ONCE: Final = 1000
"""Maximum number of dead letters that one action works on."""
_CHUNK: Final = 250
_MAX_SEQUENCE: Final = (1 << 64) - 1  # the largest sequence number in an entry id
_HOURS: Final = 24
_CAUSES_S: Final = 10.0
_ORDER: Final = list(QUEUES)
AGES: Final = {"1h": 3600.0, "1d": 86_400.0, "7d": 7 * 86_400.0}


@dataclass(frozen=True, slots=True)
class DeadLetterQuery:
    """A filter for dead letters. A dead letter matches if it meets every condition that is set."""

    text: str = ""
    queue: str = ""
    reason: str = ""
    age: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> DeadLetterQuery:
        """Read the filter from a URL or a form. Invalid values count as absent."""
        queue, age = query.get("queue", ""), query.get("age", "")
        return cls(
            text=query.get("q", "").strip()[:200],
            queue=queue if queue in QUEUES else "",
            reason=query.get("reason", "")[:60],
            age=age if age in AGES else "",
        )

    @property
    def is_open(self) -> bool:
        """Whether every dead letter matches."""
        return self == DeadLetterQuery()

    def fields(self) -> dict[str, str]:
        """Return the conditions as the fields of a URL or a form."""
        named = {"q": self.text, "queue": self.queue, "reason": self.reason, "age": self.age}
        return {name: value for name, value in named.items() if value}

    def url(self, **more: str) -> str:
        """Return the address of the list with this filter."""
        query = urlencode({**self.fields(), **more})
        return "/console/dead-letters" + (f"?{query}" if query else "")

    def without(self, name: str) -> DeadLetterQuery:
        """Return this filter without one condition, named by its field in a URL."""
        return replace(self, **{{"q": "text"}.get(name, name): ""})

    def conditions(self, now: float) -> DeadLetterFilter:
        """Return the conditions other than the queue. ``now`` is in Unix seconds."""
        failed_after = now - AGES[self.age] if self.age else None
        return DeadLetterFilter(self.text, reason=self.reason, failed_after=failed_after)

    def lets_through(self, found: DeadLetter, now: float) -> bool:
        """Return whether this dead letter matches, without a check of its queue. ``now`` is in Unix seconds."""
        return self.conditions(now).lets_through(found)


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """One page. ``older`` and ``newer`` are cursors; each is empty if its direction has nothing more to read."""

    rows: tuple[DeadLetter, ...]
    older: str
    newer: str
    examined: int
    is_complete: bool  # whether the walk reached the end in its direction


@dataclass(frozen=True, slots=True)
class Cause:
    """The dead letters with one reason, among those that were read."""

    reason: str
    count: int
    last_failed_at: float
    detail: str  # of the newest dead letter
    same_detail: bool
    by_hour: tuple[int, ...]
    is_readable: bool


async def read_page(redis: Redis, wanted: DeadLetterQuery, *, before: str = "", after: str = "") -> DeadLetterPage:
    """Return the page after a cursor: older dead letters with ``before``, newer ones with ``after``.

    Raises `Unavailable`.
    """
    now = time.time()
    rows: list[DeadLetter] = []
    walk = _Walk(redis, wanted, after or before, is_forward=bool(after))
    last = ""
    while (each := await walk.next()) is not None:
        if len(rows) == PAGE_ROWS or walk.examined > MAX_EXAMINED:
            break
        last = each.key
        if wanted.lets_through(each, now):
            rows.append(each)
    ended = each is None
    examined = walk.examined - (not ended)
    if after:
        rows.reverse()
        older = rows[-1].key if rows else after
        return DeadLetterPage(tuple(rows), older, "" if ended else last, examined, ended)
    newer = (rows[0].key if rows else before) if before else ""
    return DeadLetterPage(tuple(rows), "" if ended else last, newer, examined, ended)


async def count_newer(redis: Redis, wanted: DeadLetterQuery, than: str) -> int:
    """Return how many matching dead letters are newer than the cursor, at most a page. Raises `Unavailable`."""
    now, found = time.time(), 0
    walk = _Walk(redis, wanted, than, is_forward=True)
    while found < PAGE_ROWS and walk.examined < MAX_EXAMINED and (each := await walk.next()) is not None:
        found += wanted.lets_through(each, now)
    return found


async def read_causes(redis: Redis) -> tuple[list[Cause], int]:
    """Return the newest dead letters by reason, largest group first, and how many were read. Raises `Unavailable`."""
    groups: dict[str, list[DeadLetter]] = {}
    walk = _Walk(redis, DeadLetterQuery(), "", is_forward=False)
    while walk.examined < MAX_EXAMINED and (each := await walk.next()) is not None:
        groups.setdefault(each.reason, []).append(each)
    now = time.time()
    causes = [_cause(reason, found, now) for reason, found in groups.items()]
    return sorted(causes, key=lambda each: -each.count), walk.examined


async def find_matching(redis: Redis, wanted: DeadLetterQuery, until: str = "") -> tuple[list[str], str, bool]:
    """Return the keys of matching dead letters, newest first; the newest cursor; and whether there might be more.

    Returns at most `MAX_AT_ONCE` keys, and reads at most `MAX_EXAMINED` dead letters. ``until`` is a cursor of an
    earlier call or of a page: dead letters that were added after it are left out. Raises `Unavailable`.
    """
    now = time.time()
    keys: list[str] = []
    newest = until
    walk = _Walk(redis, wanted, until, is_forward=False, includes_cursor=True)
    while (each := await walk.next()) is not None:
        newest = newest or each.key
        if wanted.lets_through(each, now):
            if len(keys) == MAX_AT_ONCE:
                return keys, newest, True
            keys.append(each.key)
        if walk.examined == MAX_EXAMINED:
            return keys, newest, True
    return keys, newest, False


def parse_key(key: str) -> tuple[str, str] | None:
    """Return the queue and the entry id of a `DeadLetter.key`; None if ``key`` is not valid."""
    queue, _, entry_id = key.partition("/")
    milliseconds, _, sequence = entry_id.partition("-")
    numbers = (milliseconds, sequence)
    valid = queue in QUEUES and all(each.isascii() and each.isdigit() and len(each) <= 20 for each in numbers)
    return (queue, entry_id) if valid else None


async def show(redis: Redis, key: str) -> DeadLetter | None:
    """Return the dead letter with this key; None if there is none. Raises `Unavailable`."""
    parsed = parse_key(key)
    if parsed is None:
        return None
    return await TaskQueue(redis, parsed[0]).dead_letters.show(parsed[1])


class Causes:
    """The groups by cause, shared by all viewers of one process. They are read at most once in ten seconds."""

    def __init__(self) -> None:
        self._read_at = -math.inf
        self._reading = trio.Lock()
        self._found: tuple[list[Cause], int] = ([], 0)

    async def read(self, redis: Redis) -> tuple[list[Cause], int]:
        """Return the groups as `read_causes` does. Raises `Unavailable`. A cancel keeps the previous groups."""
        async with self._reading:
            if trio.current_time() - self._read_at > _CAUSES_S:
                self._found = await read_causes(redis)
                self._read_at = trio.current_time()
        return self._found

    def forget(self) -> None:
        """Read the groups again at the next call, because an operator has changed something."""
        self._read_at = -math.inf


class _Walk:
    """A walk over the dead letters of the wanted queues, merged into one order by their ids."""

    def __init__(
        self, redis: Redis, wanted: DeadLetterQuery, cursor: str, *, is_forward: bool, includes_cursor: bool = False
    ) -> None:
        names = [wanted.queue] if wanted.queue else list(QUEUES)
        self.examined = 0
        self._pick = min if is_forward else max
        self._streams = [
            _Stream(redis, name, cursor, is_forward=is_forward, includes_cursor=includes_cursor) for name in names
        ]

    async def next(self) -> DeadLetter | None:
        """Return the next dead letter; None at the end. Raises `Unavailable`."""
        for each in self._streams:
            await each.fill()
        with_more = [each for each in self._streams if each.rows]
        if not with_more:
            return None
        self.examined += 1
        return self._pick(with_more, key=lambda each: _order(each.rows[0])).rows.popleft()


class _Stream:
    """The dead letters of one queue after a cursor, read in chunks."""

    def __init__(self, redis: Redis, queue: str, cursor: str, *, is_forward: bool, includes_cursor: bool) -> None:
        self.rows: deque[DeadLetter] = deque()
        self._dead_letters = TaskQueue(redis, queue).dead_letters
        self._queue = queue
        self._is_forward = is_forward
        self._last = self._start(cursor, includes_cursor)
        self._has_more = True

    def _start(self, cursor: str, includes_cursor: bool) -> str:
        """Return the id after which to begin. Ids are ordered by time, then by the index of their queue in `QUEUES`."""
        parsed = parse_key(cursor)
        if parsed is None:
            return ""
        queue, entry_id = parsed
        own, other = _ORDER.index(self._queue), _ORDER.index(queue)
        is_behind = own > other if self._is_forward else own < other
        if not is_behind and not (includes_cursor and own == other):
            return entry_id
        milliseconds, sequence = map(int, entry_id.split("-"))
        if not self._is_forward:
            return f"{milliseconds}-{sequence + 1}"
        return f"{milliseconds}-{sequence - 1}" if sequence else f"{milliseconds - 1}-{_MAX_SEQUENCE}"

    async def fill(self) -> None:
        """Read the next chunk if all rows were taken. Raises `Unavailable`."""
        if self.rows or not self._has_more:
            return
        read = self._dead_letters.list if self._is_forward else self._dead_letters.newest
        found = await read(_CHUNK, self._last)
        self._has_more = len(found) == _CHUNK
        self.rows.extend(found)
        if found:
            self._last = found[-1].entry_id


def _order(each: DeadLetter) -> tuple[int, int, int]:
    milliseconds, _, sequence = each.entry_id.partition("-")
    return int(milliseconds), int(sequence), _ORDER.index(each.queue)


def _cause(reason: str, found: list[DeadLetter], now: float) -> Cause:
    by_hour = [0] * _HOURS
    for each in found:
        hour = _HOURS - 1 - int((now - each.failed_at) // 3600)
        if 0 <= hour < _HOURS:
            by_hour[hour] += 1
    newest = found[0]
    return Cause(
        reason,
        len(found),
        max(each.failed_at for each in found),
        newest.detail,
        all(each.detail == newest.detail for each in found),
        tuple(by_hour),
        newest.is_readable,
    )
