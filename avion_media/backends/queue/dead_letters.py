"""The tasks given up, for operators: look at them, put them back, drop them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from avion_media.backends.queue import scripts
from avion_media.backends.queue.entries import QueueEntry, QueueKeys
from avion_media.backends.redis import Redis, Reply
from avion_media.common.errors import Reason

_REASONS = frozenset(map(str, Reason))
_FOLDED_CHARS = 300  # it is part of an address
_ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter(QueueEntry):
    """One task that was given up, of ``queue``. Times are Unix seconds."""

    queue: str = ""

    @property
    def key(self) -> str:
        """Its name among those of all queues."""
        return f"{self.queue}/{self.entry_id}"

    @property
    def media_id(self) -> str:
        """Empty when it is about a remote media item, or names nothing."""
        return self.task.fields.get("media_id", "")

    @property
    def subject(self) -> str:
        """What it is about: a media id, or the URL of a remote media item."""
        return self.task.subject

    @property
    def reason(self) -> str:
        """The code of its error; empty when it has none."""
        return reason_of(self.error)

    @property
    def detail(self) -> str:
        """The rest of its error."""
        return detail_of(self.error)

    @property
    def folded_error(self) -> str:
        """The start of its error. Dead letters of one queue with the same one are shown as one."""
        return self.error[:_FOLDED_CHARS]

    @property
    def is_readable(self) -> bool:
        """Whether a worker could do anything with it: else it can only be removed."""
        return self.reason != Reason.MALFORMED_TASK


def reason_of(error: str) -> str:
    """Return the stable code that an error begins with; empty when it begins with none."""
    code = error.partition(":")[0].strip()
    return code if code in _REASONS else ""


def detail_of(error: str) -> str:
    """Return what follows the code of an error."""
    return error.partition(":")[2].strip() if reason_of(error) else error


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: all conditions that are given must hold. Times are Unix seconds.

    ``text`` is part of any field or of the error, ``error`` part of the error, both in any case; ``same_error`` is
    `DeadLetter.folded_error`.
    """

    text: str = ""
    error: str = ""
    reason: str = ""
    same_error: str = ""
    failed_after: float | None = None
    failed_before: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return self == DeadLetterFilter()

    def lets_through(self, found: DeadLetter) -> bool:
        """Return whether this one is meant."""
        return (
            (not self.text or self.text.lower() in _searched(found))
            and self.error.lower() in found.error.lower()
            and (not self.reason or found.reason == self.reason)
            and (not self.same_error or found.folded_error == self.same_error)
            and (self.failed_after is None or found.failed_at > self.failed_after)
            and (self.failed_before is None or found.failed_at <= self.failed_before)
        )

    def to_fields(self) -> dict[str, str]:
        """Return the conditions that are given, by name."""
        return {name: str(value) for name, value in asdict(self).items() if value not in ("", None)}

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> DeadLetterFilter:
        """Read `to_fields`; raises ValueError for a time that is none."""
        times = {name: float(fields[name]) for name in ("failed_after", "failed_before") if name in fields}
        text, error, reason, same = (fields.get(name, "") for name in ("text", "error", "reason", "same_error"))
        return cls(text, error, reason, same, **times)


class DeadLetters:
    """The dead letters of one queue. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self._redis = redis
        self._keys = keys

    async def newest(self, count: int = 100, before: str = "") -> list[DeadLetter]:
        """Up to ``count`` of them, newest first, before the one with the id ``before``."""
        start = f"({before}" if before else "+"
        rows = await self._redis.execute("XREVRANGE", self._keys.dead_letters, start, "-", "COUNT", count)
        return [self._read(row) for row in rows]

    async def list(self, count: int = 100, after: str = "") -> list[DeadLetter]:
        """Up to ``count`` of them, oldest first, behind the one with the id ``after``."""
        start = f"({after}" if after else "-"
        rows = await self._redis.execute("XRANGE", self._keys.dead_letters, start, "+", "COUNT", count)
        return [self._read(row) for row in rows]

    async def show(self, entry_id: str) -> DeadLetter | None:
        """One of them; None when there is none of that id."""
        if not _ENTRY_ID.fullmatch(entry_id):
            return None
        rows = await self._redis.execute("XRANGE", self._keys.dead_letters, entry_id, entry_id)
        return self._read(rows[0]) if rows else None

    async def replay(self, entry_id: str) -> bool:
        """Queue it again, with all attempts and its history. False when there is none of that id."""
        if not _ENTRY_ID.fullmatch(entry_id):
            return False
        return bool(await self._redis.run(scripts.REPLAY, self._keys.dispatch, (entry_id,)))

    async def drop(self, entry_id: str) -> bool:
        """Remove it for good. False when there is none of that id."""
        if not _ENTRY_ID.fullmatch(entry_id):
            return False
        return bool(await self._redis.execute("XDEL", self._keys.dead_letters, entry_id))

    def _read(self, row: Reply) -> DeadLetter:
        return DeadLetter.read(row[0], row[1], queue=self._keys.stream)


def _searched(found: DeadLetter) -> str:
    task = found.task
    parts = (*task.fields.values(), found.error, task.task_id, task.traceparent, found.entry_id)
    return "\n".join(parts).lower()
