"""The record of each deletion: one hash per media item, which only the scripts of ``lua/`` change.

docs/deletions.md has the table of states and operations, which a test compares with the scripts, and says which notices
an undelete undoes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial

import trio

from avion_media.backends.redis import Redis, Reply
from avion_media.common.concurrency import in_turn
from avion_media.common.ids import ALPHABET
from avion_media.common.records import CustomRecord
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import scripts
from avion_media.items.state.status_store import STATUS_CHANGES, deletion_key

NOTICES_GROUP = "media_drops"
UNDELETES = "media_undeletes"
"""Channel: the time of each undelete. Listeners use it to order the notices that they receive."""
LAST_UNDELETE = f"{{{DROP_DELETED}}}:last_undelete"
"""String: the time of the last undelete, in one cluster slot with the stream of the notices."""


_HEX = "0123456789abcdef"  # remote media are named by a hash
BUCKETS = tuple(sorted({first + second for digits in (ALPHABET, _HEX) for first in digits for second in digits}))
"""The last two characters of all ids. Here a *bucket* is the set of ids with the same two, not a bucket of the object
store. Its records are in one cluster slot."""

_UNDELETED_S = 366 * 86_400.0  # as long as a notice may be delivered again: the producer trims the stream
_CHUNK = 400  # records that one script writes: 3 ms of the server's time
_AT_ONCE = 4
_BUS_S = 0.1  # how long messages of two cluster nodes can overtake each other
_OVER = (b"removed", b"undeleted")  # states that outlive the journal
_FIELDS = ("state", "generation", "due", "absorbed", "undeleted_at", "undeleted_through", "unjournaled")


def complete_key(bucket: str) -> str:
    """Hash: the server process that has all records of a bucket. See `JournalReplay`."""
    return f"media_deletions_complete:{{{bucket}}}"


def completeness_of(media_id: str) -> str:
    """Return `complete_key` of the bucket that a media item is in."""
    return complete_key(media_id[-2:])


def removal_id(media_id: str, generation: int) -> str:
    """Return the id of the task that removes a media item for one of its deletions."""
    return f"delete-{media_id}.{generation}"


def generation_of(task_id: str, media_id: str) -> int | None:
    """Return the generation of a task's deletion; None for a task that another service queued."""
    start, _, generation = task_id.rpartition(".")
    return int(generation) if start == f"delete-{media_id}" and generation.isdigit() else None


class DeletionState(StrEnum):
    """The state of a deletion."""

    MARKED = "marked"
    REMOVING = "removing"
    REMOVED = "removed"
    UNDELETED = "undeleted"


