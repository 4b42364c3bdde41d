"""The journal in the bucket: deletions and undeletes that must survive the loss of Redis.

One object per batch: ``journal/deletions/yyyy/mm/dd/<ulid>.json``. Deletions are written before their notice is
acknowledged. Undeletes are written after the records are changed, and before they are confirmed. Entries need no order:
a greater generation wins, and of one generation the undelete. The time in a key is when the records were changed, by
the clock of the Redis that holds them: a replay compares it with a time of that clock.

A replay sets an entry that it cannot read aside, below ``journal/unreadable/``, and goes on: a later version wrote it,
or it is damaged. Once a minute the sweep's leader tries to read these again. So a replica of the later version restores
them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator

from avion_media.backends.store import ListedObject, ObjectStore
from avion_media.common.clock import utc_now
from avion_media.common.concurrency import in_turn
from avion_media.common.errors import ObjectMissing
from avion_media.common.ids import base32, time_prefix
from avion_media.common.keys import DELETION_JOURNAL_PREFIX, UNREADABLE_JOURNAL_PREFIX
from avion_media.common.records import JsonRecord, UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.deletion.records import Mark, Undelete

_KEPT_AFTER_DUE = timedelta(days=7)  # a loss of Redis is detected within seconds, and repaired by operators within days
# An undelete outlives its deletion, which a prune may have written again just before it was undone.
_UNDELETES_KEPT_LONGER = timedelta(days=1)
_MAX_BYTES = 16 << 20  # a notice has at most 1 MiB, its journal entry twice that
_DAY = "%Y/%m/%d"
_READ_AT_ONCE = 16


class JournalKind(StrEnum):
    """What the media of an entry were."""

    MARKED = "marked"
    UNDELETED = "undeleted"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One object of the journal: media ids with the generations of their deletions, of marks also when each is due.

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
        return tuple(Mark(*each, fresh=False) for each in self.media) if self.kind is JournalKind.MARKED else ()

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

    async def entries(self, since: datetime | None = None) -> AsyncIterator[list[JournalEntry]]:
        """Iterate over the entries of changes after ``since``, in batches."""
        after = None
        if since is not None:
            after = f"{DELETION_JOURNAL_PREFIX}{since:{_DAY}}/{time_prefix(round(since.timestamp() * 1000))}"
        async for page in self._store.get().list(DELETION_JOURNAL_PREFIX, after):
            for first in range(0, len(page), _READ_AT_ONCE):
                yield [entry for _, entry in await self._read(page[first : first + _READ_AT_ONCE])]

    async def _read(self, listed: Sequence[ListedObject]) -> list[tuple[ListedObject, JournalEntry]]:
        """Return the entries of these objects. One that cannot be read is set aside."""
        store = self._store.get()
        found: list[tuple[ListedObject, JournalEntry]] = []

        async def read(each: ListedObject) -> None:
            with suppress(ObjectMissing):  # pruned meanwhile
                body = await store.read(each.key, max_bytes=_MAX_BYTES)
                try:
                    found.append((each, JOURNAL.read(body, each.key)))
                except UnreadableRecord:
                    aside = f"{UNREADABLE_JOURNAL_PREFIX}{each.key.removeprefix(DELETION_JOURNAL_PREFIX)}"
                    await store.put(aside, body, content_type="application/json")
                    await store.delete([each.key])

        await in_turn([partial(read, each) for each in listed], _READ_AT_ONCE)
        return found

    async def set_aside(self) -> AsyncIterator[JournalEntry]:
        """Iterate over the entries that were set aside and that this version can read.

        Each one goes back among the others after its turn, when it is restored.
        """
        store = self._store.get()
        async for page in store.list_keys(UNREADABLE_JOURNAL_PREFIX):
            for key in page:
                with suppress(ObjectMissing):
                    body = await store.read(key, max_bytes=_MAX_BYTES)
                    entry = JOURNAL.read_or_skip(body, key)
                    if entry is not None:
                        yield entry
                        back = f"{DELETION_JOURNAL_PREFIX}{key.removeprefix(UNREADABLE_JOURNAL_PREFIX)}"
                        await store.put(back, body, content_type="application/json")
                        await store.delete([key])

    async def prune(self, unfinished: Callable[[Sequence[Mark]], Awaitable[Collection[Mark]]]) -> int:
        """Remove entries that are too old to matter. Return how many.

        ``unfinished`` returns the marks whose removal has not ended, for example because the queue is paused. They
        are written again.
        """
        oldest, removed = utc_now() - self._kept, 0
        pages = self._store.get().list(DELETION_JOURNAL_PREFIX)
        old = [listed async for page in pages for listed in page if listed.last_modified < oldest]
        for first in range(0, len(old), _READ_AT_ONCE):
            entries = await self._read(old[first : first + _READ_AT_ONCE])
            kept = await unfinished([mark for _, entry in entries for mark in entry.marks])
            for _, entry in entries:
                await self.write_marks([each for each in entry.marks if each in kept], entry.position)
            spent = [
                listed.key
                for listed, entry in entries
                if entry.issued is None or listed.last_modified < oldest - _UNDELETES_KEPT_LONGER
            ]
            await self._store.get().delete(spent)
            removed += len(spent)
        return removed

    async def _write(self, entry: JournalEntry, at_ms: int) -> None:
        day = datetime.fromtimestamp(at_ms / 1000, UTC)
        ulid = base32(at_ms << 80 | secrets.randbits(80), 26)  # ordered by time, and unique
        key = f"{DELETION_JOURNAL_PREFIX}{day:{_DAY}}/{ulid}.json"
        await self._store.get().put(key, JOURNAL.write(entry), content_type="application/json")
