"""The own entries in the bucket: ``blocklist/own/{n}.csv``, pages of ``type,hash,label,media_id``.

The entries of one block are on one page, chosen by its media id: a block costs one write, and two blocks rarely write
the same page. A page is changed by a conditional write, so that no change is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256

from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation.entries import Entry, InvalidEntry, parse_entry

PAGES = 32  # 20,000 entries are 600 lines a page, and a process reads all of them with 33 requests
MAX_PAGE_BYTES = 64 << 20
_ATTEMPTS = 20
_Lines = dict[str, str]
"""The lines of a page, by the identities of their entries."""


class OwnEntries:
    """Adds and removes own entries. Raises `Unavailable`; both can be repeated."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    async def add(self, entries: Sequence[Entry]) -> None:
        """Add entries of one block, unless it has added them before."""
        await self._change(entries, lambda known, mine: mine | known)

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Remove entries of one block. Those of other blocks stay, even with the same hash."""
        await self._change(entries, lambda known, mine: {each: known[each] for each in known if each not in mine})

    async def _change(self, entries: Sequence[Entry], changed: Callable[[_Lines, _Lines], _Lines]) -> None:
        if not entries:
            return
        store, key = self._store.get(), page_of(entries[0])
        mine = {_identity(each): str(each) for each in entries}
        for _ in range(_ATTEMPTS):
            known, etag = dict[str, str](), None
            with suppress(ObjectMissing):
                part = await store.read_part(key, max_bytes=MAX_PAGE_BYTES)
                lines = bytes(part.data).decode(errors="replace").splitlines()
                known, etag = {_identity_of_line(line): line for line in lines}, part.info.etag
            after = changed(known, mine)
            if after == known:
                return
            body = "".join(f"{line}\n" for line in after.values()).encode()
            with suppress(PreconditionFailed):  # another block has changed the page, or this write was repeated
                await store.put(key, body, content_type="text/csv", only_if_absent=etag is None, if_match=etag)
                return
        raise Unavailable(Dependency.OBJECT, f"{key} is changed again and again")


def page_of(entry: Entry) -> str:
    """Return the key of the page that has this entry."""
    number = sha256((entry.media_id or entry.hash.hex()).encode()).digest()[0] % PAGES
    return f"{keys.OWN_ENTRY_PREFIX}{number:02}.csv"


def _identity(entry: Entry) -> str:
    return f"{entry.type},{entry.hash.hex()},{entry.media_id}"


def _identity_of_line(line: str) -> str:
    """Return the identity of the entry in a line; the line itself if this version cannot read it."""
    try:
        return _identity(parse_entry(line))
    except InvalidEntry:
        return line
