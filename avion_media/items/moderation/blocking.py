"""Blocks media, and lifts blocks. Both are lists of steps that can be repeated, so a crash at any step is repaired.

A block is one record with one state (docs/moderation.md has the table). A change of the state is a conditional write,
and before each step that destroys something the record is confirmed. A process that stands still between the two can
still take that one step afterwards. So the state says what must be true, and for `WATCHED` after each change all
processes make it true again: objects of a blocked media item are removed, and those of a lifted one are restored from
the evidence. The origin reads the record of a watched media item before it serves it.

A block: watch it, write its record, make the origins answer 451, put its hashes on the own list, copy the evidence,
remove the objects, purge, find and block the copies, remove what was written meanwhile, publish the event. After the
objects are removed, only the bucket is needed: the origin finds no object, reads the record, and responds with 451.

Replicas learn of each other's blocks through Redis (`Changes`); the bucket is the source of truth. A block writes its
record and its entries to the bucket, then changes the generation, and then removes the media item and looks for its
copies. A worker reads the generation, checks the media item, writes its original, and reads the generation again.
So one of them sees what the other wrote: either the block finds the original, or the worker finds another generation,
and checks the media item again.

Copies are found by the index of originals by content (`CopyIndex`), whose entry is written before its original. See
docs/decisions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from avion_media.backends.files import open_spool
from avion_media.backends.redis import Lock, Redis
from avion_media.backends.store import ObjectInfo, TooLarge, stored_facts
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.errors import (
    Dependency,
    MediaError,
    ObjectMissing,
    Reason,
    Rejected,
    Unavailable,
)
from avion_media.common.formats import Family
from avion_media.common.ids import AnyId, MediaId, RemoteId, id_or_none
from avion_media.common.media import HOST_METADATA, possible_sizes
from avion_media.common.records import UnreadableRecord
from avion_media.common.tasks import PROCESSING_QUEUE, State, processing_fields
from avion_media.common.telemetry import instruments
from avion_media.items.copies import IndexedOriginal, sha256_of
from avion_media.items.item import Items
from avion_media.items.moderation.entries import Entry, HashType, OwnEntries, hash_file
from avion_media.items.moderation.evidence import Evidence
from avion_media.items.moderation.likeness import BIG_ENOUGH
from avion_media.items.moderation.lists import Changes
from avion_media.items.moderation.records import (
    RELEASED,
    Block,
    BlockState,
    Ground,
    Held,
    ModerationRecords,
    ModerationStatus,
    Superseded,
    now,
)
from trio_redis import run_all
from trio_telemetry import get_logger

MAX_NOTE = 1000  # characters
WATCHED = timedelta(days=1)  # far longer than a process stands still between the confirmation of a record and its step
_LESS_OFTEN = 4  # a watched block is looked at again when it is this many times as old
_MAX_HASHED_BYTES = 5 << 30
_MAX_PICTURE_BYTES = 16 << 20
_AT_ONCE = 8  # media items that are compared or blocked concurrently
_log = get_logger()


class NotBlocked(MediaError):
    """This media item is not blocked."""


PictureHash = Callable[[bytes], Awaitable[bytes | None]]
"""Computes the PDQ hash of a thumbnail; None for an image with too little structure."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Why a media item is blocked, by whom, and the hashes to put on the block list.

    ``entries`` are the hashes; None: those of its files. For ``cause``, ``ground``, ``requested_at`` and ``automated``
    see `Block`. ``refused``: its file is that of the
    blocked media item ``cause``, whose own entry refuses it. ``host`` is that of a remote file that was not published.
    """

    by: str = ""
    note: str = ""
    cause: str = ""
    discard_evidence: bool = False
    entries: tuple[Entry, ...] | None = None
    refused: bool = False
    host: str = ""
    ground: Ground = Ground.UNSPECIFIED
    requested_at: str = ""
    automated: bool = False


class Blocking:
    """Blocks media, and lifts blocks.

    Methods raise `Unavailable` while the store or Redis is unavailable. Unfinished steps are completed later.

    ``claim_s``: a process that has not continued a block for this long counts as dead.
    """

    def __init__(
        self, items: Items, status: ModerationStatus, evidence: Evidence, picture_hash: PictureHash, claim_s: float
    ) -> None:
        self._items = items
        self._evidence = evidence
        self._status = status
        self._picture_hash = picture_hash
        self._changes = Changes(items.redis)
        self._claim_s = claim_s
        # By then a live process has its claim, even if Redis failed at first.
        self._abandoned = timedelta(seconds=claim_s / 3)
        self._records = ModerationRecords(items.store)
        self._own = OwnEntries(items.store)
        self._next_look: dict[str, tuple[datetime, timedelta]] = {}  # of settled blocks: since when, and at which age

    async def block(self, any_id: AnyId, why: Unwanted) -> int:
        """Block a media item and its copies. Return the number of copies. An existing block is not changed.

        When it returns, no origin serves the media item. After `Unavailable` the block may be recorded; then it is
        completed as soon as possible. Waits while another task blocks or unblocks the media item.

        Raises `Unavailable` also if the block that refuses it was lifted meanwhile.
        """
        block = await self._records.block(str(any_id))
        if block is None or block.state is not BlockState.REMOVED:
            async with self.claimed(any_id):
                if why.refused:
                    await self._note_refused(any_id, why.cause)
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
            if block is None or not block.removes:
                return False
            await self._remove(any_id, block)
            return True

    async def unblock(self, any_id: AnyId, by: str = "", note: str = "") -> None:
        """Lift a block, and the blocks of its copies. Raises `NotBlocked`.

        The evidence is served again. Without evidence nothing of the media item is left. Waits while another task
        blocks or unblocks the media item.
        """
        media_id = str(any_id)
        block = await self._records.block(media_id)
        if block is None or not block.in_force:
            raise NotBlocked(media_id)
        async with self.claimed(any_id):
            block = await self._records.block(media_id)
            if block is not None and block.in_force:  # nobody else has unblocked it meanwhile
                await self._begin_lift(any_id, block, now(), by, note)

    async def resume(self, *, abandoned_only: bool = True) -> None:
        """Look at watched blocks: complete those whose process seems to have crashed, and repair the others.

        Settled ones are looked at less and less often, and at the end of `WATCHED` for the last time. Without
        ``abandoned_only`` all are looked at.
        """
        listed = await self._status.reload()
        ages = {media_id: utc_now() - each.last_modified for media_id, each in listed.items()}
        self._next_look = {
            media_id: known
            for media_id, known in self._next_look.items()
            if media_id in listed and listed[media_id].last_modified == known[0]
        }

        async def look(any_id: AnyId) -> None:
            media_id = str(any_id)
            if await self._look(any_id, is_last=ages[media_id] >= WATCHED):
                self._next_look[media_id] = listed[media_id].last_modified, min(ages[media_id] * _LESS_OFTEN, WATCHED)

        due = [each for each, age in ages.items() if age >= self._next_look.get(each, (None, self._abandoned))[1]]
        await _each(due if abandoned_only else ages, look)

    async def _look(self, any_id: AnyId, *, is_last: bool) -> bool:
        """Make true what the state of a block says. Return whether it was settled already."""
        media_id = str(any_id)
        claim = self._claim(media_id)
        if not await claim.acquire():
            return False
        async with claim.held():
            try:
                block = await self._records.block(media_id)
            except UnreadableRecord:
                return True  # a process of another version looks at it
            if block is None:  # its record was not written yet, or never will be
                if is_last:
                    await self._records.unwatch(media_id)
                return True
            if block.removes:
                await (self._keep_removed(any_id, block) if block.settled else self._carry_out(any_id, block))
            else:
                await self._lift(any_id, block)
            if block.settled and is_last:
                await self._unwatch(block)
        if not block.settled:
            _log.warning("moderation.block_resumed", media_id=media_id)
        return block.settled

    async def _unwatch(self, block: Block) -> None:
        if not block.in_force:
            await self._records.forget_refused(block.media_id, await self._records.refused(block.media_id))
        await self._records.unwatch(block.media_id)
        try:
            await self._records.confirm(block)
        except Superseded:  # it changed just before, and must be watched
            await self._records.watch(block.media_id)

    def _claim(self, media_id: str) -> Lock:
        """One task at a time blocks or unblocks a media item, or enforces its block. Otherwise one could remove what
        the other restores."""
        return claim_of(self._items.redis, media_id, self._claim_s)

    @asynccontextmanager
    async def claimed(self, any_id: AnyId) -> AsyncIterator[None]:
        """Wait for the claim, and hold it during the body. If Redis is unavailable, begin without the claim.

        The claim only saves work: the record decides which of two tasks continues. Raises `Unavailable` if
        Redis becomes unavailable while another task has the claim.
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
        block = await self._records.block(str(any_id))
        if block is None or not block.removes:
            block = await self._begin_block(any_id, why, block)
        return block if block.settled else await self._carry_out(any_id, block)

    async def _begin_block(self, any_id: AnyId, why: Unwanted, former: Block | None) -> Block:
        """``former`` is a block that was lifted, or whose end was interrupted."""
        media_id, block, notice = str(any_id), former, None
        with suppress(UnreadableRecord):
            notice = await self._records.notice(media_id)
        reported_at = "" if notice is None else notice.requested_at or notice.at
        if block is None or not block.in_force:
            block = await self._record_of(any_id, why)
        if former is not None and not former.in_force:
            if not block.size_bytes and not block.entries:  # a late process has removed what was restored
                block = replace(former, entries=former.entries if why.entries is None else why.entries)
            former_fields = {name: getattr(former, name) for name in ("state", "version_id", "unknown")}
            block = replace(block, earlier=former.ended(), **former_fields)
            if not why.discard_evidence:  # that of the former block may be of another file
                await self._evidence.keep(any_id, self._sizes_of(block), replace=True)
        await self._records.watch(media_id)
        block = await self._records.change(
            block,
            state=BlockState.REMOVING,
            at=now(),
            by=why.by,
            note=why.note,
            cause=why.cause,
            discard_evidence=why.discard_evidence,
            ground=why.ground,
            requested_at=why.requested_at or reported_at,
            automated=why.automated,
            lifted_at="",
            lifted_by="",
            lifted_note="",
            released="",
        )
        _log.warning("moderation.blocking", media_id=media_id, by=block.by, note=block.note, cause=block.cause)
        return block

    async def _note_refused(self, any_id: AnyId, original: str) -> None:
        """Note that the block of another media item refuses this one.

        An unblock changes its state before it reads the notes, and then waits for the claim of each media item. So
        either it lifts this block, or this finds that it has begun.
        """
        await self._records.note_refused(original, str(any_id))
        block = await self._records.block(original)
        if block is None or not block.removes:
            raise Unavailable(Dependency.OBJECT, "the block whose entry refused it is being lifted")

    async def _record_of(self, any_id: AnyId, why: Unwanted) -> Block:
        info = await self._items.original(any_id)
        facts = None if info is None else stored_facts(info)
        sizes = facts.thumbnails if facts is not None and facts.thumbnails else possible_sizes(self._items.sizes)
        sha256 = "" if facts is None else facts.sha256
        pictures = () if facts is not None and facts.format.family is Family.AUDIO else sizes
        held = None
        with suppress(UnreadableRecord):
            held = await self._records.held(str(any_id))
        entries = why.entries
        if entries is None:
            entries = await self._hashes_of(any_id, info, sha256, pictures, held)
        return Block(
            str(any_id),
            now(),
            entries=entries,
            size_bytes=0 if info is None else info.size_bytes,
            etag="" if info is None else info.etag,
            sha256=sha256,
            sizes=sizes,
            source=await self._source_of(any_id, info, why.host or ("" if held is None else held.host)),
            match="" if held is None else held.match,
            matched=None if held is None else held.entry,
        )

    async def _source_of(self, any_id: AnyId, info: ObjectInfo | None, host: str) -> str:
        if isinstance(any_id, MediaId):
            owner = await self._items.owner_of(any_id)
            return f"owner/{owner}" if owner else ""
        host = host if info is None else info.metadata.get(HOST_METADATA, host)
        return f"host/{host}" if host else ""

    async def _hashes_of(
        self, any_id: AnyId, info: ObjectInfo | None, sha256: str, sizes: Sequence[str], held: Held | None
    ) -> tuple[Entry, ...]:
        """Return the hashes of the original, or of the uploaded or held file, and its PDQ hash."""
        media_id = str(any_id)
        places = [] if info is None else [info.key]
        places += [keys.incoming(any_id)] if isinstance(any_id, MediaId) else []
        places.append(keys.evidence(any_id, keys.KEPT_UPLOAD))
        digest = bytes.fromhex(sha256) if sha256 else None
        for key in places:
            digest = digest or await self._sha256(key)
        pdq = bytes.fromhex(held.pdq) if held is not None and held.pdq else await self._pdq(any_id, sizes)
        found = (HashType.SHA256, digest), (HashType.PDQ, pdq)
        return tuple(Entry(kind, value, media_id=media_id) for kind, value in found if value)

    async def _sha256(self, key: str) -> bytes | None:
        with open_spool() as fd:
            try:
                info = await self._items.store.get().download(key, fd, max_bytes=_MAX_HASHED_BYTES)
            except (ObjectMissing, TooLarge):
                return None
            digests = await hash_file(fd, info.size_bytes, [HashType.SHA256])
            return digests[HashType.SHA256]

    async def _pdq(self, any_id: AnyId, sizes: Sequence[str]) -> bytes | None:
        """Return the PDQ hash, or None if it cannot be computed. Then altered copies are not found, but the block is
        valid."""
        large = [size.name for size in self._items.sizes if size.longest_edge >= BIG_ENOUGH]
        for size in (each for each in dict.fromkeys((*large, *sizes)) if each in sizes):
            try:
                picture = await self._items.store.get().read(keys.thumbnail(any_id, size), max_bytes=_MAX_PICTURE_BYTES)
                return await self._picture_hash(picture)
            except ObjectMissing:
                continue
            except (Unavailable, Rejected) as error:
                _log.warning("moderation.block_without_pdq", media_id=str(any_id), problem=str(error))
                return None
        return None

    async def _carry_out(self, any_id: AnyId, block: Block) -> Block:
        media_id = block.media_id
        self._status.watch(media_id)
        with suppress(Unavailable):  # without Redis other processes serve it until its objects are removed
            await self._changes.note(media_id)
            await self._items.announce_blocked(media_id)
        await self._own.add(block.entries)
        await self._records.note_source(block)
        await self._records.note_public(any_id, block)
        await self._remove(any_id, block)
        await self._changes.note(media_id)
        blocked_at = utc_now()  # from here on no origin finds an object, and each reads the record
        await self._records.forget_held(media_id)
        await self._records.forget_notice(media_id)
        await self._items.purge(media_id, f"blocked.{block.at}", block.sizes)
        if not block.cause:
            block = await self._block_copies(block)
        await self._remove(any_id, block)  # what a worker wrote before it noticed the block, and could not `enforce` it
        details = {"copies": len(block.copies), **({"cause": block.cause} if block.cause else {})}
        await self._items.events.publish("media.blocked", media_id, details, dedup_key=f"blocked.{block.at}")
        await self._records.watch(media_id)  # from now on
        block = await self._records.change(block, state=BlockState.REMOVED)
        self._measure(block, blocked_at)
        await self._changes.note()
        evidence = "discarded" if block.discard_evidence else "kept"
        _log.warning("moderation.blocked", media_id=media_id, copies=len(block.copies), evidence=evidence)
        return block

    def _measure(self, block: Block, blocked_at: datetime) -> None:
        """Record how long it took, by whichever process has completed it. Nobody waits for what lists, the hook and
        blocks of the same file refuse."""
        if block.cause:
            return
        since = datetime.fromisoformat(block.requested_at or block.at)
        took_s = max(0.0, (blocked_at - since).total_seconds())
        start = "notice" if block.requested_at else "call"
        self._items.telemetry.record(instruments.TIME_TO_BLOCK, took_s, start=start)

    async def _keep_removed(self, any_id: AnyId, block: Block) -> None:
        """Repair what a process did to a block that stood still meanwhile: one that wrote objects, or lifted it."""
        await self._own.add(block.entries)
        await self._records.note_source(block)
        await self._records.note_public(any_id, block)
        store = self._items.store.get()
        written = [each for each in keys.all_of(any_id, self._sizes_of(block)) if await store.exists(each)]
        if written:
            _log.warning("moderation.blocked_again", media_id=block.media_id, objects=len(written))
            await self._remove(any_id, block)
            await self._items.purge(block.media_id, f"blocked.{now()}", block.sizes)

    async def _remove(self, any_id: AnyId, block: Block) -> None:
        """Keep the evidence, remove everything that is served, and publish the block."""
        if not block.discard_evidence:
            await self._evidence.keep(any_id, self._sizes_of(block))
            with suppress(UnreadableRecord):  # that of a newer version stays, and says when the evidence ends
                await self._evidence.note_block(any_id, block)
        await self._records.confirm(block)
        if block.discard_evidence:
            await self._evidence.remove_held(any_id)
        await self._items.remove_objects(any_id, self._sizes_of(block))
        await self._items.announce_blocked(block.media_id)

    def _sizes_of(self, block: Block) -> Iterable[str]:
        return dict.fromkeys((*block.sizes, *possible_sizes(self._items.sizes)))

    async def _block_copies(self, block: Block) -> Block:
        """Block every media item whose original is the same file. Return the block with their ids.

        They are recorded before they are blocked. Otherwise, if this process were killed in between, the next process
        would not find the copies that this one had removed.
        """
        copies = tuple(dict.fromkeys((*block.copies, *await self._find_copies(block))))
        if copies != block.copies:
            block = await self._records.change(block, copies=copies)
        why = Unwanted(
            block.by,
            block.note,
            block.media_id,
            block.discard_evidence,
            (),
            ground=block.ground,
            requested_at=block.requested_at,
            automated=block.automated,
        )

        async def block_copy(copy: AnyId) -> None:
            async with self._copy_claimed(block, str(copy)):
                await self._records.confirm(block)
                await self._block(copy, why)

        await _each(block.copies, block_copy, _AT_ONCE)
        return block

    async def _find_copies(self, block: Block) -> list[str]:
        """Return the ids of the media whose original has the same size, and the same ETag or SHA-256.

        An encrypting store gives each object an ETag of its own, and a large video may have no SHA-256.
        """
        copies: list[str] = []
        if not block.size_bytes:
            return copies
        hashes = {block.sha256, *(each.hash.hex() for each in block.entries if each.type is HashType.SHA256)} - {""}

        async def check(candidate: IndexedOriginal) -> None:
            try:
                info = await self._items.original(candidate.any_id)
            except Unavailable as error:
                if not candidate.sha256 or error.dependency is not Dependency.OBJECT:
                    raise
            else:
                if info is None or info.size_bytes != block.size_bytes:
                    return  # its index object was left over, or it was fetched again
                if info.etag != block.etag and sha256_of(info) not in hashes:
                    return
            copies.append(str(candidate.any_id))  # also one that the store does not return: its block is tried again

        found = await self._items.copies.candidates(hashes, block.size_bytes)
        await run_all([partial(check, each) for each in found if str(each.any_id) != block.media_id], _AT_ONCE)
        return copies

    # -- its end

    async def _begin_lift(self, any_id: AnyId, block: Block, at: str, by: str, note: str) -> None:
        await self._records.watch(block.media_id)
        lifted = {"lifted_at": at, "lifted_by": by, "lifted_note": note}
        block = await self._records.change(block, state=BlockState.RESTORING, **lifted)
        await self._lift(any_id, block)

    async def _lift(self, any_id: AnyId, block: Block) -> None:
        """Let everything be as without the block.

        If it is lifted already: repair what a process did that stood still meanwhile. That excludes a media item that
        failed for another reason since, and remote media, which are fetched again.
        """
        media_id, is_lifted = block.media_id, block.state is BlockState.LIFTED
        status = (await self._items.statuses.get_many([media_id], despite_deletion=True))[media_id]
        failed = None if status is None or status.state is not State.FAILED else status.reason
        is_restored = not is_lifted or (
            isinstance(any_id, MediaId) and failed in (None, Reason.BLOCKED, Reason.MISSING)
        )
        await self._own.remove(block.entries)
        await self._records.forget_source(block)
        await self._records.forget_public(any_id)
        upload = await self._restore(any_id, block) if is_restored else ""
        if not is_lifted or upload or failed is Reason.BLOCKED:
            await self._items.statuses.forget(media_id)
        if isinstance(any_id, RemoteId) and not is_lifted:
            await self._items.remote_states.forget_failure(any_id)
        refused = await self._records.refused(media_id)
        await _each(dict.fromkeys((*block.copies, *refused)), partial(self._lift_copy, block))
        if not is_lifted:
            await self._items.purge(media_id, f"unblocked.{block.lifted_at}", block.sizes)
            await self._items.announce_restored(any_id, f"unblocked.{block.lifted_at}")
            await self._records.watch(media_id)  # from now on
        if not is_lifted or upload not in ("", block.released):
            # From here on a task may process the restored upload.
            block = await self._records.change(block, state=BlockState.LIFTED, released=upload)
        if upload or (block.released and status is None and await self._is_unprocessed(any_id)):
            # Its first task may have ended a moment ago, also without the file that was restored now.
            moment = now() if upload and is_lifted else block.lifted_at
            fields = {**processing_fields(media_id), RELEASED: block.released}
            await self._items.queues[PROCESSING_QUEUE].enqueue(fields, dedup_key=f"{media_id}:{moment}")
        if not is_lifted:
            await self._changes.note()
            _log.warning("moderation.unblocked", media_id=media_id, by=block.lifted_by, upload=bool(upload))

    async def _restore(self, any_id: AnyId, block: Block) -> str:
        """Copy the evidence back. Return the ETag of an upload that must be processed; empty if there is none."""

        async def copy() -> str:
            if await self._evidence.restore(any_id, block.sizes):
                return ""
            return await self._evidence.restore_upload(any_id, if_absent=block.state is BlockState.LIFTED)

        original, held_bytes = await self._evidence.original(any_id)
        return await self._items.restore(any_id, original, held_bytes, copy)

    async def _is_unprocessed(self, any_id: AnyId) -> bool:
        """Return whether a restored upload still waits. Its task may never have been queued."""
        if not isinstance(any_id, MediaId) or await self._items.store.get().exists(keys.original(any_id)):
            return False
        return await self._items.store.get().exists(keys.incoming(any_id))

    async def _lift_copy(self, block: Block, copy: AnyId) -> None:
        """Lift the block of a copy, if it is blocked because of this block, perhaps by a task that is at work."""
        if not block.in_force and await self._blocked_by(block, copy) is None:
            return
        async with self._copy_claimed(block, str(copy)):
            other = await self._blocked_by(block, copy)
            if other is not None:
                await self._records.confirm(block)
                await self._begin_lift(copy, other, block.lifted_at, block.lifted_by, block.lifted_note)

    async def _blocked_by(self, block: Block, copy: AnyId) -> Block | None:
        """Return the block of a copy, if it is in force because of this block."""
        other = await self._records.block(str(copy))
        return other if other is not None and other.in_force and other.cause == block.media_id else None


def claim_of(redis: Redis, media_id: str, ttl_s: float) -> Lock:
    """Return the claim of a task that changes the block of a media item, or its evidence."""
    return Lock(redis, f"media_block_claim:{media_id}", ttl_s=ttl_s)


async def _each(media_ids: Iterable[str], work: Callable[[AnyId], Awaitable[None]], at_once: int = 1) -> None:
    """Work on each of these media items, whatever becomes of the others. Raises `Unavailable` if some failed."""
    failed = []

    async def try_one(media_id: str) -> None:
        any_id = id_or_none(media_id)  # None: no media item of this version
        if any_id is None:
            return
        try:
            await work(any_id)
        except Exception as error:  # noqa: BLE001 - nothing of one media item must stop the others
            known = isinstance(error, Unavailable)
            _log.warning("moderation.failed", media_id=media_id, problem=str(error), exc_info=None if known else error)
            failed.append(media_id)

    await run_all([partial(try_one, each) for each in media_ids], at_once)
    if failed:
        raise Unavailable(Dependency.OBJECT, f"{len(failed)} media items failed, first {failed[0]}")
