"""The block lists of the bucket, in memory: ``blocklist/*.csv`` and the pages of own entries, by their ETags.

Exact hashes are sorted in one buffer for each first byte, which takes 33 to 34 bytes per SHA-256; a set of `bytes`
takes three times as much. Small buffers also keep each sort short, because a sort holds the interpreter's lock.

PDQ hashes are integers that are compared one by one, in a thread: XOR and bit count of 100,000 take about 10 ms of CPU.
An index over parts of the hashes would be faster, and several times as large. What is made of the lists is made once
for each change, in a thread too. These threads let the event loop run from time to time.
"""

from __future__ import annotations

import os
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

import trio

from avion_media.backends.files import open_spool
from avion_media.backends.redis import Redis, as_text
from avion_media.backends.store import ListedObject, ObjectStore, TooLarge
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.errors import ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation.entries import (
    EXACT,
    MAX_PAGE_BYTES,
    Entry,
    HashType,
    InvalidEntry,
    OwnEntries,
    parse_list,
)
from avion_media.items.moderation.records import ModerationRecords
from trio_redis import run_all
from trio_telemetry import get_logger

MATCH_DAYS: Final = 30
"""For how many days matches are counted."""
_MATCHES: Final = "media_list_matches:"
MAX_DISTANCE = 31  # maximum differing bits (of 256) of two PDQ hashes of the same image (Meta's recommendation)
MIN_QUALITY = 50  # of 100: an image below it has too little structure for a meaningful hash (Meta's recommendation)
_YIELD_EVERY = 200  # entries after which the thread lets the event loop run

OWN = "own"
"""The name of the list of own entries."""
_MAX_LIST_BYTES = 1 << 30
_AT_ONCE = 8
_SMALL = 5_000  # hashes that are compared in less than a millisecond, which does not need a thread
_log = get_logger()
T = TypeVar("T")
CHANNEL = "media_blocks"
"""Channel: the id of a media item whose block begins or ends, or nothing where only a list changed."""
_GENERATION = "media_blocks:changes"


