"""The checks of every media item before its publication: blocks, lists, the hook.

They are safe because of the order in which a task calls them: `Moderation.begin` before anything else, `see_file`
before the file is decoded, `see_made` before publication, and `settle` after it. `settle` alone decides whether a media
item may be announced. That includes an original that an earlier attempt wrote: this attempt calls `begin` and `settle`
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avion_media.backends.files import LocalFile
from avion_media.common.errors import Dependency, MediaError, Reason, Rejected, Unavailable
from avion_media.common.formats import Family
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.media import MediaFacts
from avion_media.common.tasks import Task
from avion_media.items.item import Items
from avion_media.items.moderation.blocking import Blocking, Unwanted
from avion_media.items.moderation.entries import EXACT, Entry, HashType, hash_file
from avion_media.items.moderation.evidence import Evidence
from avion_media.items.moderation.hook import Hook
from avion_media.items.moderation.hosts import BlockedHosts
from avion_media.items.moderation.likeness import Likeness, picture_of
from avion_media.items.moderation.lists import Blocklists, Changes, Match, MatchCounts
from avion_media.items.moderation.records import (
    RELEASED,
    Held,
    ModerationRecords,
    ModerationStatus,
    Resembled,
    host_of,
    now,
)
from avion_media.items.moderation.reviews import Reviews
from avion_media.items.settings import ItemSettings
from avion_media.items.state import ANY_FAILURE


class HeldForReview(MediaError):
    """A moderator must decide about the media item. Until then its task is done."""


class Moderation:
    """The parts of moderation that one process shares. ``likeness`` works while the node `moderation` runs."""

    def __init__(self, items: Items, config: ItemSettings, likeness: Likeness | None = None) -> None:
        self.items = items
        self.policy = config.moderation
        self.edges = {size.name: size.longest_edge for size in items.sizes}
        self.records = ModerationRecords(items.store)
        self.evidence = Evidence(items.store, config.moderation.evidence_keep)
        self.status = ModerationStatus(items.store)
        self.likeness = likeness or Likeness(require=config.sandbox.require)
        self.lists = Blocklists(items.store, Changes(items.redis))
        self.matches = MatchCounts(items.redis)
        self.hosts = BlockedHosts(items.store, Changes(items.redis), config.remote.deny_hosts)
        self.reviews = Reviews(items, self.evidence)
        self.blocking = Blocking(items, self.status, self.evidence, self.likeness.of, config.tasks.claim_after)
        self.hook = Hook(config.moderation, items.redis, items.telemetry)

    async def begin(self, any_id: AnyId, task: Task, queue: str) -> Screening:
        """Begin to screen. Raises `Rejected` if the media item is blocked, `HeldForReview` if it waits for a moderator.

        Raises `Unavailable` while it is being unblocked.
        """
        media_id, generation = str(any_id), await self.lists.refresh()
        if await self.records.is_blocked(media_id):
            if await self.blocking.enforce(any_id):
                raise Rejected(Reason.BLOCKED, "it is blocked")
            raise Unavailable(Dependency.OBJECT, "it is being unblocked")
        screening = Screening(self, any_id, task, queue, generation)
        # The status of an upload shows whether it is held: its task calls this only without a status, or with that one.
        if not isinstance(any_id, MediaId):
            await screening.require_decided()
        return screening

    async def announce_published(
        self, any_id: AnyId, task: Task, queue: str, facts: MediaFacts, dedup_key: str = ""
    ) -> Reason | None:
        """Announce an original that is public already, although its task failed. Return the reason if it is blocked.

        Raises `HeldForReview`.
        """
        try:
            screening = await self.begin(any_id, task, queue)
            await screening.announce_ready(facts, dedup_key=dedup_key)
        except Rejected as rejection:
            return rejection.reason
        return None

    async def require_not_held(self, any_id: AnyId) -> None:
        """Raise `HeldForReview` if the media item waits for a moderator. A file that was uploaded again is removed."""
        held = await self.records.held(str(any_id))
        if held is not None and not held.is_decided:
            await self.reviews.settle(any_id, held)
            raise HeldForReview(str(any_id))


@dataclass(slots=True)
class Screening:
    """The checks of one media item, in one attempt to publish it."""

    moderation: Moderation
    any_id: AnyId
    task: Task
    queue: str
    generation: bytes
    """As it was before the first check (see `Changes`). The lists of the process may have changed since."""
    _seen: str = ""  # the file of this attempt, as `RELEASED` names it
    _source: dict[HashType, bytes] = field(default_factory=dict)
    _made: dict[HashType, bytes] = field(default_factory=dict)
    _pdq: bytes | None = None
    _file: LocalFile | None = None

    async def require_decided(self) -> None:
        """Raise `HeldForReview` if the media item waits for a moderator, unless this is the task of its release."""
        if RELEASED not in self.task.fields:
            await self.moderation.require_not_held(self.any_id)

    @property
    def compares_files(self) -> bool:
        """Whether a list has hashes of files. Then even a large video must be complete for `see_file`."""
        return any(kind in self.moderation.lists.types for kind in EXACT)

    async def see_file(self, file: LocalFile, etag: str = "") -> None:
        """Check the file as received. ``etag`` is that of an upload. Raises `Rejected` (blocked)."""
        self._file, self._seen = file, etag
        kinds = [kind for kind in EXACT if kind in self.moderation.lists.types or self.moderation.hook.enabled]
        if kinds and file.whole:
            self._source = await hash_file(file.fd, file.size_bytes, kinds)
            await self._refuse_exact()

    async def see_made(
        self, facts: MediaFacts, scrubbed: tuple[int, int] | None, thumbnails: Mapping[str, bytes]
    ) -> None:
        """Check what would be published. ``scrubbed`` is the descriptor and length of the original, if it is local.

        Raises `Rejected` (blocked) or `HeldForReview`.
        """
        moderation = self.moderation
        if facts.sha256:
            self._made[HashType.SHA256] = bytes.fromhex(facts.sha256)
        self._seen = self._seen or facts.sha256
        if scrubbed is not None and HashType.MD5 in moderation.lists.types:
            self._made |= await hash_file(*scrubbed, [HashType.MD5])
        await self._refuse_exact()
        # A waveform is no likeness of anything, and shows nothing to a hook.
        picture = None if facts.format.family is Family.AUDIO else picture_of(thumbnails, moderation.edges)
        if picture is not None and (HashType.PDQ in moderation.lists.types or moderation.hook.enabled):
            self._pdq = await moderation.likeness.of(picture)
        await self._see_likeness(facts, picture)
        if moderation.hook.enabled:
            await self._ask_hook(facts, picture)

    async def settle(self, facts: MediaFacts) -> None:
        """Decide whether the media item may be announced. ``facts`` are those of the original in the bucket.

        Raises `Rejected` if it was blocked meanwhile (see `Changes`), or if its original is on a list by now. Then its
        objects are removed.
        """
        moderation = self.moderation
        changed = await moderation.lists.refresh() != self.generation
        if changed and await moderation.blocking.enforce(self.any_id):
            raise Rejected(Reason.BLOCKED, "it was blocked meanwhile")
        if facts.sha256:
            self._made[HashType.SHA256] = bytes.fromhex(facts.sha256)
        await self._refuse_exact()

    async def announce_ready(
        self, facts: MediaFacts, *, dedup_key: str = "", over: Reason | str | None = ANY_FAILURE
    ) -> bool:
        """Settle, and announce the media item (`Items.announce_ready`). Return whether it was announced."""
        await self.settle(facts)
        items = self.moderation.items
        is_ready = await items.announce_ready(self.any_id, facts, dedup_key=dedup_key, over=over)
        if is_ready:
            await self.end(facts)
        return is_ready

    async def end(self, facts: MediaFacts | None = None) -> None:
        """Remove what was kept for the review of a media item that is public now, or deleted.

        ``facts`` are those of the public original. That of a remote file can be older than the released file.
        """
        released = self.task.fields.get(RELEASED)
        is_older = facts is not None and not isinstance(self.any_id, MediaId) and facts.sha256 != released
        if released is not None and not is_older:
            await self.moderation.reviews.end(self.any_id)

    async def _refuse_exact(self) -> None:
        for digests in (self._source, self._made):
            match = self.moderation.lists.exact(digests)
            if match is not None:
                cause = match.media_id or f"list {match.list}"
                refused = match.media_id not in ("", str(self.any_id))
                await self._block(str(match), self._unwanted(cause, str(match), refused=refused), match)

    async def _see_likeness(self, facts: MediaFacts, picture: bytes | None) -> None:
        if self._pdq is None:
            return
        policy = self.moderation.policy.likeness
        held: Match | None = None
        for match in await self.moderation.lists.alike(self._pdq):
            action = policy.of(match.list)
            if action == "refuse":
                await self._block(str(match), self._unwanted(f"list {match.list}", str(match)), match)
            elif action == "hold":
                held = held or match
        if held is not None:
            await self._hold(str(held), facts, picture, held)

    async def _ask_hook(self, facts: MediaFacts, picture: bytes | None) -> None:
        opinion = await self.moderation.hook.ask(self._described(facts), picture)
        why = f"hook: {opinion.label}" if opinion.label else "hook"
        if opinion.action == "refuse":
            await self._block(why, self._unwanted("hook", why))
        elif opinion.action == "hold":
            await self._hold(why, facts, picture)

    def _described(self, facts: MediaFacts) -> dict[str, Any]:
        return {
            "media_id": str(self.any_id),
            "remote": not isinstance(self.any_id, MediaId),
            "private": self.any_id.is_private,
            "content_type": facts.format.content_type,
            "size": facts.size_bytes,
            "width": facts.width,
            "height": facts.height,
            "duration": facts.duration_s,
            "animated": facts.animated,
            "hashes": {
                "uploaded": {str(kind): digest.hex() for kind, digest in self._source.items()},
                "published": {str(kind): digest.hex() for kind, digest in self._made.items()},
                "pdq": self._pdq.hex() if self._pdq else "",
            },
        }

    def _unwanted(self, cause: str, note: str, *, refused: bool = False) -> Unwanted:
        entries: tuple[Entry, ...] = ()  # they are already on a list
        host, discard = host_of(self.task.fields), not self.moderation.policy.keep_refused
        return Unwanted("screening", note, cause, discard, entries, refused, host, automated=True)

    async def _is_released(self) -> bool:
        """Return whether a moderator has released this file. Then no check applies any more.

        An original without its file was written by an earlier attempt of the same task, which has compared the file. An
        unblock also counts for the same original: a later task finds it on its list again.
        """
        released = self.task.fields.get(RELEASED, "")
        if released and (self._file is None or self._seen == released):
            return True
        records, media_id = self.moderation.records, str(self.any_id)
        held = await records.held(media_id)  # another task may publish the released file
        if held is not None and self._seen and held.fields.get(RELEASED) == self._seen:
            return True
        block = await records.block(media_id)
        upload = self._seen if isinstance(self.any_id, MediaId) else ""
        return block is not None and block.allows(self._made.get(HashType.SHA256, b"").hex(), upload)

    async def _block(self, detail: str, why: Unwanted, match: Match | None = None) -> None:
        if await self._is_released():
            return
        moderation, file = self.moderation, self._file
        if match is not None:
            await moderation.matches.note(match.list)
        if not why.discard_evidence and not isinstance(self.any_id, MediaId) and file is not None and file.whole:
            await moderation.evidence.keep_file(self.any_id, file.fd, file.size_bytes)
        await moderation.blocking.block(self.any_id, why)
        raise Rejected(Reason.BLOCKED, detail)

    async def _hold(self, why: str, facts: MediaFacts, picture: bytes | None, match: Match | None = None) -> None:
        if await self._is_released():
            return
        if match is not None:
            await self.moderation.matches.note(match.list)
        file = None if self._file is None or not self._file.whole else (self._file.fd, self._file.size_bytes)
        held = Held(
            str(self.any_id),
            now(),
            why,
            self.queue,
            {name: value for name, value in self.task.fields.items() if name != RELEASED},
            self._pdq.hex() if self._pdq else "",
            self._made.get(HashType.SHA256, b"").hex(),
            None
            if match is None
            else Resembled(match.list, match.hash.hex(), match.distance, match.label, match.media_id),
            facts.format.content_type,
            facts.size_bytes,
            facts.width,
            facts.height,
        )
        await self.moderation.reviews.hold(self.any_id, held, etag=self._seen, file=file, preview=picture)
        raise HeldForReview(why)
