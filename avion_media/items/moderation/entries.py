"""Entries of block lists: ``type,hash,label``, one per line (docs/contract.md, section 3).

Own entries have ``type,hash,label,media_id``: the block of that media item added them. They are in
``blocklist/own/{n}.csv``, and those of one block are on one page, chosen by its media id: a block costs one write, and
two blocks rarely write the same page. A page is changed by a conditional write, so that no change is lost.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import trio

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import change_object
from avion_media.common import keys
from avion_media.common.resources import ResourceSlot

_MAX_LABEL = 200
_HASH_UNIT_BYTES = 1 << 20

PAGES = 16  # 20,000 entries are 1,250 lines a page, and a process reads all of them with 17 requests
MAX_PAGE_BYTES = 64 << 20
_Lines = dict[str, str]
"""The lines of a page, by the identities of their entries."""


class HashType(StrEnum):
    """The type of hash of an entry: of the bytes of a file, or of its appearance."""

    SHA256 = "sha256"
    MD5 = "md5"
    PDQ = "pdq"

    @property
    def size_bytes(self) -> int:
        """The length of a hash of this type."""
        return 16 if self is HashType.MD5 else 32


EXACT = (HashType.SHA256, HashType.MD5)
"""The types that are hashes of bytes."""


class InvalidEntry(ValueError):
    """Not an entry of a block list."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``label`` is for operators. ``media_id`` is the media item whose block added it, if one did."""

    type: HashType
    hash: bytes
    label: str = ""
    media_id: str = ""

    def __str__(self) -> str:
        text = io.StringIO()
        fields = (self.type, self.hash.hex(), self.label, *([self.media_id] if self.media_id else []))
        csv.writer(text, lineterminator="").writerow(fields)
        return text.getvalue()

    @property
    def named(self) -> str:
        """What operators know it by: its label, or the media item."""
        return self.label or self.media_id


def parse_entry(line: str) -> Entry:
    """Read one line. The label can be missing, and so can the media item. Raises `InvalidEntry`."""
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error as error:
        raise InvalidEntry(str(error)) from None
    if not 2 <= len(fields) <= 4:
        raise InvalidEntry("expected type,hash,label")
    try:
        kind = HashType(fields[0].strip().lower())
    except ValueError:
        raise InvalidEntry(f"the type must be one of {', '.join(HashType)}") from None
    try:
        digest = bytes.fromhex(fields[1].strip())
    except ValueError:
        digest = b""
    if len(digest) != kind.size_bytes:
        raise InvalidEntry(f"a hash of type {kind} has {2 * kind.size_bytes} hex digits")
    label, media_id = (each.strip()[:_MAX_LABEL] for each in (*fields[2:], "", "")[:2])
    return Entry(kind, digest, label, media_id)


def parse_list(lines: Iterable[str]) -> Iterator[Entry | tuple[int, InvalidEntry]]:
    """Read a list. Return its entries, and the numbers of invalid lines. Comments and a header are skipped."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#") or (number == 1 and text.lower().startswith("type,hash")):
            continue
        try:
            yield parse_entry(text)
        except InvalidEntry as error:
            yield number, error


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
        mine = {_identity(each): str(each) for each in entries}

        def change(page: bytes | None) -> bytes | None:
            lines = (page or b"").decode(errors="replace").splitlines()
            known = {_identity_of_line(line): line for line in lines}
            after = changed(known, mine)
            return None if after == known else "".join(f"{line}\n" for line in after.values()).encode()

        store, key = self._store.get(), page_of(entries[0])
        await change_object(store, key, change, content_type="text/csv", max_bytes=MAX_PAGE_BYTES)


def page_of(entry: Entry) -> str:
    """Return the key of the page that has this entry."""
    number = hashlib.sha256((entry.media_id or entry.hash.hex()).encode()).digest()[0] % PAGES
    return f"{keys.OWN_ENTRY_PREFIX}{number:02}.csv"


def _identity(entry: Entry) -> str:
    return f"{entry.type},{entry.hash.hex()},{entry.media_id}"


def _identity_of_line(line: str) -> str:
    """Return the identity of the entry in a line; the line itself if this version cannot read it."""
    try:
        return _identity(parse_entry(line))
    except InvalidEntry:
        return line


async def hash_file(fd: int, size_bytes: int, kinds: Iterable[HashType]) -> dict[HashType, bytes]:
    """Return these digests of a file. Runs in a thread; a cancel waits for it."""
    return await trio.to_thread.run_sync(_hash_file, os.dup(fd), size_bytes, list(kinds))


def _hash_file(fd: int, size_bytes: int, kinds: Sequence[HashType]) -> dict[HashType, bytes]:
    # Lists of other organisations have MD5 hashes; no security depends on them.
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    offset = 0
    try:
        while offset < size_bytes and (chunk := os.pread(fd, _HASH_UNIT_BYTES, offset)):
            for digest in digests.values():
                digest.update(chunk)
            offset += len(chunk)
    finally:
        os.close(fd)
    return {kind: digest.digest() for kind, digest in digests.items()}
