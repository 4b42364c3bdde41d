"""The records of blocked and held media in the bucket.

==============================  ======================================================================================
``moderation/blocked/{id}``     the block of one media item, with its state; it stays when the block has ended
``moderation/watched/{id}``     an index: this block is in progress, or it ended or was completed a short time ago
``moderation/refused/{a}/{b}``  an index: the media item b was blocked because its file is that of a
``moderation/sources/{s}/{id}`` an index: media that are blocked, by their owner or host
``moderation/shown/{id}``       an index: this blocked remote file was public before; the origin reads nothing else of
                                remote files without an object
``moderation/held/{id}``        a media item that waits for a moderator
``moderation/reported/{id}``    a notice about a media item, until it is blocked or the notice is dismissed
==============================  ======================================================================================

The state of a block is one field of one record, and nothing else decides. docs/moderation.md has the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer

from avion_media.backends.store import ListedObject, ObjectStore
from avion_media.backends.store.contents import find, read_if_there, read_many, read_version
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.errors import Dependency, PreconditionFailed, Reason, Unavailable
from avion_media.common.ids import AnyId, MediaId, RemoteId
from avion_media.common.records import JsonRecord, UnreadableRecord
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import State, Status
from avion_media.items.moderation.entries import Entry, parse_entry
from guarded_fetch import InvalidUrl, parse_remote_url

RELEASED = "released"
"""Field of a task that this service adds: the file that a moderator released.

For an upload it is the ETag, for a remote file the SHA-256 of its scrubbed original. Checks apply to other files.
"""
_MAX_BYTES = 4 << 20
DECIDED_WITHIN = timedelta(hours=48)
"""The time after a notice in which something must be blocked: that of the TAKE IT DOWN Act."""
_CLOCKS_DIFFER = timedelta(minutes=5)  # this clock, and that of the mailbox of notices
_MAX_EARLIER = 100  # earlier blocks that a record keeps


def now() -> str:
    """Return the time, in the form of the records."""
    return moment(utc_now())


def moment(at: datetime) -> str:
    """Return a time in the form of the records: UTC, so that they sort as their texts do."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def notice_time(at: datetime) -> str:
    """Return when a notice arrived, in the form of the records. Raises ValueError for a time that has not come."""
    if at > utc_now() + _CLOCKS_DIFFER:
        raise ValueError("it must have passed")
    return moment(at)


class Ground(StrEnum):
    """Why something is blocked, in the terms of the law or of the site. The names are those of `BlockGround`."""

    UNSPECIFIED = ""
    TERMS = "terms"
    ILLEGAL = "illegal"
    CHILD_SAFETY = "child_safety"
    NONCONSENSUAL = "nonconsensual"
    TERROR = "terror"
    COPYRIGHT = "copyright"
    COURT_ORDER = "court_order"
    OTHER = "other"


class BlockState(StrEnum):
    """The state of a block."""

    REMOVING = "removing"
    REMOVED = "removed"
    RESTORING = "restoring"
    LIFTED = "lifted"


CHANGES: Final[Mapping[BlockState | None, frozenset[BlockState]]] = {
    None: frozenset({BlockState.REMOVING}),
    BlockState.REMOVING: frozenset({BlockState.REMOVED, BlockState.RESTORING}),
    BlockState.REMOVED: frozenset({BlockState.RESTORING}),
    BlockState.RESTORING: frozenset({BlockState.LIFTED, BlockState.REMOVING}),
    BlockState.LIFTED: frozenset({BlockState.REMOVING}),
}
"""The states that may follow each state; None: there is no record yet."""


class Superseded(Unavailable):
    """Another process has changed the block since this one read it, and continues it."""

    def __init__(self, media_id: str) -> None:
        super().__init__(Dependency.OBJECT, f"another process has changed the block of {media_id}")


