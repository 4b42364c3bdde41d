"""The dead letters of all queues as one list: newest first, filtered, in pages.

No index serves these filters: a page is a walk over the streams from where the last one ended. Each walk is bounded, so
that a page costs the same with a hundred thousand dead letters as with a thousand; what it did not reach, it says.
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

from avion_media.domain.tasks import QUEUES
from avion_media.queue import DeadLetter, DeadLetterFilter, TaskQueue
from avion_media.redis import Redis

PAGE_ROWS: Final = 25
MAX_EXAMINED: Final = 3000
"""Dead letters that one page, one question, or the groups by cause, looks at."""
MAX_AT_ONCE: Final = 1000
"""Dead letters that one action works on."""
_CHUNK: Final = 250
_MAX_SEQUENCE: Final = (1 << 64) - 1  # of an entry's id
_HOURS: Final = 24
_CAUSES_S: Final = 10.0
AGES: Final = {"1h": 3600.0, "1d": 86_400.0, "7d": 7 * 86_400.0}


@dataclass(frozen=True, slots=True)
class DeadLetterQuery:
    """Which dead letters are meant: all conditions that are given must hold."""

    text: str = ""
    queue: str = ""
    reason: str = ""
    age: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> DeadLetterQuery:
        """Read the filter of a URL or a form; values that mean nothing count as absent."""
        queue, age = query.get("queue", ""), query.get("age", "")
        return cls(
            text=query.get("q", "").strip()[:200],
            queue=queue if queue in QUEUES else "",
            reason=query.get("reason", "")[:60],
            age=age if age in AGES else "",
        )

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return self == DeadLetterQuery()

    def fields(self) -> dict[str, str]:
        """Return its conditions as the fields of a URL or a form."""
        named = {"q": self.text, "queue": self.queue, "reason": self.reason, "age": self.age}
        return {name: value for name, value in named.items() if value}

    def url(self, **more: str) -> str:
        """Return the address of the list with this filter."""
        query = urlencode({**self.fields(), **more})
        return "/console/dead-letters" + (f"?{query}" if query else "")

    def without(self, name: str) -> DeadLetterQuery:
        """Return the same without one condition."""
        return replace(self, **{{"q": "text"}.get(name, name): ""})

    def conditions(self, now: float) -> DeadLetterFilter:
        """Return the same for the dead letters of one queue."""
        failed_after = now - AGES[self.age] if self.age else None
        return DeadLetterFilter(self.text, reason=self.reason, failed_after=failed_after)

    def lets_through(self, found: DeadLetter, now: float) -> bool:
        """Return whether this one is meant; its queue aside."""
        return self.conditions(now).lets_through(found)


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """One page. ``older`` and ``newer`` are cursors, empty where there is nothing more to look at."""

    rows: tuple[DeadLetter, ...]
    older: str
    newer: str
    examined: int
    is_complete: bool  # the walk reached the end in its direction


@dataclass(frozen=True, slots=True)
class Cause:
    """The dead letters of one reason among those that were looked at."""

    reason: str
    count: int
    last_failed_at: float
    detail: str  # of the newest
    same_detail: bool
    by_hour: tuple[int, ...]
    is_readable: bool


async def read_page(redis: Redis, wanted: DeadLetterQuery, *, before: str = "", after: str = "") -> DeadLetterPage:
    """Return the page behind a cursor (``before``: older ones; ``after``: newer ones). Raises `Unavailable`."""
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
    """Return how many came in behind this cursor, up to a page of them. Raises `Unavailable`."""
    now, found = time.time(), 0
    walk = _Walk(redis, wanted, than, is_forward=True)
    while found < PAGE_ROWS and walk.examined < MAX_EXAMINED and (each := await walk.next()) is not None:
        found += wanted.lets_through(each, now)
    return found


async def read_causes(redis: Redis) -> tuple[list[Cause], int]:
    """Return the newest dead letters by reason, most of them first, and how many were looked at."""
    groups: dict[str, list[DeadLetter]] = {}
    walk = _Walk(redis, DeadLetterQuery(), "", is_forward=False)
    while walk.examined < MAX_EXAMINED and (each := await walk.next()) is not None:
        groups.setdefault(each.reason, []).append(each)
    now = time.time()
    causes = [_cause(reason, found, now) for reason, found in groups.items()]
    return sorted(causes, key=lambda each: -each.count), walk.examined


async def find_matching(redis: Redis, wanted: DeadLetterQuery, until: str = "") -> tuple[list[str], str, bool]:
    """Return the keys of those that are meant, newest first; the newest cursor; whether there may be more.

    At most `MAX_AT_ONCE`, among `MAX_EXAMINED`. ``until`` is the cursor of an earlier call, or of a page: what failed
    later is left out.
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
    """Return queue and entry id of a `DeadLetter.key`; None for anything else."""
    queue, _, entry_id = key.partition("/")
    milliseconds, _, sequence = entry_id.partition("-")
    numbers = (milliseconds, sequence)
    valid = queue in QUEUES and all(each.isascii() and each.isdigit() and len(each) <= 20 for each in numbers)
    return (queue, entry_id) if valid else None