@dataclass(frozen=True, slots=True)
class DeletionRecord:
    """One record. Times in Unix milliseconds; positions are those of the stream `drop_deleted`, or empty.

    ``unjournaled``: a notice of the channel marked the media item, and its listener has not written the journal yet.
    """

    state: DeletionState
    generation: int
    due_ms: int
    absorbed: str = ""
    undeleted_at_ms: int = 0
    undeleted_through: str = ""
    unjournaled: bool = False

    @property
    def is_deleted(self) -> bool:
        """Whether the media item is deleted."""
        return self.state is not DeletionState.UNDELETED

    @property
    def deleted_at(self) -> datetime:
        """When the media item was marked (UTC)."""
        return datetime.fromtimestamp(self.generation / 1000, UTC)

    @property
    def due(self) -> datetime:
        """When its objects may be removed (UTC)."""
        return datetime.fromtimestamp(self.due_ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Mark:
    """A valid deletion. ``fresh``: this call has created it."""

    media_id: str
    generation: int
    due_ms: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class Undelete:
    """The first step of an undelete, which separates earlier notices from later ones."""

    at_ms: int
    position: str


@dataclass(frozen=True, slots=True)
class Removal:
    """Whether a removal may continue. ``early_s``: seconds until it is due.

    ``unknown``: records may be lost; the journal must be replayed first.
    """

    may_go: bool
    early_s: float = 0.0
    unknown: bool = False


class DeletionRecords:
    """Reads and changes the records.

    Every method raises `Unavailable` while Redis is unavailable, and can then be repeated.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis.state
        self._notices = redis  # the Redis with the stream of notices and the time of the last undelete

    async def get(self, media_id: str) -> DeletionRecord | None:
        """Return the record of one media item; None if there is none."""
        key = deletion_key(media_id)
        fields = _fields((await self._redis.run(scripts.READ, (key,)))[0])
        return DELETION.read(fields, key) if fields else None

    async def get_many(self, media_ids: Sequence[str]) -> dict[str, DeletionRecord]:
        """Return the records of these media items, if they have one that this version can read."""
        found: dict[str, DeletionRecord] = {}

        async def read(keys: Sequence[str]) -> None:
            for key, values in zip(keys, await self._redis.run(scripts.READ, keys), strict=True):
                fields = _fields(values)
                record = DELETION.read_or_skip(fields, key) if fields else None
                if record is not None:
                    found[names[key]] = record

        names = {deletion_key(media_id): media_id for media_id in media_ids}
        await self._in_groups(names, read)
        return found

    async def mark(
        self,
        media_ids: Sequence[str],
        *,
        delay_s: float,
        position: str = "",
        lower_bound_ms: int | None = None,
        at_once: bool = False,
    ) -> list[Mark]:
        """Mark media as deleted. Return the valid deletions. A missing one was undeleted after the notice was issued.

        A notice of the stream has a ``position``. A notice of the channel was issued after ``lower_bound_ms``.
        ``at_once``: the objects may be removed now, regardless of undeletes.
        """
        marks: list[Mark] = []
        lower = "" if lower_bound_ms is None else lower_bound_ms
        args = (round(delay_s * 1000), position, lower, int(at_once), STATUS_CHANGES)

        async def write(keys: Sequence[str]) -> None:
            ids = [names[key] for key in keys]
            replies = await self._redis.run(scripts.MARK, keys, (*args, *ids))
            for media_id, reply in zip(ids, replies.decode().split(" "), strict=True):
                fresh, generation, due_ms = reply.split(",")
                if fresh != "-1":
                    marks.append(Mark(media_id, int(generation), int(due_ms), fresh == "1"))

        names = {deletion_key(media_id): media_id for media_id in media_ids}
        await self._in_groups(names, write)
        return marks

    async def note_journaled(self, marks: Sequence[Mark]) -> None:
        """Note that these deletions are in the journal."""
        generations = {deletion_key(each.media_id): each.generation for each in marks}

        async def note(keys: Sequence[str]) -> None:
            await self._redis.run(scripts.NOTE_JOURNALED, keys, [generations[key] for key in keys])

        await self._in_groups(generations, note)

    async def begin_removal(self, media_id: str, generation: int) -> Removal:
        """Begin to remove the objects of one deletion. After that it cannot be undone."""
        args = (generation, STATUS_CHANGES, media_id)
        keys = (deletion_key(media_id), completeness_of(media_id))
        reply, *left_ms = await self._redis.run(scripts.BEGIN_REMOVAL, keys, args)
        return Removal(reply == b"go", int(left_ms[0]) / 1000 if left_ms else 0.0, reply == b"unknown")

    async def finish_removal(self, media_id: str, generation: int, ttl_s: float) -> None:
        """Record that the objects are removed. The record is kept for ``ttl_s``: longer than anything can write them
        again."""
        args = (generation, round(ttl_s * 1000))
        await self._redis.run(scripts.FINISH_REMOVAL, (deletion_key(media_id),), args)

    async def issue_undelete(self) -> Undelete:
        """Begin an undelete of media whose records were read before. See `undelete`.

        In a cluster, wait until no message on the channels can overtake it.
        """
        reply = await self._notices.run(scripts.ISSUE_UNDELETE, (DROP_DELETED, LAST_UNDELETE), (UNDELETES,))
        if await self._notices.is_cluster():
            await trio.sleep(_BUS_S)
        return Undelete(int(reply[0]), reply[1].decode())

    async def undelete(self, media_id: str, generation: int, issued: Undelete) -> bool:
        """As `undelete_all`, for one media item."""
        return media_id in await self.undelete_all({media_id: generation}, issued)

    async def undelete_all(self, generations: Mapping[str, int], issued: Undelete) -> dict[str, tuple[int, int]]:
        """Undo these deletions, given by their generations. Return the media items that are undeleted, each with its
        generation and a time (Unix milliseconds of its Redis) at or after the change of its record.

        A deletion is not undone if there is a newer one of the same media item, or if its removal has begun.
        """
        undeleted: dict[str, tuple[int, int]] = {}
        names = {deletion_key(media_id): media_id for media_id in generations}
        first = (issued.at_ms, issued.position, round(_UNDELETED_S * 1000), STATUS_CHANGES)

        async def write(keys: Sequence[str]) -> None:
            each = [part for key in keys for part in (generations[names[key]], names[key])]
            for key, at_ms in zip(keys, await self._redis.run(scripts.UNDELETE, keys, (*first, *each)), strict=True):
                if at_ms:
                    undeleted[names[key]] = generations[names[key]], int(at_ms)

        await self._in_groups(names, write)
        return undeleted

    async def unfinished(self, marks: Sequence[Mark]) -> set[Mark]:
        """Return the marks whose removal has not ended; a state of a later version counts as such."""
        found: set[Mark] = set()
        by_key: dict[str, list[Mark]] = {}
        for each in marks:
            by_key.setdefault(deletion_key(each.media_id), []).append(each)

        async def read(keys: Sequence[str]) -> None:
            for key, (state, generation, *_) in zip(keys, await self._redis.run(scripts.READ, keys), strict=True):
                if state and state not in _OVER:
                    found.update(each for each in by_key[key] if generation == str(each.generation).encode())

        await self._in_groups(by_key, read)
        return found

    async def restore_marks(self, marks: Sequence[Mark], position: str) -> list[Mark]:
        """Write marks that Redis may have lost; return those that are current."""
        by_id = {mark.media_id: mark for mark in marks}
        current: list[Mark] = []

        async def write(keys: Sequence[str]) -> None:
            each = [by_id[names[key]] for key in keys]
            parts = [part for mark in each for part in (mark.generation, mark.due_ms, mark.media_id)]
            replies = await self._redis.run(scripts.RESTORE, keys, ("marked", position, STATUS_CHANGES, *parts))
            current.extend(mark for mark, is_current in zip(each, replies, strict=True) if is_current)

        names = {deletion_key(media_id): media_id for media_id in by_id}
        await self._in_groups(names, write)
        return current

    async def restore_undeletes(self, generations: Mapping[str, int], issued: Undelete) -> None:
        """Write undeletes again that Redis may have lost, given by media id and generation."""
        first = ("undeleted", issued.at_ms, issued.position, round(_UNDELETED_S * 1000), STATUS_CHANGES)

        async def write(keys: Sequence[str]) -> None:
            parts = [part for key in keys for part in (generations[names[key]], names[key])]
            await self._redis.run(scripts.RESTORE, keys, (*first, *parts))

        names = {deletion_key(media_id): media_id for media_id in generations}
        await self._in_groups(names, write)

    async def _in_groups(self, keys: Iterable[str], run: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """Run a script on groups of keys, each of one cluster slot, a few groups at once."""
        groups = await self._redis.grouped(list(keys), _CHUNK)
        await in_turn([partial(run, group) for group in groups], _AT_ONCE)


def _parse(fields: Mapping[str, str], _key: str) -> DeletionRecord:
    return DeletionRecord(
        DeletionState(fields["state"]),
        int(fields["generation"]),
        int(fields["due"] or 0),
        fields["absorbed"],
        int(fields["undeleted_at"] or 0),
        fields["undeleted_through"],
        bool(fields["unjournaled"]),
    )


DELETION = CustomRecord(
    "deletion",
    DeletionRecord,
    "media_deletion:{<XY>}<id>",
    "readers of `drop_deleted`, workers of deletions, undeletes",
    fields=_FIELDS,
    parse=_parse,
)


def _fields(values: Reply) -> dict[str, str]:
    """Return the fields of a record, empty if there is no record."""
    found = {name: (value or b"").decode(errors="replace") for name, value in zip(_FIELDS, values, strict=True)}
    return found if any(found.values()) else {}
