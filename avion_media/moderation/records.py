"""The records of blocked and held media in the bucket, one JSON object each.

==============================  ======================================================================================
``moderation/blocked/{id}``     the block of one media item, which is valid while this object exists
``moderation/unfinished/{id}``  a block, or its end, that is not completed yet; written before the record
``moderation/lifted/{id}.{t}``  a lifted block, kept for the audit
``moderation/refused/{a}/{b}``  the media item b was blocked because its file is that of a, and ends with that block
``moderation/held/{id}``        a media item that waits for a moderator, or that was unblocked and is not published yet
==============================  ======================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from avion_media.concurrency import in_turn
from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing
from avion_media.moderation.entries import Entry, parse_entry
from avion_media.resources import ResourceSlot
from avion_media.store import ListedObject, ObjectStore

RELEASED = "released"
"""Field of a task that this service adds: the file that a moderator released.

For an upload it is the ETag, for a remote file the SHA-256 of its scrubbed original. Checks apply to other files.
"""
_MAX_BYTES = 4 << 20
_AT_ONCE = 8  # records that are read concurrently


def now() -> str:
    """Return the time, in the form of the records."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class Block:
    """The block of one media item.

    ``by`` is the person who requested it. ``cause`` is the media item that this one is a copy of, or the list that has
    it. ``entries`` are its hashes on the block list. ``size_bytes``, ``etag`` and ``sha256`` are those of its original,
    if there was one, and are used to find copies. ``sizes`` are the names of its thumbnails. ``lifted_at`` and
    ``lifted_by`` are set while the block is being lifted.
    """

    media_id: str
    at: str
    by: str = ""
    note: str = ""
    cause: str = ""
    keep_evidence: bool = True
    entries: tuple[Entry, ...] = ()
    size_bytes: int = 0
    etag: str = ""
    sha256: str = ""
    sizes: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    done: bool = False
    lifted_at: str = ""
    lifted_by: str = ""

    def to_json(self) -> bytes:
        """Return the record as it is stored."""
        return _written({**asdict(self), "entries": [str(each) for each in self.entries]})


@dataclass(frozen=True, slots=True)
class Held:
    """A media item that resembles an entry, or that the hook holds.

    ``match`` is the reason. ``queue`` and ``fields`` are its task, with `RELEASED` after a release. ``pdq`` is in hex,
    or empty. So is ``sha256``, that of the scrubbed original. ``released_at`` is the time of an unblock: then it does
    not wait for a moderator.
    """

    media_id: str
    at: str
    match: str
    queue: str
    fields: Mapping[str, str]
    pdq: str = ""
    sha256: str = ""
    released_at: str = ""
    released_by: str = ""

    @property
    def is_decided(self) -> bool:
        """Whether a moderator has released it, or unblocked it."""
        return RELEASED in self.fields

    def to_json(self) -> bytes:
        """Return the record as it is stored."""
        return _written(asdict(self))


