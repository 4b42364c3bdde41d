"""What there is to see, as plain data; the templates only draw it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import trio

from avion_media.console.rates import Rate, Rates
from avion_media.domain.ids import InvalidId, parse_any_id
from avion_media.domain.keys import origin_paths
from avion_media.domain.tasks import EVENTS_STREAM, PROCESSING_QUEUE, QUEUES
from avion_media.inspection import moment
from avion_media.queue import DeadLetter, QueueStats, TaskQueue
from avion_media.redis import Redis, RedisRefused
from avion_media.runtime import Runtime
from avion_media.tree import Tree

_LETTERS = 50
_EVENTS = 60
_MEDIA = 24
_STATES = {"ready": "ready", "failed": "failed", "deleted": "deleted"}


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node of the tree."""

    path: str
    name: str
    depth: int
    kind: str
    state: str
    restarts: int
    last_failure: str
    uptime: str


@dataclass(frozen=True, slots=True)
class LimitRow:
    """Something bounded: how much of it is in use, and who waits for it."""

    name: str
    used: int
    limit: int
    waiting: int


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue; ``rate`` is None until it was looked at twice."""

    name: str
    stats: QueueStats
    rate: Rate | None


@dataclass(frozen=True, slots=True)
class LetterRow:
    """One dead letter."""

    queue: str
    letter: DeadLetter

    @property
    def media_id(self) -> str:
        """Empty when it was about a remote medium, or says nothing."""
        return self.letter.fields.get("media_id", "")

    @property
    def subject(self) -> str:
        """What it was about: a media id, or the URL of a remote medium."""
        return self.media_id or self.letter.fields.get("remote_url", "")

    @property
    def failed_at(self) -> str:
        """As ISO 8601."""
        return moment(self.letter.failed_at)


@dataclass(frozen=True, slots=True)
class MediumRow:
    """A medium that something happened to not long ago."""

    media_id: str
    state: str
    reason: str
    at: str
    thumbnail: str  # path on the origin; empty when there is none


class Overview:
    """Reads from the running process and from Redis. The parts on Redis raise `Unavailable` while it is away."""

    def __init__(self, runtime: Runtime, tree: Tree) -> None:
        self._runtime = runtime
        self._tree = tree
        self._rates = Rates()

    def status(self) -> dict[str, Any]:
        """Phase, readiness, dependencies."""
        return self._runtime.report()

    def limits(self) -> list[LimitRow]:
        """Everything bounded that runs here."""
        rows = []
        for name, read in sorted(self._runtime.observed.limiters.items()):
            limiter = read()
            rows.append(LimitRow(name, limiter.used, limiter.limit, limiter.waiting))
        return rows

    def tree(self) -> list[NodeRow]:
        """The supervision tree, each node below its supervisor."""
        return list(_rows(self._tree.describe(), 0))

    async def queues(self) -> list[QueueRow]:
        """All queues, with how fast tasks come and go."""
        redis = self._runtime.redis
        rows = []
        for name in QUEUES:
            stats = await TaskQueue(redis, name).stats()
            begun = await _entries_added(redis, name)
            rate = self._rates.look(name, begun, begun - stats.depth, trio.current_time())
            rows.append(QueueRow(name, stats, rate))
        return rows

    async def letters(self) -> list[LetterRow]:
        """The oldest dead letters of each queue."""
        redis = self._runtime.redis
        return [
            LetterRow(name, letter)
            for name in QUEUES
            for letter in await TaskQueue(redis, name).dead_letters.list(_LETTERS)
        ]

    async def media(self) -> list[MediumRow]:
        """What is being processed, then what ended last: newest first."""
        redis = self._runtime.redis
        waiting = await redis.execute("XREVRANGE", PROCESSING_QUEUE, "+", "-", "COUNT", _MEDIA)
        events = await redis.execute("XREVRANGE", EVENTS_STREAM, "+", "-", "COUNT", _EVENTS)
        found: dict[str, MediumRow] = {}
        for entry_id, flat in waiting:
            row = self._waiting_row(entry_id, _fields(flat))
            if row is not None:
                found.setdefault(row.media_id, row)
        for entry_id, flat in events:
            row = self._ended_row(entry_id, _fields(flat))
            if row is not None:
                found.setdefault(row.media_id, row)
        return list(found.values())[:_MEDIA]

    def _waiting_row(self, entry_id: bytes, fields: dict[str, str]) -> MediumRow | None:
        media_id = fields.get("media_id", "")
        return MediumRow(media_id, "processing", "", _when(entry_id), "") if _is_id(media_id) else None

    def _ended_row(self, entry_id: bytes, fields: dict[str, str]) -> MediumRow | None:
        try:
            event = json.loads(fields.get("event", ""))
            media_id, ending = str(event["media_id"]), str(event["type"]).rpartition(".")[2]
        except (ValueError, KeyError, TypeError):
            return None
        if not _is_id(media_id) or ending not in _STATES:
            return None
        thumbnail = self._smallest_thumbnail(media_id) if ending == "ready" else ""
        return MediumRow(media_id, _STATES[ending], str(event.get("reason", "")), _when(entry_id), thumbnail)

    def _smallest_thumbnail(self, media_id: str) -> str:
        smallest = min(self._runtime.config.thumbnails.sizes, key=lambda size: size.longest_edge, default=None)
        return "" if smallest is None else origin_paths(parse_any_id(media_id), [smallest.name])[smallest.name]


def _rows(node: dict[str, Any], depth: int) -> Iterator[NodeRow]:
    yield NodeRow(
        path=node["path"],
        name=node["name"],
        depth=depth,
        kind=node["kind"],
        state=node["state"],
        restarts=node["restarts"],
        last_failure=node["last_failure"] or "",
        uptime=_duration(node["uptime_s"]),
    )
    for child in node["children"]:
        yield from _rows(child, depth + 1)


def _duration(seconds: float | None) -> str:
    """Coarser the longer it is, so that a page at rest does not change each second."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{int(seconds)} s"
    if seconds < 120:
        return f"{int(seconds) // 10 * 10} s"
    if seconds < 7200:
        return f"{int(seconds) // 60} min"
    return f"{int(seconds) // 3600} h"


async def _entries_added(redis: Redis, stream: str) -> int:
    """How many tasks the queue ever had."""
    try:
        reply = await redis.execute("XINFO", "STREAM", stream)
    except RedisRefused:  # there is no such stream yet
        return 0
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return int(pairs.get(b"entries-added", 0))


def _fields(flat: list[bytes]) -> dict[str, str]:
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def _when(entry_id: bytes) -> str:
    return moment(int(entry_id.partition(b"-")[0]) / 1000)


def _is_id(text: str) -> bool:
    try:
        parse_any_id(text)
    except InvalidId:
        return False
    return True
