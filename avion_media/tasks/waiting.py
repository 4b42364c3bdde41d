"""Every task of a queue, wherever it is: stream, backlog, delayed set, dead letters. Reading them takes none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from avion_media.domain.ids import InvalidId, parse_any_id, remote_id_for
from avion_media.domain.tasks import CACHE_QUEUE, CONSUMER_GROUP
from avion_media.queue import QueueKeys
from avion_media.queue.entries import WAITING_HEADER, Entry, read_entry
from avion_media.redis import Redis, RedisRefused, Reply
from avion_media.remote import InvalidUrl, parse_remote_url

_PAGE = 200  # read in 3 ms: other work in this process waits no longer than that


class Place(StrEnum):
    """Where a task lies."""

    STREAM = "stream"
    WAITING = "waiting"
    DELAYED = "delayed"
    DEAD_LETTERS = "dead letters"


@dataclass(frozen=True, slots=True)
class FoundTask:
    """One task. ``due_at`` (Unix seconds) is that of a delayed one. Only entries of streams have an id."""

    queue: str
    place: Place
    entry: Entry
    due_at: float | None = None

    @property
    def subject(self) -> str | None:
        """The id of the medium that it is about; None when it names none."""
        fields = self.entry.task.fields
        try:
            if self.queue == CACHE_QUEUE:
                return str(remote_id_for(str(parse_remote_url(fields.get("remote_url", "")))))
            return str(parse_any_id(fields.get("media_id", "")))
        except (InvalidId, InvalidUrl):
            return None


@dataclass(frozen=True, slots=True)
class Hands:
    """Which worker has an entry."""

    consumer: str
    idle_s: float
    deliveries: int


Visit = Callable[[FoundTask], bool]
"""Is shown one task after the other; whether it wants to see more."""


async def each_task(redis: Redis, queue: str, visit: Visit) -> bool:
    """Show ``visit`` all tasks of a queue; whether it saw the last.

    Tasks that move meanwhile may be shown twice. To miss one, it would have to leave the stream and come back within
    this call: where it may come from or go to is looked through before and after the stream. Raises `Unavailable`.
    """
    return (
        await _each_delayed(redis, queue, visit)
        and await _each_entry(redis, queue, Place.DEAD_LETTERS, visit)
        and await _each_waiting(redis, queue, visit)
        and await _each_entry(redis, queue, Place.STREAM, visit)
        and await _each_waiting(redis, queue, visit)
        and await _each_delayed(redis, queue, visit)
        and await _each_entry(redis, queue, Place.DEAD_LETTERS, visit)
    )


async def hands_of(redis: Redis, queue: str, entry_id: str) -> Hands | None:
    """Who has an entry of the stream; None when it waits for its first reader. Raises `Unavailable`."""
    try:
        rows = await redis.execute("XPENDING", queue, CONSUMER_GROUP, entry_id, entry_id, 1)
    except RedisRefused as refused:
        if refused.code != "NOGROUP":
            raise
        return None
    if not rows:
        return None
    _, consumer, idle_ms, deliveries = rows[0]
    return Hands(consumer.decode(errors="replace"), idle_ms / 1000, deliveries)


async def _each_entry(redis: Redis, queue: str, place: Place, visit: Visit) -> bool:
    key = queue if place is Place.STREAM else QueueKeys(queue).dead_letters
    start = "-"
    while True:
        rows = await redis.execute("XRANGE", key, start, "+", "COUNT", _PAGE)
        for row in rows:
            if not visit(FoundTask(queue, place, read_entry(row[0], row[1]))):
                return False
        if len(rows) < _PAGE:
            return True
        start = f"({rows[-1][0].decode()}"


async def _each_waiting(redis: Redis, queue: str, visit: Visit) -> bool:
    key, start = QueueKeys(queue).waiting, b"-"
    while True:
        members = await redis.execute("ZRANGE", key, start, "+", "BYLEX", "LIMIT", 0, _PAGE)
        for member in members:
            entry = _read_waiting(member)
            if entry is not None and not visit(FoundTask(queue, Place.WAITING, entry)):
                return False
        if len(members) < _PAGE:
            return True
        start = b"(" + members[-1]


def _read_waiting(member: bytes) -> Entry | None:
    """None for the member that keeps the key in being."""
    _, _, text = member.partition(b"\0")
    if not text:
        return None
    flat = json.loads(text[WAITING_HEADER:].decode(errors="replace"))
    return read_entry(b"0-0", [part.encode(errors="replace") for part in flat])


async def _each_delayed(redis: Redis, queue: str, visit: Visit) -> bool:
    cursor: Reply = b"0"
    while True:
        cursor, found = await redis.execute("ZSCAN", QueueKeys(queue).delayed, cursor, "COUNT", _PAGE)
        for member, due_at in zip(found[::2], found[1::2], strict=True):
            entry = _read_member(member)
            if entry is not None and not visit(FoundTask(queue, Place.DELAYED, entry, float(due_at))):
                return False
        if cursor == b"0":
            return True


def _read_member(member: bytes) -> Entry | None:
    """None for what is no JSON object: the promoter makes a dead letter of it."""
    try:
        fields = json.loads(member)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    flat = [str(part).encode() for pair in fields.items() for part in pair]
    return read_entry(b"0-0", flat)
