"""Blocks media, and lifts blocks. Both are lists of steps that can be repeated, so a crash at any step is repaired.

A block: record that it begins, write its record, make the origins answer 451, put its hashes on the own list, copy the
evidence, remove the objects, purge, find and block the copies, remove what was written meanwhile, publish the event,
record that it is done. After the first two steps it is certain: the node `moderation` of any replica completes
unfinished blocks. After the objects are removed, only the bucket is needed: the origin finds no object, looks for a
record, and responds with 451.

Copies are found by listing: the store returns size and ETag of 1,000 objects per request. See docs/decisions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import trio

from avion_media.domain import keys
from avion_media.domain.errors import (
    Dependency,
    MediaError,
    ObjectMissing,
    PreconditionFailed,
    Reason,
    Rejected,
    Unavailable,
)
from avion_media.domain.ids import AnyId, InvalidId, MediaId, RemoteId, parse_any_id
from avion_media.domain.media import ThumbnailSize, possible_sizes
from avion_media.domain.owners import owner_of
from avion_media.domain.protocols import PurgeRequests
from avion_media.domain.tasks import PROCESSING_QUEUE, State, Status, processing_fields
from avion_media.files import open_spool
from avion_media.moderation.changes import Changes
from avion_media.moderation.entries import Entry, HashType
from avion_media.moderation.evidence import Evidence
from avion_media.moderation.likeness import BIG_ENOUGH
from avion_media.moderation.records import RELEASED, Block, Held, ModerationRecords, now
from avion_media.owners import OwnerIndex
from avion_media.queue import TaskQueue
from avion_media.redis import Lock, Redis
from avion_media.resources import ResourceSlot
from avion_media.state import FAILED_TTL_S, MediaEvents, RemoteStateStore, StatusStore
from avion_media.store import ListedObject, ObjectInfo, ObjectStore, TooLarge, stored_facts
from avion_media.telemetry import get_logger

MAX_NOTE = 1000  # characters
_MAX_HASHED_BYTES = 5 << 30
_MAX_PICTURE_BYTES = 16 << 20
_HASH_UNIT_BYTES = 1 << 20
_log = get_logger()


class NotBlocked(MediaError):
    """This media item is not blocked."""


PictureHash = Callable[[bytes], Awaitable[bytes | None]]
"""Computes the PDQ hash of a thumbnail; None for an image with too little structure."""


class Underway:
    """Media whose block, or its end, is in progress in some process. Their objects may still exist."""

    def __init__(self) -> None:
        self._listed: frozenset[str] = frozenset()
        self._notified: set[str] = set()

    def __contains__(self, media_id: str) -> bool:
        return media_id in self._listed or media_id in self._notified

    def add(self, media_id: str) -> None:
        """Add a media item that this process works on, or that another process has announced."""
        self._notified.add(media_id)

    async def reload(self, records: ModerationRecords) -> list[ListedObject]:
        """Read the unfinished ones from the bucket. Media that are added meanwhile stay until the next time."""
        before, self._notified = self._notified, set()
        try:
            found = await records.unfinished()
        except BaseException:
            self._notified |= before
            raise
        self._listed = frozenset(each.key.removeprefix(keys.UNFINISHED_BLOCK_PREFIX) for each in found)
        return found


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Why a media item is blocked, by whom, and the hashes to put on the block list.

    ``entries`` are the hashes; None: those of its files. ``cause``: see `Block`. ``match`` is the own entry that
    refuses its file, if one does.
    """

    by: str = ""
    note: str = ""
    cause: str = ""
    keep_evidence: bool = True
    entries: tuple[Entry, ...] | None = None
    match: Entry | None = None