@dataclass(frozen=True, slots=True)
class Ended:
    """An earlier block of the same media item, which was lifted. For the fields see `Block`."""

    at: str
    by: str = ""
    note: str = ""
    cause: str = ""
    sha256: str = ""
    lifted_at: str = ""
    lifted_by: str = ""
    lifted_note: str = ""
    ground: Ground = Ground.UNSPECIFIED
    requested_at: str = ""
    automated: bool = False


StoredEntry = Annotated[
    Entry,
    BeforeValidator(lambda value: parse_entry(value) if isinstance(value, str) else value),
    PlainSerializer(str),
]
"""An entry as its line of a list."""


@dataclass(frozen=True, slots=True)
class Resembled:
    """The entry that a held media item resembles. ``distance``: of the two PDQ hashes, in bits. ``media_id``: the media
    item whose block added the entry, if it is an own one."""

    list: str
    hash: str
    distance: int
    label: str = ""
    media_id: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """The block of one media item.

    ``by`` is the person who requested it. ``requested_at`` is when the notice arrived that asks for it, ``ground`` why,
    and ``automated`` whether no person decided. ``cause`` is the media item that this one is a copy of, or the list
    that has it. ``entries`` are its hashes on the own list. ``size_bytes``, ``etag`` and ``sha256`` are those of its
    original, if there was one, and are used to find copies. ``sizes`` are the names of its thumbnails. ``lifted_at``,
    ``lifted_by`` and ``lifted_note`` say who lifted it, and why. ``source`` is ``owner/NAME``, ``host/NAME``, or empty
    if neither is known. ``match`` is the reason for which it was held, and ``matched`` the entry that it resembled.
    ``released`` is the ETag of the upload that was put back to be processed, if the media item was blocked before it
    was published. ``earlier`` are earlier blocks, the oldest first.

    ``version_id`` is the ETag of the record, and ``unknown`` has the fields of a later version. Neither is stored.
    """

    media_id: str
    at: str
    state: BlockState = BlockState.REMOVING
    by: str = ""
    note: str = ""
    cause: str = ""
    discard_evidence: bool = False
    ground: Ground = Ground.UNSPECIFIED
    requested_at: str = ""
    automated: bool = False
    entries: tuple[StoredEntry, ...] = ()
    size_bytes: int = 0
    etag: str = ""
    sha256: str = ""
    sizes: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    lifted_at: str = ""
    lifted_by: str = ""
    lifted_note: str = ""
    source: str = ""
    match: str = ""
    matched: Resembled | None = None
    released: str = ""
    earlier: tuple[Ended, ...] = ()
    version_id: Annotated[str, Field(exclude=True)] = field(default="", compare=False)
    unknown: Annotated[Mapping[str, Any], Field(exclude=True)] = field(default_factory=dict, compare=False)

    @property
    def in_force(self) -> bool:
        """Whether nothing of the media item may be served."""
        return self.state is not BlockState.LIFTED

    @property
    def removes(self) -> bool:
        """Whether its objects must be removed."""
        return self.state in (BlockState.REMOVING, BlockState.REMOVED)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in (BlockState.REMOVED, BlockState.LIFTED)

    def ended(self) -> tuple[Ended, ...]:
        """Return the earlier blocks, and this one if it was lifted."""
        if self.state is not BlockState.LIFTED:
            return self.earlier
        mine = {each.name: getattr(self, each.name) for each in fields(Ended)}
        return (*self.earlier, Ended(**mine))[-_MAX_EARLIER:]

    def allows(self, sha256: str, upload_etag: str) -> bool:
        """Return whether a moderator has lifted the block of this very file, so that the lists do not apply to it."""
        if self.in_force:
            return False
        is_released = bool(upload_etag) and upload_etag == self.released
        return is_released or (bool(sha256) and any(each.sha256 == sha256 for each in self.ended()))