async def show(redis: Redis, key: str) -> DeadLetter | None:
    """Return one of them; None when there is none of that key."""
    parsed = parse_key(key)
    if parsed is None:
        return None
    return await TaskQueue(redis, parsed[0]).dead_letters.show(parsed[1])


class Causes:
    """The groups by cause, for all viewers of one process: looked at again after ten seconds at the earliest."""

    def __init__(self) -> None:
        self._read_at = -math.inf
        self._reading = trio.Lock()
        self._found: tuple[list[Cause], int] = ([], 0)

    async def read(self, redis: Redis) -> tuple[list[Cause], int]:
        """Return them as with `read_causes`. Raises `Unavailable`; a cancel leaves what was there."""
        async with self._reading:
            if trio.current_time() - self._read_at > _CAUSES_S:
                self._found = await read_causes(redis)
                self._read_at = trio.current_time()
        return self._found

    def forget(self) -> None:
        """Look again the next time: an operator has changed something."""
        self._read_at = -math.inf


class _Walk:
    """The dead letters of the wanted queues in the order of their ids, over all queues at once."""

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
        """Return the next one; None at the end."""
        for each in self._streams:
            await each.fill()
        with_more = [each for each in self._streams if each.rows]
        if not with_more:
            return None
        self.examined += 1
        return self._pick(with_more, key=lambda each: _order(each.rows[0])).rows.popleft()


class _Stream:
    """The dead letters of one queue behind a cursor, read in pieces."""

    def __init__(self, redis: Redis, queue: str, cursor: str, *, is_forward: bool, includes_cursor: bool) -> None:
        self.rows: deque[DeadLetter] = deque()
        self._dead_letters = TaskQueue(redis, queue).dead_letters
        self._queue = queue
        self._is_forward = is_forward
        self._last = self._start(cursor, includes_cursor)
        self._has_more = True

    def _start(self, cursor: str, includes_cursor: bool) -> str:
        """The id to begin behind. Ids are ordered by time, then by the place of their queue in `QUEUES`."""
        parsed = parse_key(cursor)
        if parsed is None:
            return ""
        queue, entry_id = parsed
        own, other = QUEUES.index(self._queue), QUEUES.index(queue)
        is_behind = own > other if self._is_forward else own < other
        if not is_behind and not (includes_cursor and own == other):
            return entry_id
        milliseconds, sequence = map(int, entry_id.split("-"))
        if not self._is_forward:
            return f"{milliseconds}-{sequence + 1}"
        return f"{milliseconds}-{sequence - 1}" if sequence else f"{milliseconds - 1}-{_MAX_SEQUENCE}"

    async def fill(self) -> None:
        """Read on when all that was read is taken."""
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
    return int(milliseconds), int(sequence), QUEUES.index(each.queue)


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