class Blocking:
    """Blocks media, and lifts blocks.

    Methods raise `Unavailable` while the store or Redis is unavailable. Unfinished steps are completed later.

    ``claim_s``: a process that has not continued a block for this long counts as dead.
    """

    def __init__(
        self,
        store: ResourceSlot[ObjectStore],
        redis: Redis,
        purges: PurgeRequests,
        events: MediaEvents,
        underway: Underway,
        picture_hash: PictureHash,
        sizes: Sequence[ThumbnailSize],
        claim_s: float,
    ) -> None:
        self._store = store
        self._redis = redis
        self._purges = purges
        self._events = events
        self._underway = underway
        self._picture_hash = picture_hash
        self._sizes = tuple(sizes)
        self._statuses = StatusStore(redis)
        self._changes = Changes(redis)
        self._claim_s = claim_s
        # By then a live process has its claim, even if Redis failed at first.
        self._abandoned = timedelta(seconds=claim_s / 3)
        self._records = ModerationRecords(store)
        self._evidence = Evidence(store)
        self._owners = OwnerIndex(store)

    async def block(self, any_id: AnyId, why: Unwanted) -> int:
        """Block a media item and its copies. Return the number of copies. An existing block is not changed.

        When it returns, no origin serves the media item. After `Unavailable` the block may be recorded; then it is
        completed as soon as possible. Waits while another task blocks or unblocks the media item.

        Raises `Unavailable` also if the entry that refuses it was removed meanwhile.
        """
        block = await self._records.block(str(any_id))
        if block is None or not block.done or block.lifted_at:
            async with self._claimed(any_id):
                if why.match is not None:
                    await self._note_refused(any_id, why.match)
                block = await self._block(any_id, why)
        return len(block.copies)

    async def enforce(self, any_id: AnyId) -> bool:
        """Remove what was written of a media item after its block. Return whether it is blocked.

        While the block is being lifted, nothing is removed: that could be what was restored. Raises `Unavailable`
        instead of waiting while another task blocks or unblocks the media item.
        """
        media_id = str(any_id)
        if not await self._records.is_blocked(media_id):
            return False
        claim = self._claim(media_id)
        if not await claim.acquire():
            raise Unavailable(Dependency.OBJECT, "another task blocks or unblocks it")
        async with claim.held():
            block = await self._records.block(media_id)
            if block is None or block.lifted_at:
                return False
            await self._remove(any_id, block)
            return True

    async def unblock(self, any_id: AnyId, by: str = "") -> None:
        """Lift a block, and the blocks of its copies. Raises `NotBlocked`.

        The evidence is served again. Without evidence nothing of the media item is left. Waits while another task
        blocks or unblocks the media item.
        """
        media_id = str(any_id)
        if await self._records.block(media_id) is None:
            raise NotBlocked(media_id)
        async with self._claimed(any_id):
            block = await self._records.block(media_id)
            if block is not None:  # nobody else has unblocked it meanwhile
                await self._begin_lift(any_id, replace(block, lifted_at=now(), lifted_by=by))

    async def resume(self, *, abandoned_only: bool = True) -> None:
        """Complete unfinished blocks whose process seems to have crashed, or all of them."""
        listed = await self._underway.reload(self._records)
        old = [each for each in listed if datetime.now(UTC) - each.last_modified >= self._abandoned]
        chosen = old if abandoned_only else listed
        await _each([each.key.removeprefix(keys.UNFINISHED_BLOCK_PREFIX) for each in chosen], self._resume)

    async def _resume(self, any_id: AnyId) -> None:
        media_id = str(any_id)
        claim = self._claim(media_id)
        if not await claim.acquire():
            return
        async with claim.held():
            block = await self._records.block(media_id)
            if block is None:  # it never became valid, or its end is nearly done
                await self._queue_released(any_id)
                await self._records.finish(media_id)
            elif block.lifted_at:
                await self._lift(any_id, block)
            elif block.done:
                await self._records.finish(media_id)
            else:
                await self._carry_out(any_id, block)
        _log.warning("moderation.block_resumed", media_id=media_id)

    def _claim(self, media_id: str) -> Lock:
        """One task at a time blocks or unblocks a media item, or enforces its block. Otherwise one could remove what
        the other restores."""
        return Lock(self._redis, f"media_block_claim:{media_id}", ttl_s=self._claim_s)

    @asynccontextmanager
    async def _claimed(self, any_id: AnyId) -> AsyncIterator[None]:
        """Wait for the claim, and hold it during the body. If Redis is unavailable, begin without the claim.

        Raises `Unavailable` if Redis becomes unavailable while another task has the claim.
        """
        claim = self._claim(str(any_id))
        is_free = True
        with suppress(Unavailable):
            is_free = await claim.acquire()
        if not is_free:
            await claim.wait()
        async with claim.held():
            yield

    @asynccontextmanager
    async def _copy_claimed(self, block: Block, copy: str) -> AsyncIterator[None]:
        """Claim a copy as well. Raises `Unavailable` if another task has it and may wait for this one.

        Only tasks whose media id is smaller than that of the copy wait, so two tasks never wait for each other.
        """
        claim = self._claim(copy)
        if copy > block.media_id:
            await claim.wait()
        elif not await claim.acquire():
            raise Unavailable(Dependency.OBJECT, f"another task works on its copy {copy}")
        async with claim.held():
            yield

    # -- a block

    async def _block(self, any_id: AnyId, why: Unwanted) -> Block:
        """Block a media item that this task has claimed."""
        media_id = str(any_id)
        block = await self._records.block(media_id)
        if block is None:
            block = await self._record_of(any_id, why)
        elif block.lifted_at:  # its end was interrupted
            block = replace(
                block,
                at=now(),
                by=why.by,
                note=why.note,
                cause=why.cause,
                keep_evidence=why.keep_evidence,
                lifted_at="",
                lifted_by="",
                done=False,
            )
        elif block.done:
            return block
        await self._records.begin(media_id)
        await self._records.write_block(block)
        _log.warning("moderation.blocking", media_id=media_id, by=block.by, note=block.note, cause=block.cause)
        return await self._carry_out(any_id, block)

    async def _note_refused(self, any_id: AnyId, match: Entry) -> None:
        """Note that an own entry refuses a media item, if the entry is of the block of another one, which is its label.

        An unblock removes the entries before it reads the notes, and then waits for the claim of each media item. So
        either it lifts this block, or this finds no entry.
        """
        original = match.label
        if original == str(any_id) or _parsed(original) is None:
            return
        await self._records.note_refused(original, str(any_id))
        if not await self._records.has_entry(match):
            raise Unavailable(Dependency.OBJECT, "the entry that refused it was removed")

    async def _record_of(self, any_id: AnyId, why: Unwanted) -> Block:
        info = await self._head(keys.original(any_id))
        facts = None if info is None else stored_facts(info)
        sizes = facts.thumbnails if facts is not None and facts.thumbnails else possible_sizes(self._sizes)
        sha256 = "" if facts is None else facts.sha256
        entries = why.entries if why.entries is not None else await self._hashes_of(any_id, info, sha256, sizes)
        return Block(
            str(any_id),
            now(),
            by=why.by,
            note=why.note,
            cause=why.cause,
            keep_evidence=why.keep_evidence,
            entries=entries,
            size_bytes=0 if info is None else info.size_bytes,
            etag="" if info is None else info.etag,
            sha256=sha256,
            sizes=sizes,
        )

    async def _hashes_of(
        self, any_id: AnyId, info: ObjectInfo | None, sha256: str, sizes: Sequence[str]
    ) -> tuple[Entry, ...]:
        """Return the hashes of the original, or of the uploaded or held file, and its PDQ hash."""
        label = str(any_id)
        places = [] if info is None else [info.key]
        places += [keys.incoming(any_id)] if isinstance(any_id, MediaId) else []
        places.append(self._evidence.upload_key(any_id))
        digest = bytes.fromhex(sha256) if sha256 else None
        for key in places:
            digest = digest or await self._sha256(key)
        held = await self._records.held(label)
        pdq = bytes.fromhex(held.pdq) if held is not None and held.pdq else await self._pdq(any_id, sizes)
        found = (HashType.SHA256, digest), (HashType.PDQ, pdq)
        return tuple(Entry(kind, value, label) for kind, value in found if value)

    async def _sha256(self, key: str) -> bytes | None:
        with open_spool() as fd:
            try:
                info = await self._store.get().download(key, fd, max_bytes=_MAX_HASHED_BYTES)
            except (ObjectMissing, TooLarge):
                return None
            digests = await hash_file(fd, info.size_bytes, [HashType.SHA256])
            return digests[HashType.SHA256]

    async def _pdq(self, any_id: AnyId, sizes: Sequence[str]) -> bytes | None:
        """Return the PDQ hash, or None if it cannot be computed. Then altered copies are not found, but the block is
        valid."""
        large = [size.name for size in self._sizes if size.longest_edge >= BIG_ENOUGH]
        for size in (each for each in dict.fromkeys((*large, *sizes)) if each in sizes):
            try:
                picture = await self._store.get().read(keys.thumbnail(any_id, size), max_bytes=_MAX_PICTURE_BYTES)
                return await self._picture_hash(picture)
            except ObjectMissing:
                continue
            except (Unavailable, Rejected) as error:
                _log.warning("moderation.block_without_pdq", media_id=str(any_id), problem=str(error))
                return None
        return None

    async def _carry_out(self, any_id: AnyId, block: Block) -> Block:
        media_id = block.media_id
        self._underway.add(media_id)
        with suppress(Unavailable):  # without Redis other processes serve it until its objects are removed
            await self._changes.note(media_id)
            await self._publish_blocked(media_id)
        for entry in block.entries:
            await self._records.put_entry(entry)
        await self._remove(any_id, block)
        await self._changes.note(media_id)
        await self._records.forget_held(media_id)
        await self._purges.request(media_id, f"blocked.{block.at}", block.sizes)
        if not block.cause:
            block = await self._block_copies(block)
        await self._remove(any_id, block)  # what a worker wrote before it noticed the block, and could not `enforce` it
        details = {"copies": len(block.copies), **({"cause": block.cause} if block.cause else {})}
        await self._events.publish("media.blocked", media_id, details, dedup_key=f"blocked.{block.at}")
        block = replace(block, done=True)
        await self._records.write_block(block)
        await self._records.finish(media_id)
        await self._changes.note()
        _log.warning("moderation.blocked", media_id=media_id, copies=len(block.copies), evidence=block.keep_evidence)
        return block

    async def _publish_blocked(self, media_id: str) -> None:
        """Publish the block. First forget another status, such as READY: without one, readers find the block in the
        bucket."""
        status = await self._statuses.get(media_id)
        if status is None or status.reason is not Reason.BLOCKED:
            await self._statuses.forget(media_id)
            await self._statuses.put(Status(media_id, State.FAILED, reason=Reason.BLOCKED), ttl_s=FAILED_TTL_S)

    async def _remove(self, any_id: AnyId, block: Block) -> None:
        """Keep the evidence, remove everything that is served, and publish the block."""
        if block.keep_evidence:
            await self._evidence.keep(any_id, self._sizes_of(block))
            await self._evidence.keep_record(any_id, block.to_json())
        else:
            await self._evidence.remove(any_id)  # of a held media item
        await self._remove_objects(any_id, block)
        await self._publish_blocked(block.media_id)

    async def _remove_objects(self, any_id: AnyId, block: Block) -> None:
        await self._disown(any_id)
        await self._store.get().delete(keys.all_of(any_id, self._sizes_of(block)))

    def _sizes_of(self, block: Block) -> Iterable[str]:
        return dict.fromkeys((*block.sizes, *possible_sizes(self._sizes)))

    async def _disown(self, any_id: AnyId) -> None:
        """Remove it from its owner's index, before its original is removed."""
        info = await self._head(keys.original(any_id))
        owner = "" if info is None else owner_of(info.metadata)
        if owner and isinstance(any_id, MediaId):
            await self._owners.remove(owner, any_id)

    async def _own_again(self, any_id: AnyId) -> None:
        """Add it to its owner's index, before its original is restored."""
        kept = await self._evidence.original(any_id)
        owner = "" if kept is None else owner_of(kept[0].metadata)
        if kept is not None and owner and isinstance(any_id, MediaId):
            await self._owners.add(owner, any_id, kept[1])

    async def _block_copies(self, block: Block) -> Block:
        """Block every media item whose original is the same file. Return the block with their ids.

        They are recorded before they are blocked. Otherwise, if this process were killed in between, the next process
        would not find the copies that this one had removed.
        """
        found = await self._find_copies(block)
        known = await self._records.block(block.media_id) or block  # another process may have recorded some meanwhile
        block = replace(known, copies=tuple(dict.fromkeys((*known.copies, *found))))
        if block != known:
            await self._records.write_block(block)
        why = Unwanted(block.by, block.note, block.media_id, block.keep_evidence, ())

        async def block_copy(copy: AnyId) -> None:
            async with self._copy_claimed(block, str(copy)):
                await self._block(copy, why)

        await _each(block.copies, block_copy)
        return block

    async def _find_copies(self, block: Block) -> list[str]:
        """Return the ids of the media whose original has the same size, and the same ETag or SHA-256."""
        copies: list[str] = []
        if not block.size_bytes:
            return copies
        for prefix in (keys.ORIGINAL_PREFIX, keys.CACHED_REMOTE_PREFIX):
            async for page in self._store.get().list(prefix):
                for listed in page:
                    media_id = listed.key.rpartition("/")[2].partition(".")[0]
                    if media_id != block.media_id and _parsed(media_id) and await self._is_copy(listed, block):
                        copies.append(media_id)
        return copies

    async def _is_copy(self, listed: ListedObject, block: Block) -> bool:
        if listed.size_bytes != block.size_bytes:
            return False
        if listed.etag == block.etag:
            return True
        info = (
            await self._head(listed.key) if block.sha256 else None
        )  # an encrypting store gives each object its own ETag
        return info is not None and info.metadata.get("sha256") == block.sha256

    # -- its end

    async def _begin_lift(self, any_id: AnyId, block: Block) -> None:
        await self._records.begin(block.media_id)
        await self._records.write_block(block)
        await self._lift(any_id, block)

    async def _lift(self, any_id: AnyId, block: Block) -> None:
        media_id = block.media_id
        for entry in block.entries:
            await self._records.remove_entry(entry)
        await self._own_again(any_id)
        restored = await self._evidence.restore(any_id, block.sizes)
        upload = "" if restored else await self._evidence.restore_upload(any_id)
        # Read afterwards, because the removal may have ended before this restored something.
        removed = await self._statuses.deletion_state(media_id) in ("removing", "removed")
        if removed:
            await self._remove_objects(any_id, block)
        elif upload:
            held = Held(media_id, block.at, "", PROCESSING_QUEUE, {**processing_fields(media_id), RELEASED: upload})
            held = replace(held, released_at=block.lifted_at, released_by=block.lifted_by)
            await self._records.write_held(held)
        await self._statuses.forget(media_id)
        if isinstance(any_id, RemoteId):
            await RemoteStateStore(self._redis).forget_failure(any_id)
        refused = await self._records.refused(media_id) if block.entries else []
        await _each(dict.fromkeys((*block.copies, *refused)), partial(self._lift_copy, block))
        await self._records.forget_refused(media_id, refused)
        await self._purges.request(media_id, f"unblocked.{block.lifted_at}", block.sizes)
        if restored or removed:
            await self._evidence.remove(any_id)
        await self._records.end_block(block)  # from here on a task may process the restored upload
        await self._queue_released(any_id)
        await self._records.finish(media_id)
        await self._underway.reload(self._records)
        await self._changes.note()
        _log.warning("moderation.unblocked", media_id=media_id, by=block.lifted_by, restored=restored)

    async def _lift_copy(self, block: Block, copy: AnyId) -> None:
        async with self._copy_claimed(block, str(copy)):
            other = await self._records.block(str(copy))
            if other is not None and other.cause == block.media_id:
                lifted = replace(other, lifted_at=block.lifted_at, lifted_by=block.lifted_by)
                await self._begin_lift(copy, lifted)

    async def _queue_released(self, any_id: AnyId) -> None:
        """Queue the task of an upload that was blocked before it was published."""
        held = await self._records.held(str(any_id))
        if held is not None and held.released_at:
            dedup_key = f"{held.media_id}:{held.released_at}"  # its first task may have ended a moment ago
            await TaskQueue(self._redis, held.queue).enqueue(dict(held.fields), dedup_key=dedup_key)

    async def _head(self, key: str) -> ObjectInfo | None:
        try:
            return await self._store.get().head(key)
        except (ObjectMissing, PreconditionFailed):
            return None


async def _each(media_ids: Iterable[str], work: Callable[[AnyId], Awaitable[None]]) -> None:
    """Work on each of these media items, whatever becomes of the others. Raises `Unavailable` if some failed."""
    failed = []
    for media_id in media_ids:
        any_id = _parsed(media_id)
        if any_id is None:
            continue
        try:
            await work(any_id)
        except Exception as error:  # noqa: BLE001 - nothing of one media item must stop the others
            known = isinstance(error, Unavailable)
            _log.warning("moderation.failed", media_id=media_id, problem=str(error), exc_info=None if known else error)
            failed.append(media_id)
    if failed:
        raise Unavailable(Dependency.OBJECT, f"{len(failed)} media items failed, first {failed[0]}")


def _parsed(text: str) -> AnyId | None:
    """Return the id; None for the name of an object that is no media item of this version."""
    try:
        return parse_any_id(text)
    except InvalidId:
        return None


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