class ModerationRecords:
    """Reads and writes the records. Every method raises `Unavailable` while the store is unavailable."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    async def is_blocked(self, media_id: str) -> bool:
        """Return whether this media item is blocked."""
        return await self._store.get().exists(keys.block(media_id))

    async def block(self, media_id: str) -> Block | None:
        """Return the block of one media item, or None."""
        return await self._block_at(keys.block(media_id))

    async def was_lifted(self, media_id: str, sha256: str) -> bool:
        """Return whether a block of this media item ended whose original had this SHA-256 (in hex)."""
        return any(each.sha256 == sha256 for each in await self.lifted(media_id))

    async def lifted(self, media_id: str) -> list[Block]:
        """Return the blocks of this media item that were lifted, the oldest first."""
        listed = [each async for page in self._store.get().list(f"{keys.LIFTED_PREFIX}{media_id}.") for each in page]
        found = [await self._block_at(each.key) for each in listed]
        return [each for each in found if each is not None]

    async def _block_at(self, key: str) -> Block | None:
        document = await self._read(key)
        if document is None:
            return None
        lists = {name: tuple(document[name]) for name in ("sizes", "copies")}
        entries = tuple(parse_entry(each) for each in document["entries"])
        return Block(**{**document, **lists, "entries": entries})

    async def begin(self, media_id: str) -> None:
        """Record that a block, or its end, begins, so that it is completed even after a crash."""
        await self._put(f"{keys.UNFINISHED_BLOCK_PREFIX}{media_id}", b"")

    async def finish(self, media_id: str) -> None:
        """Record that nothing is left to do."""
        await self._store.get().delete([f"{keys.UNFINISHED_BLOCK_PREFIX}{media_id}"])

    async def unfinished(self) -> list[ListedObject]:
        """Return the records of `begin`. Their keys end in the media ids."""
        return [each async for page in self._store.get().list(keys.UNFINISHED_BLOCK_PREFIX) for each in page]

    async def write_block(self, block: Block) -> None:
        """Write or overwrite a block."""
        await self._put(keys.block(block.media_id), block.to_json())

    async def end_block(self, block: Block) -> None:
        """Move a lifted block to the audit records."""
        moment = block.lifted_at.replace(":", "").replace("+0000", "Z")
        await self._put(f"{keys.LIFTED_PREFIX}{block.media_id}.{moment}", block.to_json())
        await self._store.get().delete([keys.block(block.media_id)])

    async def note_refused(self, original: str, media_id: str) -> None:
        """Note that a media item is refused because its file is that of a blocked original."""
        await self._put(keys.refused(original, media_id), b"")

    async def refused(self, original: str) -> list[str]:
        """Return the media items of `note_refused`."""
        prefix = keys.refused(original)
        return [key.removeprefix(prefix) async for page in self._store.get().list_keys(prefix) for key in page]

    async def forget_refused(self, original: str, media_ids: Iterable[str]) -> None:
        """Remove the notes of `note_refused`."""
        await self._store.get().delete([keys.refused(original, each) for each in media_ids])

    async def held(self, media_id: str) -> Held | None:
        """Return the record of a media item that is held, or unblocked and not published yet."""
        document = await self._read(f"{keys.HELD_PREFIX}{media_id}")
        return None if document is None else Held(**document)

    async def all_held(self, known: Mapping[str, tuple[str, Held]]) -> dict[str, tuple[str, Held]]:
        """Return the records of all held media with their ETags, by media id. ``known`` ones are not read again."""
        found: dict[str, tuple[str, Held]] = {}

        async def read(media_id: str, etag: str) -> None:
            held = await self.held(media_id)
            if held is not None:
                found[media_id] = etag, held

        missing = []
        async for page in self._store.get().list(keys.HELD_PREFIX):
            for listed in page:
                media_id = listed.key.removeprefix(keys.HELD_PREFIX)
                before = known.get(media_id)
                if before is not None and before[0] == listed.etag:
                    found[media_id] = before
                else:
                    missing.append(partial(read, media_id, listed.etag))
        await in_turn(missing, _AT_ONCE)
        return found

    async def blocks(self, after: str, count: int) -> list[Block]:
        """Return the next ``count`` blocks after this media id, in the order of ids."""
        start_after = f"{keys.BLOCK_PREFIX}{after}" if after else None
        pages = self._store.get().list_keys(keys.BLOCK_PREFIX, start_after, page_size=count)
        found: dict[str, Block | None] = {}

        async def read(media_id: str) -> None:
            found[media_id] = await self.block(media_id)

        ids = [key.removeprefix(keys.BLOCK_PREFIX) for key in await anext(pages, [])]
        await in_turn([partial(read, each) for each in ids], _AT_ONCE)
        return [block for each in ids if (block := found[each]) is not None]

    async def write_held(self, held: Held) -> None:
        """Write or overwrite a record."""
        await self._put(f"{keys.HELD_PREFIX}{held.media_id}", held.to_json())

    async def forget_held(self, media_id: str) -> None:
        """Remove a record."""
        await self._store.get().delete([f"{keys.HELD_PREFIX}{media_id}"])

    async def put_entry(self, entry: Entry) -> None:
        """Add an own entry."""
        key = f"{keys.OWN_ENTRY_PREFIX}{entry.hash.hex()}"
        await self._store.get().put(key, f"{entry}\n".encode(), content_type="text/csv")

    async def has_entry(self, entry: Entry) -> bool:
        """Return whether there is this own entry, with this label."""
        try:
            body = await self._store.get().read(f"{keys.OWN_ENTRY_PREFIX}{entry.hash.hex()}", max_bytes=_MAX_BYTES)
        except ObjectMissing:
            return False
        return body.decode(errors="replace").strip() == str(entry)

    async def remove_entry(self, entry: Entry) -> None:
        """Remove an own entry, unless it has another label, and so belongs to another block."""
        if await self.has_entry(entry):
            await self._store.get().delete([f"{keys.OWN_ENTRY_PREFIX}{entry.hash.hex()}"])

    async def _put(self, key: str, body: bytes) -> None:
        await self._store.get().put(key, body, content_type="application/json")

    async def _read(self, key: str) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = json.loads(await self._store.get().read(key, max_bytes=_MAX_BYTES))
        except ObjectMissing:
            return None
        return document


def _written(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