class DigestSet:
    """A set of digests of one length."""

    def __init__(self, digests: Iterable[bytes], size_bytes: int) -> None:
        self._size = size_bytes
        shards: list[bytearray] = [bytearray() for _ in range(256)]
        for digest in _yielding(digests):
            shards[digest[0]] += digest
        self._shards = [b"".join(sorted(set(_split(shard, size_bytes)))) for shard in shards]

    def __len__(self) -> int:
        return sum(map(len, self._shards)) // self._size

    def __contains__(self, digest: bytes) -> bool:
        shard, size = self._shards[digest[0]], self._size

        def at(index: int) -> bytes:
            return shard[index * size : (index + 1) * size]

        return at(bisect_left(range(len(shard) // size), digest, key=at)) == digest


@dataclass(frozen=True, slots=True)
class Likenesses:
    """PDQ hashes."""

    hashes: tuple[int, ...] = ()

    @classmethod
    def of(cls, digests: Iterable[bytes]) -> Likenesses:
        """Make a set of these digests."""
        return cls(tuple(int.from_bytes(each) for each in _yielding(dict.fromkeys(digests))))

    def __len__(self) -> int:
        return len(self.hashes)

    def nearest(self, digest: bytes) -> tuple[int, bytes] | None:
        """Return the distance to the nearest hash, and that hash; None if none is within `MAX_DISTANCE`."""
        looked_for = int.from_bytes(digest)
        near: list[int] = []
        for first in range(0, len(self.hashes), _YIELD_EVERY):
            some = self.hashes[first : first + _YIELD_EVERY]
            near += [each for each in some if (each ^ looked_for).bit_count() <= MAX_DISTANCE]
            time.sleep(0)
        if not near:
            return None
        best = min(near, key=lambda each: (each ^ looked_for).bit_count())
        return (best ^ looked_for).bit_count(), best.to_bytes(32)


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that matches a media item. ``distance`` is that of PDQ hashes, in bits; 0 for exact matches.

    ``media_id`` is the media item whose block added it, if it is an own entry.
    """

    list: str
    type: HashType
    hash: bytes
    label: str = ""
    distance: int = 0
    media_id: str = ""

    def __str__(self) -> str:
        near = f" at distance {self.distance}" if self.type is HashType.PDQ else ""
        named = self.label or self.media_id
        label = f" ({named})" if named else ""
        return f"{self.type} {self.hash.hex()} of list {self.list}{label}{near}"


@dataclass(frozen=True, slots=True)
class _List:
    etag: str
    exact: Mapping[HashType, DigestSet] = field(default_factory=dict)
    likenesses: Likenesses = field(default_factory=Likenesses)
    labels: Mapping[bytes, str] = field(default_factory=dict)  # of PDQ hashes that have one


@dataclass(frozen=True, slots=True)
class _Own:
    """The own entries of all pages, by their hashes. Of several with the same hash, the greatest media id counts."""

    exact: Mapping[tuple[HashType, bytes], Entry] = field(default_factory=dict)
    alike: Mapping[bytes, Entry] = field(default_factory=dict)
    likenesses: Likenesses = field(default_factory=Likenesses)

    @classmethod
    def of(cls, pages: Iterable[Sequence[Entry]]) -> _Own:
        """Make it of all pages. Runs in a thread."""
        found: dict[tuple[HashType, bytes], Entry] = {}
        for each in _yielding(each for page in pages for each in page):
            former = found.get((each.type, each.hash))
            if former is None or former.media_id < each.media_id:
                found[each.type, each.hash] = each
        alike = {each.hash: each for each in _yielding(found.values()) if each.type is HashType.PDQ}
        exact = {key: each for key, each in _yielding(found.items()) if each.type in EXACT}
        return cls(exact, alike, Likenesses.of(alike))


class Changes:
    """Raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, media_id: str = "") -> None:
        """Make all replicas read the bucket again. They answer 451 for this media item from now on."""
        await self._redis.execute("SET", _GENERATION, uuid4().hex, when_full=True)
        await self._redis.execute("PUBLISH", CHANNEL, media_id)

    async def generation(self) -> bytes:
        """Return a value that differs after each `note`, and after a loss of Redis. No value comes twice."""
        while not (found := await self._redis.execute("GET", _GENERATION)):
            await self._redis.execute("SET", _GENERATION, uuid4().hex, "NX", when_full=True)
        return bytes(found)


class MatchCounts:
    """How often media have matched each list, by day, for a month: a figure for moderators, which Redis can lose."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, name: str) -> None:
        """Count a match of a list. Nothing is counted while Redis is unavailable."""
        key = _matches_on(utc_now())
        with suppress(Unavailable):
            await self._redis.execute("HINCRBY", key, name, 1)
            await self._redis.execute("EXPIRE", key, MATCH_DAYS * 86_400)

    async def last_days(self) -> Counter[str]:
        """Return the matches of each list on the last `MATCH_DAYS` days. Raises `Unavailable`."""
        found: Counter[str] = Counter()
        for age in range(MATCH_DAYS):
            counts = as_text(await self._redis.execute("HGETALL", _matches_on(utc_now() - timedelta(days=age))))
            found.update({name: int(count) for name, count in counts.items()})
        return found


def _matches_on(day: datetime) -> str:
    return f"{_MATCHES}{day:%Y-%m-%d}"


class Blocklists:
    """The block lists, as of the last `reload`."""

    def __init__(self, store: ResourceSlot[ObjectStore], changes: Changes) -> None:
        self._store = store
        self._changes = changes
        self._records = ModerationRecords(store)
        self._own_pages = OwnEntries(store)
        self._lists: dict[str, _List] = {}
        self._pages: dict[str, tuple[str, list[Entry]]] = {}  # of own entries, by key: its ETag, and its entries
        self._own = _Own()
        self._generation: bytes | None = None
        self._lock = trio.Lock()

    @property
    def types(self) -> frozenset[HashType]:
        """The types of hashes in any list; no others need to be computed."""
        found = {kind for kind, _ in self._own.exact} | {kind for each in self._lists.values() for kind in each.exact}
        alike = self._own.likenesses or any(each.likenesses for each in self._lists.values())
        return frozenset(found | {HashType.PDQ} if alike else found)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of entries of each list, by type."""
        found = {
            name: {**{str(kind): len(each) for kind, each in one.exact.items()}, "pdq": len(one.likenesses)}
            for name, one in self._lists.items()
        }
        own = {str(kind): sum(each is kind for each, _ in self._own.exact) for kind in EXACT}
        return {**found, OWN: {**own, "pdq": len(self._own.likenesses)}}

    def own_entries(self) -> list[Entry]:
        """Return the own entries, ordered by their hashes."""
        entries = (each for _, page in self._pages.values() for each in page)
        return sorted(entries, key=lambda each: (each.hash, each.media_id))

    async def add_own(self, entry: Entry) -> bool:
        """Add an own entry. Return False if its hash exists already. All replicas read it at once."""
        await self.refresh()
        if any(each.hash == entry.hash for each in self.own_entries()):
            return False
        await self._own_pages.add([entry])
        await self._changes.note()
        await self.reload()
        return True

    async def remove_own(self, entry: Entry) -> bool:
        """Remove an own entry, also from the record of its block, which otherwise adds it again.

        Return False if it does not exist. All replicas read the change at once.
        """
        await self.refresh()
        if entry not in self.own_entries():
            return False
        block = await self._records.block(entry.media_id) if entry.media_id else None
        if block is not None and block.removes:
            await self._records.change(block, entries=tuple(each for each in block.entries if each != entry))
        await self._own_pages.remove([entry])
        await self._changes.note()
        await self.reload()
        return True

    async def refresh(self) -> bytes:
        """Reload if a block or a change of a list was announced since the last reload. Return the generation."""
        generation = await self._changes.generation()
        if generation != self._generation:
            await self.reload(unless=generation)
        return generation

    async def reload(self, *, unless: bytes | None = None) -> None:
        """Read new and changed lists. Raises `Unavailable`; the loaded lists then stay.

        ``unless``: not if another reload has read this generation meanwhile.
        """
        async with self._lock:
            if unless is not None and self._generation == unless:
                return
            generation = await self._changes.generation()  # first, so that changes made meanwhile are read again
            listed = [each async for page in self._store.get().list(keys.BLOCKLIST_PREFIX) for each in page]
            await self._read_own([each for each in listed if each.key.startswith(keys.OWN_ENTRY_PREFIX)])
            await self._read_lists({name: each for each in listed if (name := _list_name(each.key))})
            self._generation = generation

    def exact(self, digests: Mapping[HashType, bytes]) -> Match | None:
        """Return an entry with one of these digests of a file, or None."""
        for kind, digest in digests.items():
            own = self._own.exact.get((kind, digest))
            if own is not None:
                return Match(OWN, kind, digest, own.named, media_id=own.media_id)
            for name, each in self._lists.items():
                if kind in each.exact and digest in each.exact[kind]:
                    return Match(name, kind, digest)
        return None

    async def alike(self, digest: bytes) -> list[Match]:
        """Return the nearest entry of each list that is near enough to this PDQ hash."""
        own = self._own
        lists = {**{name: each.likenesses for name, each in self._lists.items()}, OWN: own.likenesses}
        candidates = {name: each for name, each in lists.items() if each}
        if sum(map(len, candidates.values())) > _SMALL:
            found = await trio.to_thread.run_sync(_nearest, candidates, digest)
        else:
            found = _nearest(candidates, digest)
        matches = []
        for name, (distance, near) in found.items():
            entry = own.alike[near] if name == OWN else None
            label = self._lists[name].labels.get(near, "") if entry is None else entry.label
            matches.append(Match(name, HashType.PDQ, near, label, distance, "" if entry is None else entry.media_id))
        return matches

    async def _read_own(self, listed: list[ListedObject]) -> None:
        before = self._pages
        found = {each.key: before[each.key] for each in listed if before.get(each.key, ("",))[0] == each.etag}

        async def read(key: str) -> None:
            try:
                part = await self._store.get().read_part(key, max_bytes=MAX_PAGE_BYTES)
            except ObjectMissing:
                return  # removed meanwhile
            except TooLarge as error:
                _log.error("blocklist.too_large", list=key, problem=str(error))
                return
            async with one_at_a_time:
                read = await trio.to_thread.run_sync(_parse_page, bytes(part.data))
            found[key] = part.info.etag, [each for each in read if isinstance(each, Entry)]
            _log_malformed(key, [each for each in read if not isinstance(each, Entry)])

        one_at_a_time = trio.Lock()  # several such threads would leave the event loop little time
        await run_all([partial(read, each.key) for each in listed if each.key not in found], _AT_ONCE)
        if found != before:
            self._own = await trio.to_thread.run_sync(_Own.of, [page for _, page in found.values()])
            self._pages = found

    async def _read_lists(self, listed: Mapping[str, ListedObject]) -> None:
        found = {name: each for name, each in self._lists.items() if name in listed}
        for name, each in listed.items():
            if name not in found or found[name].etag != each.etag:
                loaded = await self._read_list(name, each)
                if loaded is not None:
                    found[name] = loaded
        self._lists = found

    async def _read_list(self, name: str, listed: ListedObject) -> _List | None:
        with open_spool() as fd:
            try:
                store = self._store.get()
                await store.download(listed.key, fd, max_bytes=_MAX_LIST_BYTES, if_match=listed.etag)
            except (ObjectMissing, PreconditionFailed):
                return None  # replaced or removed meanwhile: the next reload reads it
            except TooLarge as error:
                _log.error("blocklist.too_large", list=name, problem=str(error))
                return None
            loaded, malformed = await trio.to_thread.run_sync(_parse, os.dup(fd), listed.etag)
        _log_malformed(name, malformed)
        counts = {str(kind): len(each) for kind, each in loaded.exact.items()}
        _log.info("blocklist.loaded", list=name, malformed=len(malformed), **counts, pdq=len(loaded.likenesses))
        return loaded


def _log_malformed(name: str, malformed: Sequence[tuple[int, InvalidEntry]]) -> None:
    for number, invalid in malformed[:3]:
        _log.warning("blocklist.malformed", list=name, line=number, problem=str(invalid))


def _parse_page(data: bytes) -> list[Entry | tuple[int, InvalidEntry]]:
    """Read a page of own entries. Runs in a thread."""
    return list(_yielding(parse_list(data.decode(errors="replace").splitlines())))


def _yielding(items: Iterable[T]) -> Iterator[T]:
    """Iterate in a thread, and release the interpreter's lock from time to time."""
    for index, each in enumerate(items):
        if index % _YIELD_EVERY == 0:
            time.sleep(0)
        yield each


def _nearest(candidates: Mapping[str, Likenesses], digest: bytes) -> dict[str, tuple[int, bytes]]:
    found = {name: each.nearest(digest) for name, each in candidates.items()}
    return {name: near for name, near in found.items() if near is not None}


def _list_name(key: str) -> str:
    """The name of the list under a key; empty for other objects."""
    name = key.removeprefix(keys.BLOCKLIST_PREFIX)
    return name.removesuffix(".csv") if name.endswith(".csv") and "/" not in name else ""


def _parse(fd: int, etag: str) -> tuple[_List, list[tuple[int, InvalidEntry]]]:
    """Read a list, and close ``fd``. Runs in a thread, and releases the interpreter's lock from time to time."""
    digests: dict[HashType, bytearray] = {kind: bytearray() for kind in HashType}
    labels: dict[bytes, str] = {}
    malformed: list[tuple[int, InvalidEntry]] = []
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, encoding="utf-8", errors="replace") as lines:
        for each in _yielding(parse_list(lines)):
            if isinstance(each, Entry):
                digests[each.type] += each.hash
                if each.label and each.type is HashType.PDQ:
                    labels[each.hash] = sys.intern(each.label)  # many entries share one
            else:
                malformed.append(each)
    split = {kind: _split(joined, kind.size_bytes) for kind, joined in digests.items()}
    exact = {kind: DigestSet(split[kind], kind.size_bytes) for kind in EXACT if digests[kind]}
    return _List(etag, exact, Likenesses.of(split[HashType.PDQ]), labels), malformed


def _split(joined: bytearray, size: int) -> Iterator[bytes]:
    return (bytes(joined[first : first + size]) for first in range(0, len(joined), size))
