"""The record of each deletion: one hash per media item, which only the scripts of ``lua/`` change.

docs/deletions.md has the table of states and operations, which a test compares with the scripts, and says which notices
an undelete undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import trio

from avion_media.backends.redis import Argument, Redis, Reply, Script
from avion_media.common.ids import ALPHABET
from avion_media.common.records import CustomRecord
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import scripts
from avion_media.items.state.status_store import deletion_key

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
_BUS_S = 0.1  # how long messages of two cluster nodes can overtake each other
_OVER = (b"removed", b"undeleted")  # states that outlive the journal
_FIELDS = ("state", "generation", "due", "absorbed", "undeleted_at", "undeleted_through")


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
    """One record. Times in Unix milliseconds; positions are those of the stream `drop_deleted`, or empty."""

    state: DeletionState
    generation: int
    due_ms: int
    absorbed: str = ""
    undeleted_at_ms: int = 0
    undeleted_through: str = ""

    @property
    def is_deleted(self) -> bool:
        """Whether the media item is deleted."""
        return self.state is not DeletionState.UNDELETED

    @property
    def is_removed(self) -> bool:
        """Whether its objects are being removed, or are removed."""
        return self.state in (DeletionState.REMOVING, DeletionState.REMOVED)

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
    """A valid deletion. ``fresh``: this call has created it. ``position``: that of its notice, in the journal."""

    media_id: str
    generation: int
    due_ms: int
    fresh: bool
    position: str = ""


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
        for media_id, values in (await self._run(scripts.READ, media_ids)).items():
            fields = _fields(values)
            record = DELETION.read_or_skip(fields, deletion_key(media_id)) if fields else None
            if record is not None:
                found[media_id] = record
        return found

    async def mark(
        self,
        media_ids: Sequence[str],
        *,
        delay_s: float,
        position: str = "",
        lower_bound_ms: int | None = None,
        regardless: bool = False,
    ) -> list[Mark]:
        """Mark media as deleted. Return the valid deletions. A missing one was undeleted after the notice was issued.

        A notice of the stream has a ``position``. A notice of the channel was issued after ``lower_bound_ms``.
        ``regardless``: of undeletes. If an item is marked already, the earlier due time is valid.
        """
        lower = "" if lower_bound_ms is None else lower_bound_ms
        args = (round(delay_s * 1000), position, lower, int(regardless))
        replies = await self._run(
            scripts.MARK, media_ids, args, lambda media_id: (media_id,), lambda reply: reply.decode().split(" ")
        )
        found = ((media_id, *reply.split(",")) for media_id, reply in replies.items())
        return [
            Mark(media_id, int(generation), int(due_ms), fresh == "1")
            for media_id, fresh, generation, due_ms in found
            if fresh != "-1"
        ]

    async def now_ms(self) -> int:
        """Return the time of the server of the notices, which separates a deletion that begins now from undeletes."""
        return int(await self._notices.run(scripts.NOW, (LAST_UNDELETE,)))

    async def begin_removal(self, media_id: str, generation: int) -> Removal:
        """Begin to remove the objects of one deletion. After that it cannot be undone."""
        args = (generation, media_id)
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

    async def undelete(self, generations: Mapping[str, int], issued: Undelete) -> dict[str, tuple[int, int]]:
        """Undo these deletions, given by their generations. Return the media items that are undeleted, each with its
        generation and a time (Unix milliseconds of its Redis) at or after the change of its record.

        A deletion is not undone if there is a newer one of the same media item, or if its removal has begun.
        """
        args = (issued.at_ms, issued.position, round(_UNDELETED_S * 1000))
        replies = await self._run(scripts.UNDELETE, generations, args, lambda each: (generations[each], each))
        return {media_id: (generations[media_id], int(at_ms)) for media_id, at_ms in replies.items() if at_ms}

    async def unfinished(self, marks: Sequence[Mark]) -> set[Mark]:
        """Return the marks whose removal has not ended; a state of a later version counts as such."""
        replies = await self._run(scripts.READ, {each.media_id for each in marks})
        valid = {
            (media_id, int(generation))
            for media_id, (state, generation, *_) in replies.items()
            if state and state not in _OVER
        }
        return {each for each in marks if (each.media_id, each.generation) in valid}

    async def restore_marks(self, marks: Iterable[Mark]) -> list[Mark]:
        """Write marks that Redis may have lost; return those that are current. Of one media item the newest counts, and
        of several due times of it the earliest."""
        by_id = {mark.media_id: mark for mark in sorted(marks, key=lambda each: (each.generation, -each.due_ms))}

        def args_of(media_id: str) -> Sequence[Argument]:
            mark = by_id[media_id]
            return mark.generation, mark.due_ms, media_id, mark.position

        replies = await self._run(scripts.RESTORE, by_id, ("marked",), args_of)
        return [by_id[media_id] for media_id, is_current in replies.items() if is_current]

    async def restore_undeletes(self, generations: Mapping[str, int], issued: Undelete) -> None:
        """Write undeletes again that Redis may have lost, given by media id and generation."""
        args = ("undeleted", issued.at_ms, issued.position, round(_UNDELETED_S * 1000))
        await self._run(scripts.RESTORE, generations, args, lambda each: (generations[each], each))

    async def _run(
        self,
        script: Script,
        media_ids: Collection[str],
        args: Sequence[Argument] = (),
        of_each: Callable[[str], Sequence[Argument]] = lambda _media_id: (),
        split: Callable[[Reply], Sequence[Reply]] = lambda reply: reply or (),
    ) -> dict[str, Reply]:
        """Run a script on the records of these media items. Return its replies by media id."""
        names = {deletion_key(media_id): media_id for media_id in media_ids}
        found = await self._redis.run_in_groups(
            script, list(names), args, of_each=lambda key: of_each(names[key]), split=split
        )
        return {names[key]: reply for key, reply in found.items()}


def _parse(fields: Mapping[str, str], _key: str) -> DeletionRecord:
    return DeletionRecord(
        DeletionState(fields["state"]),
        int(fields["generation"]),
        int(fields["due"] or 0),
        fields["absorbed"],
        int(fields["undeleted_at"] or 0),
        fields["undeleted_through"],
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