@dataclass(frozen=True, slots=True)
class Held:
    """A media item that resembles an entry, or that the hook holds.

    ``match`` is the reason. ``queue`` and ``fields`` are its task, with `RELEASED` after a release. ``pdq`` is in hex,
    or empty. So is ``sha256``, that of the scrubbed original. ``entry`` is None for the hook's. The others are facts of
    the file, for the moderator.
    """

    media_id: str
    at: str
    match: str
    queue: str
    fields: Mapping[str, str]
    pdq: str = ""
    sha256: str = ""
    entry: Resembled | None = None
    content_type: str = ""
    size_bytes: int = 0
    width: int = 0
    height: int = 0

    @property
    def host(self) -> str:
        """The server of a remote file, empty for an upload."""
        return host_of(self.fields)

    @property
    def owner(self) -> str:
        """The owner of an upload, empty if it has none."""
        return self.fields.get("owner", "")

    @property
    def source(self) -> str:
        """The owner or host, as `Block.source`."""
        return f"owner/{self.owner}" if self.owner else f"host/{self.host}" if self.host else ""

    @property
    def is_decided(self) -> bool:
        """Whether a moderator has released it."""
        return RELEASED in self.fields


def host_of(task: Mapping[str, str]) -> str:
    """Return the server of the remote file that the fields of a task name, empty for an upload."""
    with suppress(InvalidUrl):
        return parse_remote_url(task.get("remote_url", "")).host
    return ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A report about a media item, about which nobody has decided. ``at`` is when ``by`` recorded it.

    ``requested_at`` is when it arrived, if it is known.
    """

    media_id: str
    at: str
    report: str = ""
    by: str = ""
    requested_at: str = ""

    @property
    def due(self) -> datetime:
        """The end of the time in which somebody must decide."""
        return datetime.fromisoformat(self.requested_at or self.at) + DECIDED_WITHIN

    @property
    def hours_left(self) -> float:
        """Hours until that end; negative after it."""
        return (self.due - utc_now()) / timedelta(hours=1)


BLOCK: Final = JsonRecord("block", Block, f"{keys.BLOCK_PREFIX}<id>", "moderators, workers")
HELD: Final = JsonRecord("held", Held, f"{keys.HELD_PREFIX}<id>", "workers, moderators")
NOTICE: Final = JsonRecord("notice", Notice, f"{keys.NOTICE_PREFIX}<id>", "moderators")
T = TypeVar("T")
Versions = Mapping[str, tuple[str, T]]
"""Records with their ETags, by media id."""


def write_block(block: Block) -> bytes:
    """Return a block as it is stored. Fields of a later version that have no meaning here are kept."""
    return json.dumps({**block.unknown, **json.loads(BLOCK.write(block))}, separators=(",", ":")).encode()


class ModerationRecords:
    """Reads and writes the records. Every method raises `Unavailable` while the store is unavailable.

    A method that reads one record raises `UnreadableRecord` if it cannot be read; one that reads many skips it.
    """

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    # -- blocks

    async def is_blocked(self, media_id: str) -> bool:
        """Return whether nothing of this media item may be served. A block that cannot be read is in force."""
        try:
            block = await self.block(media_id)
        except UnreadableRecord:
            return True
        return block is not None and block.in_force

    async def block(self, media_id: str) -> Block | None:
        """Return the block of one media item, or None if it never had one."""
        key = keys.block(media_id)
        found = await read_version(self._store.get(), key, max_bytes=_MAX_BYTES)
        if found is None:
            return None
        raw, etag = found
        block = BLOCK.read(raw, key)
        unknown = {name: value for name, value in json.loads(raw).items() if name not in BLOCK.fields}
        return replace(block, version_id=etag, unknown=unknown)

    async def change(self, block: Block, **changes: Any) -> Block:
        """Write a block with these changes, over the version of it that was read. Return it as it is stored.

        Raises `Superseded` if another process has changed it since.
        """
        changed, before = replace(block, **changes), block.state if block.version_id else None
        if changed.state is not before and changed.state not in CHANGES[before]:
            raise ValueError(f"a block never goes from {before} to {changed.state}")
        key, body = keys.block(block.media_id), write_block(changed)
        try:
            etag = await self._store.get().put(
                key,
                body,
                content_type="application/json",
                only_if_absent=not block.version_id,
                if_match=block.version_id or None,
            )
        except PreconditionFailed:
            found = await read_version(self._store.get(), key, max_bytes=_MAX_BYTES)
            if found is None or found[0] != body:  # else it is this write, whose response was lost
                raise Superseded(block.media_id) from None
            etag = found[1]
        return replace(changed, version_id=etag)

    async def confirm(self, block: Block) -> None:
        """Raise `Superseded` if another process has changed the block. Called before each step that destroys."""
        stored = await find(self._store.get(), keys.block(block.media_id))
        if stored is None or stored.etag != block.version_id:
            raise Superseded(block.media_id)

    async def blocks(self, after: str, count: int) -> list[Block]:
        """Return the next ``count`` blocks in force after this media id, in the order of ids."""
        start_after = f"{keys.BLOCK_PREFIX}{after}" if after else None
        blocks: list[Block] = []
        async for page in self._store.get().list_keys(keys.BLOCK_PREFIX, start_after, page_size=count):
            found = await read_many(self._store.get(), page, max_bytes=_MAX_BYTES)
            read = (BLOCK.read_or_skip(found[key], key) for key in page if key in found)
            blocks += [block for block in read if block is not None and block.in_force]
            if len(blocks) >= count:
                break
        return blocks[:count]

    # -- the indexes of blocks

    async def watch(self, media_id: str) -> None:
        """Let all processes look at this block again, until some time from now. Called before it changes."""
        await self._put(f"{keys.WATCHED_PREFIX}{media_id}", b"")

    async def unwatch(self, media_id: str) -> None:
        """End that."""
        await self._store.get().delete([f"{keys.WATCHED_PREFIX}{media_id}"])

    async def watched(self) -> list[ListedObject]:
        """Return the objects of `watch`. Their keys end in the media ids."""
        return [each async for page in self._store.get().list(keys.WATCHED_PREFIX) for each in page]

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

    async def note_public(self, any_id: AnyId, block: Block) -> None:
        """Note that a remote file had a public original when it was blocked."""
        if block.etag and isinstance(any_id, RemoteId):
            await self._put(keys.was_public(any_id, deleted=False), b"")

    async def forget_public(self, any_id: AnyId) -> None:
        """Remove the note of `note_public`."""
        if isinstance(any_id, RemoteId):
            await self._store.get().delete([keys.was_public(any_id, deleted=False)])

    async def note_source(self, block: Block) -> None:
        """Note that something of its owner or host is blocked."""
        if block.source:
            await self._put(keys.blocked_of(block.source, block.media_id), b"")

    async def forget_source(self, block: Block) -> None:
        """Remove the note of `note_source`."""
        if block.source:
            await self._store.get().delete([keys.blocked_of(block.source, block.media_id)])

    async def blocked_of(self, source: str) -> list[str]:
        """Return the media of an owner or host that are blocked, at most a thousand."""
        prefix = keys.blocked_of(source)
        return [key.removeprefix(prefix) for key in await anext(self._store.get().list_keys(prefix), [])]

    # -- media that are held

    async def held(self, media_id: str) -> Held | None:
        """Return the record of a media item that is held."""
        key = f"{keys.HELD_PREFIX}{media_id}"
        raw = await read_if_there(self._store.get(), key, max_bytes=_MAX_BYTES)
        return None if raw is None else HELD.read(raw, key)

    async def all_held(self, known: Versions[Held]) -> Versions[Held]:
        """Return the records of all held media. ``known`` ones are not read again."""
        return await self._all(keys.HELD_PREFIX, HELD, known)

    async def all_notices(self, known: Versions[Notice]) -> Versions[Notice]:
        """Return all notices. ``known`` ones are not read again."""
        return await self._all(keys.NOTICE_PREFIX, NOTICE, known)

    async def _all(self, prefix: str, record: JsonRecord[T], known: Versions[T]) -> Versions[T]:
        listed = {each.key: each.etag async for page in self._store.get().list(prefix) for each in page}
        same = {media_id: each for media_id, each in known.items() if listed.get(f"{prefix}{media_id}") == each[0]}
        unknown = (key for key in listed if key.removeprefix(prefix) not in same)
        read = await read_many(self._store.get(), unknown, max_bytes=_MAX_BYTES)
        found = {key: record.read_or_skip(raw, key) for key, raw in read.items()}
        new = {key.removeprefix(prefix): (listed[key], each) for key, each in found.items() if each is not None}
        return {**same, **new}

    async def write_held(self, held: Held) -> None:
        """Write or overwrite a record."""
        await self._put(_held_key(held.media_id), HELD.write(held))

    async def forget_held(self, media_id: str) -> None:
        """Remove a record."""
        await self._store.get().delete([_held_key(media_id)])

    async def notice(self, media_id: str) -> Notice | None:
        """Return the notice about a media item."""
        key = f"{keys.NOTICE_PREFIX}{media_id}"
        raw = await read_if_there(self._store.get(), key, max_bytes=_MAX_BYTES)
        return None if raw is None else NOTICE.read(raw, key)

    async def write_notice(self, notice: Notice) -> None:
        """Write or overwrite a notice."""
        await self._put(f"{keys.NOTICE_PREFIX}{notice.media_id}", NOTICE.write(notice))

    async def forget_notice(self, media_id: str) -> None:
        """Remove a notice."""
        await self._store.get().delete([f"{keys.NOTICE_PREFIX}{media_id}"])

    async def _put(self, key: str, body: bytes) -> None:
        await self._store.get().put(key, body, content_type="application/json")


def _held_key(media_id: str) -> str:
    return f"{keys.HELD_PREFIX}{media_id}"


class ModerationStatus:
    """Reads the bucket. Its coroutines raise `Unavailable` while the store is unavailable.

    It knows the media that are watched: their block, or its end, is in progress, or changed a short time ago. Their
    records decide, not their objects.
    """

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store
        self._records = ModerationRecords(store)
        self._listed: frozenset[str] = frozenset()
        self._notified: set[str] = set()

    def watch(self, media_id: str) -> None:
        """Watch a media item that this process works on, or that another process has announced."""
        self._notified.add(media_id)

    async def reload(self) -> dict[str, ListedObject]:
        """Read the index in the bucket, and return it. Media that are added meanwhile stay until the next time."""
        before, self._notified = self._notified, set()
        try:
            listed = await self._records.watched()
        except BaseException:
            self._notified |= before
            raise
        found = {each.key.removeprefix(keys.WATCHED_PREFIX): each for each in listed}
        self._listed = frozenset(found)
        return found

    async def is_blocked_despite_objects(self, media_id: str) -> bool:
        """Return whether the media item is blocked although its objects are there. That is possible for a short time
        after a change of its block; of other media items nothing is read."""
        is_watched = media_id in self._listed or media_id in self._notified
        return is_watched and await self.is_blocked(media_id)

    async def is_blocked(self, media_id: str) -> bool:
        """Return whether the media item is blocked. So is one whose record cannot be read."""
        return await self._records.is_blocked(media_id)

    async def status(self, any_id: AnyId) -> Status | None:
        """Return the status of a media item without an original that is blocked or held, otherwise None."""
        media_id = str(any_id)
        try:
            block = await self._records.block(media_id)
        except UnreadableRecord:
            return Status(media_id, State.FAILED, reason=Reason.BLOCKED)
        if block is not None and block.in_force:
            return Status(media_id, State.FAILED, reason=Reason.BLOCKED)
        with suppress(UnreadableRecord):
            if await self._records.held(media_id) is None:
                if block is None or not block.released or not isinstance(any_id, MediaId):
                    return None
                waits = await self._store.get().exists(keys.incoming(any_id))
                return Status(media_id, State.PROCESSING) if waits else None
        return Status(media_id, State.PROCESSING, reason=Reason.HELD)
