"""The journal in the bucket: deletions, and what was undeleted, that not even the loss of Redis may undo.

One object per batch: ``journal/deletions/yyyy/mm/dd/<ulid>.json``. It is written before the notice is acknowledged, and
before an undelete is committed. Entries need no order: a record says by its generation which of two is newer.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from avion_media.deletion.records import Mark, Undelete
from avion_media.domain.errors import ObjectMissing
from avion_media.domain.ids import ALPHABET
from avion_media.domain.keys import DELETION_JOURNAL_PREFIX
from avion_media.resources import Slot
from avion_media.store import ObjectStore

_KEPT_AFTER_DUE = timedelta(days=7)  # a loss of Redis is noticed within seconds, and restored by operators within days
_MAX_BYTES = 16 << 20  # a notice has at most 1 MiB, its journal entry twice that
_DAY = "%Y/%m/%d"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What one object says: ``marks`` with the position of their notice, or media that were ``undeleted``."""

    marks: tuple[Mark, ...] = ()
    position: str = ""
    undeleted: tuple[tuple[str, int], ...] = ()  # media ids and the generations of their deletions
    issued: Undelete | None = None


class DeletionJournal:
    """Every method raises `Unavailable` while the store is unavailable, and can be repeated then."""

    def __init__(self, store: Slot[ObjectStore], delay_s: float) -> None:
        self._store = store
        self._kept = timedelta(seconds=delay_s) + _KEPT_AFTER_DUE

    async def write_marks(self, marks: Sequence[Mark], position: str) -> None:
        """Write down that these media were deleted."""
        if marks:
            listed = [[each.media_id, each.generation, each.due_ms] for each in marks]
            await self._write({"marked": listed, "position": position})

    async def write_undeletes(self, undeleted: Sequence[tuple[str, int]], issued: Undelete) -> None:
        """Write down that these deletions are undone."""
        if undeleted:
            listed = [list(each) for each in undeleted]
            await self._write({"undeleted": listed, "at": issued.at_ms, "position": issued.position})

    async def entries(self) -> AsyncIterator[JournalEntry]:
        """Read all entries that are kept."""
        oldest = datetime.now(UTC) - self._kept
        async for page in self._store.get().list(DELETION_JOURNAL_PREFIX, f"{DELETION_JOURNAL_PREFIX}{oldest:{_DAY}}"):
            for listed in page:
                try:
                    yield _read(await self._store.get().read(listed.key, max_bytes=_MAX_BYTES))
                except ObjectMissing:
                    continue  # pruned meanwhile

    async def prune(self) -> int:
        """Remove the entries that are too old to matter; return how many."""
        store = self._store.get()
        oldest = datetime.now(UTC) - self._kept
        doomed = [
            listed.key
            async for page in store.list(DELETION_JOURNAL_PREFIX)
            for listed in page
            if listed.last_modified < oldest
        ]
        await store.delete(doomed)
        return len(doomed)

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
    """Milliseconds and 80 random bits in Crockford's base32: in the order of time, and unique."""
    bits = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(ALPHABET[bits >> shift & 31] for shift in range(125, -1, -5))
