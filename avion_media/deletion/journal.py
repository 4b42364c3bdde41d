"""The journal in the bucket: deletions and undeletes that must survive the loss of Redis.

One object per batch: ``journal/deletions/yyyy/mm/dd/<ulid>.json``. Deletions are written before their notice is
acknowledged. Undeletes are written after the records are changed, and before they are confirmed. Entries need no order:
a greater generation wins, and of one generation the undelete.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from avion_media.concurrency import in_turn
from avion_media.deletion.records import Mark, Undelete
from avion_media.domain.errors import ObjectMissing
from avion_media.domain.ids import base32, time_prefix
from avion_media.domain.keys import DELETION_JOURNAL_PREFIX
from avion_media.resources import ResourceSlot
from avion_media.store import ObjectStore

_KEPT_AFTER_DUE = timedelta(days=7)  # a loss of Redis is detected within seconds, and repaired by operators within days
_MAX_BYTES = 16 << 20  # a notice has at most 1 MiB, its journal entry twice that
_DAY = "%Y/%m/%d"
_READ_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One object of the journal: ``marks`` with the position of their notice, or media that were ``undeleted``."""

    marks: tuple[Mark, ...] = ()
    position: str = ""
    undeleted: tuple[tuple[str, int], ...] = ()  # media ids and the generations of their deletions
    issued: Undelete | None = None


class DeletionJournal:
    """Writes, reads and prunes the entries.

    Every method raises `Unavailable` while the object store is unavailable, and can then be repeated.
    """

    def __init__(self, store: ResourceSlot[ObjectStore], delay_s: float) -> None:
        self._store = store
        self._kept = timedelta(seconds=delay_s) + _KEPT_AFTER_DUE

    async def write_marks(self, marks: Sequence[Mark], position: str) -> None:
        """Record that these media were deleted."""
        if marks:
            listed = [[each.media_id, each.generation, each.due_ms] for each in marks]
            await self._write({"marked": listed, "position": position})

    async def write_undeletes(self, undeleted: Sequence[tuple[str, int]], issued: Undelete) -> None:
        """Record that these deletions were undone."""
        if undeleted:
            listed = [list(each) for each in undeleted]
            await self._write({"undeleted": listed, "at": issued.at_ms, "position": issued.position})

    async def entries(self, since: datetime | None = None) -> AsyncIterator[list[JournalEntry]]:
        """Iterate over the entries that were written after ``since``, in batches."""
        store, oldest = self._store.get(), datetime.now(UTC) - self._kept
        after = f"{DELETION_JOURNAL_PREFIX}{max(oldest, since or oldest):{_DAY}}"
        if since is not None and since > oldest:
            after += f"/{time_prefix(round(since.timestamp() * 1000))}"

        async def read(key: str, found: list[JournalEntry]) -> None:
            with suppress(ObjectMissing):  # pruned meanwhile
                found.append(_read(await store.read(key, max_bytes=_MAX_BYTES)))

        async for page in store.list(DELETION_JOURNAL_PREFIX, after):
            for first in range(0, len(page), _READ_AT_ONCE):
                chunk = page[first : first + _READ_AT_ONCE]
                found: list[JournalEntry] = []
                await in_turn([partial(read, listed.key, found) for listed in chunk], _READ_AT_ONCE)
                yield found

    async def prune(self) -> int:
        """Remove entries that are too old to matter. Return how many."""
        store = self._store.get()
        oldest = datetime.now(UTC) - self._kept
        to_delete = [
            listed.key
            async for page in store.list(DELETION_JOURNAL_PREFIX)
            for listed in page
            if listed.last_modified < oldest
        ]
        await store.delete(to_delete)
        return len(to_delete)

    async def _write(self, document: dict[str, object]) -> None:
        key = f"{DELETION_JOURNAL_PREFIX}{datetime.now(UTC):{_DAY}}/{_ulid()}.json"
        body = json.dumps(document, separators=(",", ":")).encode()
        await self._store.get().put(key, body, content_type="application/json")


def _read(body: bytes) -> JournalEntry:
    document = json.loads(body)
    if "marked" in document:
        marks = tuple(Mark(media_id, generation, due_ms, False) for media_id, generation, due_ms in document["marked"])
        return JournalEntry(marks=marks, position=document["position"])
    return JournalEntry(
        undeleted=tuple((media_id, generation) for media_id, generation in document["undeleted"]),
        issued=Undelete(document["at"], document["position"]),
    )


def _ulid() -> str:
    """Return milliseconds and 80 random bits in Crockford's base32: ordered by time, and unique."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return base32(bits, 26)
