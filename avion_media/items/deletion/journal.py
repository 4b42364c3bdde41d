"""The journal in the bucket: deletions and undeletes that must survive the loss of Redis.

One object per batch: ``journal/deletions/yyyy/mm/dd/<ulid>.json``, one entry per line. Once a minute the small objects
of a day are joined, so that a replay reads few. An object never changes: the joined one has a key of its own behind
those that it replaces, and is written before they are removed. Deletions are written before their notice is
acknowledged. Undeletes are written after the records are changed, and before they are confirmed. Entries need no order:
a greater generation wins, and of one generation the undelete. The time in a key is when the records were changed, by
the clock of the Redis that holds them: a replay compares it with a time of that clock.

A replay sets an entry that it cannot read aside, below ``journal/unreadable/``, and goes on: a later version wrote it,
or it is damaged. Once a minute the sweep's leader tries to read these again. So a replica of the later version restores
them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import trio
from pydantic import BeforeValidator

from avion_media.backends.store import ListedObject, ObjectStore
from avion_media.backends.store.contents import read_many
from avion_media.common.clock import utc_now
from avion_media.common.errors import ObjectMissing
from avion_media.common.ids import base32, time_prefix, unix_ms_of
from avion_media.common.keys import DELETION_JOURNAL_PREFIX, UNREADABLE_JOURNAL_PREFIX, behind
from avion_media.common.records import JsonRecord, UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.deletion.records import Mark, Undelete

_KEPT_AFTER_DUE = timedelta(days=7)  # a loss of Redis is detected within seconds, and repaired by operators within days
# An undelete outlives its deletion, which a prune may have written again just before it was undone.
_UNDELETES_KEPT_LONGER = timedelta(days=1)
_MAX_BYTES = 16 << 20  # a notice has at most 1 MiB, its journal entry twice that
_DAY = "%Y/%m/%d"
_READ_AT_ONCE = 16
_JOINED_BYTES = 256 << 10  # some 4,000 deletions
_MEDIA_ID = re.compile(rb'\["(\w+)",', re.ASCII)
_PARSED_AT_ONCE = 100  # entries, about 2 ms of the event loop


class JournalKind(StrEnum):
    """What the media of an entry were."""

    MARKED = "marked"
    UNDELETED = "undeleted"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of an object of the journal: media ids with the generations of their deletions, of marks also when each
    is due.

    ``position`` is that of the notice, or of the undelete, whose time is ``at`` (Unix milliseconds).
    """

    kind: JournalKind
    # A later version may add to the three parts of each.
    media: Annotated[tuple[tuple[str, int, int], ...], BeforeValidator(lambda found: [each[:3] for each in found])]
    position: str = ""
    at: int = 0

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The deletions."""
        media = self.media if self.kind is JournalKind.MARKED else ()
        return tuple(Mark(*each, fresh=False, position=self.position) for each in media)

    @property
    def undeleted(self) -> dict[str, int]:
        """The undeleted media, with the generations of their deletions."""
        media = self.media if self.kind is JournalKind.UNDELETED else ()
        return {media_id: generation for media_id, generation, _ in media}

    @property
    def issued(self) -> Undelete | None:
        """The undelete; None in an entry of deletions."""
        return Undelete(self.at, self.position) if self.kind is JournalKind.UNDELETED else None


JOURNAL = JsonRecord(
    "journal",
    JournalEntry,
    f"{DELETION_JOURNAL_PREFIX}<yyyy>/<mm>/<dd>/<ulid>.json",
    "readers of `drop_deleted`, undeletes, the sweep",
)


class DeletionJournal:
    """Writes, reads and removes the entries.

    Every method raises `Unavailable` while the object store is unavailable, and can then be repeated.
    """

    def __init__(self, store: ResourceSlot[ObjectStore], delay_s: float) -> None:
        self._store = store
        self._kept = timedelta(seconds=delay_s) + _KEPT_AFTER_DUE

    async def write_marks(self, marks: Sequence[Mark], position: str) -> None:
        """Record that these media were deleted."""
        if marks:
            media = tuple((each.media_id, each.generation, each.due_ms) for each in marks)
            at_ms = max(each.generation for each in marks)
            await self._write(JournalEntry(JournalKind.MARKED, media, position), at_ms)

    async def write_undeletes(self, undeleted: Mapping[str, tuple[int, int]], issued: Undelete) -> None:
        """Record that these deletions were undone: their generations, and when the records were changed."""
        if undeleted:
            media = tuple((media_id, generation, 0) for media_id, (generation, _) in sorted(undeleted.items()))
            at_ms = max(changed_ms for _, changed_ms in undeleted.values())
            await self._write(JournalEntry(JournalKind.UNDELETED, media, issued.position, issued.at_ms), at_ms)

    async def entries(self, after: str = "") -> AsyncIterator[tuple[str, list[JournalEntry]]]:
        """Iterate over the entries behind a key, in batches. With each batch comes the key that it reaches.

        An entry that cannot be read is set aside.
        """
        async for reached, bodies in self._bodies(after):
            yield reached, [entry for key, body in bodies.items() for entry in await self._parse(key, body)]

    async def media_ids(self) -> AsyncIterator[list[bytes]]:
        """Iterate over the ids of all media that entries name, for a fraction of the CPU time."""
        async for _, bodies in self._bodies():
            for body in bodies.values():
                yield _MEDIA_ID.findall(body)

    async def _bodies(self, after: str = "") -> AsyncIterator[tuple[str, dict[str, bytes]]]:
        """Iterate over the objects behind a key. If one has gone, it was joined with later ones: then the objects from
        there on are listed again."""
        listed_again = True
        while listed_again:
            listed_again = False
            async for page in self._store.get().list_keys(DELETION_JOURNAL_PREFIX, after or None):
                for first in range(0, len(page), _READ_AT_ONCE):
                    batch = page[first : first + _READ_AT_ONCE]
                    bodies = await self._fetch(batch)
                    listed_again = len(bodies) < len(batch)
                    after = after if listed_again else batch[-1]
                    yield after, bodies
                    if listed_again:
                        break
                if listed_again:
                    break

    async def _fetch(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those of these objects that exist."""
        return await read_many(self._store.get(), keys, max_bytes=_MAX_BYTES, at_once=_READ_AT_ONCE)

    async def _parse(self, key: str, body: bytes) -> list[JournalEntry]:
        """Return the entries of an object. Set those aside that cannot be read."""
        lines = body.split(b"\n")
        entries: list[JournalEntry] = []
        unreadable: list[bytes] = []
        for number, line in enumerate(lines):
            if number % _PARSED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            try:
                entries.append(JOURNAL.read(line, key))
            except UnreadableRecord:
                unreadable.append(line)
        if unreadable:
            await self._set_aside(key, lines, unreadable)
        return entries

    async def _set_aside(self, key: str, lines: Sequence[bytes], unreadable: Sequence[bytes]) -> None:
        aside = f"{UNREADABLE_JOURNAL_PREFIX}{key.removeprefix(DELETION_JOURNAL_PREFIX)}"
        await self._put(aside, unreadable)
        if readable := [each for each in lines if each not in unreadable]:
            await self._put(_key_at(_ms_of(key) + 1), readable)
        await self._store.get().delete([key])

    async def set_aside(self) -> AsyncIterator[JournalEntry]:
        """Iterate over the entries that were set aside and that this version can read.

        Each one goes back among the others after its turn, when it is restored.
        """
        store = self._store.get()
        async for page in store.list_keys(UNREADABLE_JOURNAL_PREFIX):
            for key in page:
                with suppress(ObjectMissing):
                    lines = (await store.read(key, max_bytes=_MAX_BYTES)).split(b"\n")
                    entries = [JOURNAL.read_or_skip(each, key) for each in lines]
                    for entry in entries:
                        if entry is not None:
                            yield entry
                    if None not in entries:
                        await self._put(
                            f"{DELETION_JOURNAL_PREFIX}{key.removeprefix(UNREADABLE_JOURNAL_PREFIX)}", lines
                        )
                        await store.delete([key])

    async def compact(self) -> None:
        """Join the small objects of each day."""
        small: list[str] = []
        joined_bytes = 0
        async for page in self._store.get().list(DELETION_JOURNAL_PREFIX):
            for listed in page:
                if listed.size_bytes >= _JOINED_BYTES // 2 or not _has_its_day(listed.key):
                    continue
                joined_bytes += listed.size_bytes
                if small and (_day_of(small[0]) != _day_of(listed.key) or joined_bytes > _JOINED_BYTES):
                    await self._join(small)
                    small, joined_bytes = [], listed.size_bytes
                small.append(listed.key)
        await self._join(small)

    async def _join(self, keys: Sequence[str]) -> None:
        if len(keys) > 1:
            bodies = await self._fetch(keys)
            if len(bodies) == len(keys):  # else another process has joined them
                await self._put(_key_at(_ms_of(keys[-1]) + 1), [bodies[each] for each in keys])
                await self._store.get().delete(keys)

    async def prune(self, unfinished: Callable[[Sequence[Mark]], Awaitable[Collection[Mark]]]) -> int:
        """Remove the objects that are too old to matter. Return how many.

        ``unfinished`` returns the marks whose removal has not ended, for example because the queue is paused. They
        are written again.
        """
        oldest, removed = utc_now() - self._kept, 0
        end = behind(f"{DELETION_JOURNAL_PREFIX}{oldest:{_DAY}}/")  # no object of a later day is as old
        old: list[ListedObject] = []
        async for page in self._store.get().list(DELETION_JOURNAL_PREFIX):
            old += [listed for listed in page if listed.key < end and listed.last_modified < oldest]
            if page and page[-1].key >= end:
                break
        for listed in old:
            for key, body in (await self._fetch([listed.key])).items():
                entries = await self._parse(key, body)
                kept = await unfinished([mark for entry in entries for mark in entry.marks])
                for entry in entries:
                    await self.write_marks([each for each in entry.marks if each in kept], entry.position)
                undeletes = [entry for entry in entries if entry.issued is not None]
                if listed.last_modified >= oldest - _UNDELETES_KEPT_LONGER and undeletes:
                    if len(undeletes) == len(entries):
                        continue
                    await self._put(_key_at(_ms_of(key) + 1), map(JOURNAL.write, undeletes))
                await self._store.get().delete([key])
                removed += 1
        return removed

    async def _write(self, entry: JournalEntry, at_ms: int) -> None:
        await self._put(_key_at(at_ms), [JOURNAL.write(entry)])

    async def _put(self, key: str, lines: Iterable[bytes]) -> None:
        await self._store.get().put(key, b"\n".join(lines), content_type="application/json")


def key_at(time: datetime) -> str:
    """Return a key between those of changes before a time and those of later ones."""
    return f"{DELETION_JOURNAL_PREFIX}{time:{_DAY}}/{time_prefix(round(time.timestamp() * 1000))}"


def _key_at(at_ms: int) -> str:
    """Return a new key for changes at this time."""
    day = datetime.fromtimestamp(at_ms / 1000, UTC)
    ulid = base32(at_ms << 80 | secrets.randbits(80), 26)  # ordered by time, and unique
    return f"{DELETION_JOURNAL_PREFIX}{day:{_DAY}}/{ulid}.json"


def _ms_of(key: str) -> int:
    return unix_ms_of(key.rpartition("/")[2])


def _day_of(key: str) -> str:
    return key.rpartition("/")[0]


def _has_its_day(key: str) -> bool:
    """Return whether a key has the form of `_key_at`. Others stay as they are."""
    try:
        return _day_of(_key_at(_ms_of(key))) == _day_of(key)
    except (ValueError, OverflowError):
        return False
