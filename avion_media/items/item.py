"""The life of a media item. Whatever makes one public, or takes it away, is written here, once.

==========  ===========================================================================================================
publish     thumbnails and index of copies, content credentials, index of the owner or host, original (that write
            happens once, and makes it public), status, event
withdraw    status, index of the owner, objects
delete      record, journal, purge; when its time has come: index of the owner, objects, purge, record, event
block       record, status, evidence, index of the owner, objects, purge, event (`Blocking`)
restore     index of the owner, index of copies, content credentials, thumbnails, original
==========  ===========================================================================================================

The objects are removed in one request, and the index object of copies with them. The order makes a crash harmless. A
public original always is in the index of its owner and in that of copies, and all of its thumbnails exist. A deletion
wins: its record is read before the first write of an attempt and after the last. Objects written after the mark are
removed when the deletion is due, or stay if it is undone. Objects written after the removal began are removed at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from avion_media.backends.queue import open_queues
from avion_media.backends.redis import Redis
from avion_media.backends.store import ObjectInfo, ObjectStore, stored_facts
from avion_media.backends.store.contents import SECRET_BYTES, find, read_if_there, stored_sizes
from avion_media.common import keys
from avion_media.common.errors import (
    RETRYABLE,
    Dependency,
    DespiteUnreadable,
    MediaError,
    PreconditionFailed,
    Reason,
    SourceReplaced,
)
from avion_media.common.formats import JPEG, WEBP
from avion_media.common.ids import AnyId, MediaId, RemoteId, RemoteIds, is_private
from avion_media.common.media import (
    ATTACHMENT,
    HOST_METADATA,
    KIND_METADATA,
    MANIFEST_TYPE,
    CredentialsState,
    MediaFacts,
    in_all_formats,
    owner_of,
    possible_sizes,
    sizes_of,
)
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import PURGE_QUEUE, State, Status
from avion_media.common.telemetry import instruments
from avion_media.items.copies import CopyIndex, index_key
from avion_media.items.hosts import HostIndex
from avion_media.items.owners import OwnerIndex
from avion_media.items.state import ANY_FAILURE, FAILED_TTL_S, READY_TTL_S, MediaEvents, RemoteStateStore, StatusStore
from avion_media.items.state.events import DEFAULT_MAX_ENTRIES
from mediathumbs import WEBP_SUFFIX, ThumbnailSize
from trio_redis import run_all
from trio_telemetry import NO_TELEMETRY, Telemetry

PURGED_SIZES: Final = "sizes"
"""Field of a purge task: the comma-separated sizes of the media item."""
_REMOVED = ("removing", "removed")  # states of a deletion from which nothing comes back
_MAX_KEY_BYTES: Final = 1024
_OF_ORIGINAL = "sha256"  # user metadata of a thumbnail: the SHA-256 of the original that it was made of


class WriteOriginal(Protocol):
    """Writes the scrubbed original under ``key``, once. Raises `PreconditionFailed` if it exists already.

    Raises `SourceReplaced`, and writes nothing, if its source was replaced meanwhile.
    """

    async def __call__(self, store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Published:
    """A public original, and the facts that it names."""

    facts: MediaFacts
    info: ObjectInfo


class NoRemoteKey(MediaError):
    """The key of the ids of remote media is missing in the bucket, or damaged."""


class Items:
    """The media items of one bucket and one Redis. Made once per process, with the queues and stores that belong to it.

    Every method raises `Unavailable` while the store or Redis is unavailable, and can then be repeated.

    ``sizes``: the configured thumbnails. ``status_ttl_s``: how long the status PROCESSING lives. ``cdn``: whether there
    is a CDN to purge.

    The slot ``remote_ids`` is filled once the key of the ids of remote media was read from the bucket.
    """

    def __init__(
        self,
        store: ResourceSlot[ObjectStore],
        redis: Redis,
        sizes: Sequence[ThumbnailSize] = (),
        *,
        status_ttl_s: float = FAILED_TTL_S,
        max_events: int = DEFAULT_MAX_ENTRIES,
        cdn: bool = False,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.store = store
        self.redis = redis
        self.sizes = tuple(sizes)
        self.status_ttl_s = status_ttl_s
        self.telemetry = telemetry
        self.remote_ids: ResourceSlot[RemoteIds] = ResourceSlot(Dependency.STORE)
        self.queues = open_queues(redis, telemetry, self.remote_ids)
        self.statuses = StatusStore(redis)
        self.events = MediaEvents(redis, max_events)
        self.remote_states = RemoteStateStore(redis)
        self.owners = OwnerIndex(store)
        self.copies = CopyIndex(store)
        self.hosts = HostIndex(store)
        self._cdn = cdn

    async def read_remote_ids(self) -> None:
        """Read the key of the ids of remote media, unless this process has it already. Raises `NoRemoteKey`."""
        if self.remote_ids.is_filled:
            return
        key = await read_if_there(self.store.get(), keys.REMOTE_SECRET, max_bytes=_MAX_KEY_BYTES)
        if key is None:
            raise NoRemoteKey(f"the bucket has no object `{keys.REMOTE_SECRET}`; make it with `avion-media init`")
        if len(key) != SECRET_BYTES:
            problem = f"`{keys.REMOTE_SECRET}` has {len(key)} bytes instead of {SECRET_BYTES}"
            raise NoRemoteKey(f"{problem}; restore it from the back-up")
        self.remote_ids.fill(RemoteIds(key))

    async def clean_up_if_deleted(self, any_id: AnyId) -> bool:
        """Return whether the media item is deleted. If its removal has begun, remove what was written since."""
        state = await self.statuses.deletion_state(str(any_id))
        if state in _REMOVED:
            await self.remove_objects(any_id)
        return state not in ("", "undeleted")

    async def original(self, any_id: AnyId) -> ObjectInfo | None:
        """Return the original, or None if there is none."""
        return await find(self.store.get(), keys.original(any_id))

    async def upload(self, media_id: MediaId) -> ObjectInfo | None:
        """Return what the client PUT, or None if there is nothing."""
        return await find(self.store.get(), keys.incoming(media_id))

    async def owner_of(self, any_id: AnyId) -> str:
        """Return the owner that the original, the upload or the evidence names; empty if none of them does."""
        store, evidence = self.store.get(), partial(keys.evidence, any_id)
        uploaded = [keys.incoming(any_id)] if isinstance(any_id, MediaId) else []
        for key in (keys.original(any_id), *uploaded, evidence(keys.KEPT_ORIGINAL), evidence(keys.KEPT_UPLOAD)):
            found = await find(store, key)
            if found is not None and (owner := owner_of(found.metadata)):
                return owner
        return ""

    async def published(self, any_id: AnyId) -> Published | None:
        """Return the original that an earlier attempt wrote; None if there is none, or its facts are damaged."""
        info = await self.original(any_id)
        facts = None if info is None else stored_facts(info)
        return None if info is None or facts is None else Published(facts, info)

    async def published_if_readable(self, any_id: AnyId) -> Published | None:
        """As `published`; None also for an original that the store does not return."""
        with DespiteUnreadable():
            return await self.published(any_id)
        return None

    async def publish(
        self,
        any_id: AnyId,
        facts: MediaFacts,
        thumbnails: Mapping[str, bytes],
        write_original: WriteOriginal,
        *,
        replaced: MediaFacts | None = None,
        manifest: bytes = b"",
        url: str = "",
    ) -> MediaFacts | None:
        """Write everything, the original last. Return the facts of the original that is served now.

        They can differ from ``facts``: another attempt was faster, and read another file that the client had PUT. The
        caller must then write the thumbnails of that file again (`write_thumbnails`). Return None if the media item was
        deleted before, and nothing was written. ``replaced``: the facts of the original that is overwritten, if any.
        ``manifest``: the content credentials to keep beside the original. ``url``: that of a remote file.
        """
        if await self.statuses.is_deleted(str(any_id)):
            return None
        store = self.store.get()
        same = keys.same_file(facts.sha256, facts.size_bytes, any_id)
        await run_all([partial(self.write_thumbnails, any_id, facts, thumbnails), partial(self.copies.add, same)])
        if replaced is not None:  # first, because the new original does not name those sizes
            await self._remove_thumbnails(any_id, set(replaced.thumbnails) - thumbnails.keys())
        written = ""
        if manifest:
            written = await store.put(keys.credentials(any_id), manifest, content_type=MANIFEST_TYPE)
        elif replaced is not None and replaced.credentials is CredentialsState.BESIDE_FILE:
            await store.delete([keys.credentials(any_id)])
        metadata = facts.to_metadata()
        held_bytes = facts.size_bytes + sum(map(len, thumbnails.values())) + len(manifest)
        indexed = await self._index(any_id, metadata, held_bytes, url)
        current = facts
        try:
            await write_original(store, keys.original(any_id), facts.format.content_type, metadata)
        except SourceReplaced:
            raise  # nothing was written
        except PreconditionFailed:
            other = await self.published(any_id)
            current = facts if other is None else other.facts
            await self._unindex(any_id, facts, but=current)
            if facts.owner and isinstance(any_id, MediaId):
                await self.owners.remove_if_doubled(facts.owner, any_id, held_bytes)
            if current.thumbnails:  # the other attempt may have had another configuration
                await self._remove_thumbnails(any_id, thumbnails.keys() - set(current.thumbnails))
            if written and not current.is_of_same_file(facts):
                await self._remove_credentials(any_id, written)
        if replaced is not None:
            await self._unindex(any_id, replaced, but=facts)
            if isinstance(any_id, RemoteId):
                await self.hosts.remove(facts.host, any_id, but=indexed)
        await self.clean_up_if_deleted(any_id)
        return current

    async def _unindex(self, any_id: AnyId, facts: MediaFacts, *, but: MediaFacts) -> None:
        """Remove the index object of an original that is not served, unless it is that of ``but``, which is."""
        old, served = (keys.same_file(each.sha256, each.size_bytes, any_id) for each in (facts, but))
        if old != served:
            await self.store.get().delete([old])

    async def _index(self, any_id: AnyId, metadata: Mapping[str, str], held_bytes: int, url: str = "") -> str:
        """Add a media item to the index of the owner or host that its original names. Return the key of the host's
        index object, if any."""
        owner, host = owner_of(metadata), metadata.get(HOST_METADATA, "")
        if isinstance(any_id, RemoteId):
            kind = metadata.get(KIND_METADATA, ATTACHMENT)
            return await self.hosts.add(host, any_id, held_bytes, kind, url) if host else ""
        if owner:
            await self.owners.add(owner, any_id, held_bytes)
        return ""

    async def _remove_credentials(self, any_id: AnyId, etag: str) -> None:
        """Remove the manifest of a file that is not served, if it is still the last one that was written."""
        store, key = self.store.get(), keys.credentials(any_id)
        last = await find(store, key)
        if last is not None and last.etag == etag:
            await store.delete([key])

    async def write_thumbnails(self, any_id: AnyId, facts: MediaFacts, thumbnails: Mapping[str, bytes]) -> None:
        """Write the thumbnails of an original, and overwrite old ones. Each carries the original's SHA-256."""
        put = self.store.get().put
        metadata = {_OF_ORIGINAL: facts.sha256} if facts.sha256 else {}
        await run_all(
            [
                partial(put, keys.thumbnail(any_id, name), data, content_type=_type_of(name), metadata=metadata)
                for name, data in thumbnails.items()
            ]
        )
        self.telemetry.count(instruments.THUMBNAILS, len(thumbnails), format=facts.format.name, outcome="written")

    async def is_consistent(self, any_id: AnyId) -> bool:
        """Return whether all thumbnails exist and were made of the present original."""
        store, found = self.store.get(), await self.published(any_id)
        if found is None or not found.facts.sha256:
            return True
        facts = found.facts
        infos = await run_all([partial(find, store, keys.thumbnail(any_id, name)) for name in facts.thumbnails])
        return all(each is not None and each.metadata.get(_OF_ORIGINAL) == facts.sha256 for each in infos)

    async def _remove_thumbnails(self, any_id: AnyId, sizes: Iterable[str]) -> None:
        to_delete = keys.thumbnails(any_id, sizes)
        if to_delete:
            await self.store.get().delete(to_delete)

    async def keep_processing(self, any_id: AnyId, *, only_if_known: bool = False) -> None:
        """Renew the status PROCESSING, which must outlive the task. Every other status stays as it is.

        A media item without a status gets one, unless ``only_if_known``.
        """
        statuses = self.statuses
        status = await statuses.get(str(any_id))
        if (not only_if_known) if status is None else (status.state is State.PROCESSING):
            await statuses.put(Status(str(any_id), State.PROCESSING), ttl_s=self.status_ttl_s)

    async def announce_ready(
        self,
        any_id: AnyId,
        facts: MediaFacts,
        *,
        dedup_key: str = "",
        over: Reason | str | None = ANY_FAILURE,
    ) -> bool:
        """Store the status READY and publish its event. Return whether the status was stored.

        `Screening.announce_ready` decides first whether it may be announced. The status is not stored if the media item
        was deleted, or failed for another reason than ``over`` (`StatusStore.put`). ``dedup_key``: see
        `MediaEvents.publish`.
        """
        status = self.ready(any_id, facts)
        if not await self.statuses.put(status, ttl_s=READY_TTL_S, over=over):
            return False
        await self._publish_end(any_id, "ready", _details(facts, any_id, status.thumbnails), dedup_key)
        return True

    async def announce_restored(self, any_id: AnyId, dedup_key: str) -> None:
        """Publish again that a media item is public, if its original is: its block has ended."""
        if (published := await self.published_if_readable(any_id)) is not None:
            thumbnails = self.ready(any_id, published.facts).thumbnails
            await self._publish_end(any_id, "ready", _details(published.facts, any_id, thumbnails), dedup_key)

    def ready(self, any_id: AnyId, facts: MediaFacts | None) -> Status:
        """Return the status of a public media item with these facts; None if those of its original are damaged."""
        thumbnails = keys.origin_paths(any_id, sizes_of(facts, self.sizes))
        return Status(str(any_id), State.READY, facts=facts, thumbnails=thumbnails)

    async def withdraw_after_failure(self, media_id: MediaId, facts: MediaFacts) -> None:
        """Remove what this attempt wrote if another one failed first. After a deletion, the removal task does so."""
        status = await self.statuses.get(str(media_id))
        if status is not None and status.state is State.FAILED:
            indexes = await self._disown(media_id, await self.original(media_id))
            await self.store.get().delete([keys.original(media_id), keys.credentials(media_id), *indexes])
            await self._remove_thumbnails(media_id, sizes_of(facts, self.sizes))

    async def announce_failed(
        self, any_id: AnyId, reason: Reason, *, dedup_key: str = "", is_file_suspect: bool = False
    ) -> None:
        """Store the status FAILED and publish its event. An earlier reason is kept."""
        statuses = self.statuses
        retryable = reason in RETRYABLE and not is_file_suspect
        status = Status(str(any_id), State.FAILED, reason=reason, retryable=retryable)
        if not await statuses.put(status, ttl_s=FAILED_TTL_S):
            current = await statuses.get(str(any_id))
            if current is None or current.state is not State.FAILED or current.reason is None:
                return
            reason = current.reason
        if reason is not Reason.BLOCKED:  # the block publishes an event of its own
            await self._publish_end(any_id, "failed", {"reason": str(reason)}, dedup_key)

    async def _publish_end(self, any_id: AnyId, ending: str, details: dict[str, Any], dedup_key: str) -> None:
        kind = "media" if isinstance(any_id, MediaId) else "remote"
        await self.events.publish(f"{kind}.{ending}", str(any_id), details, dedup_key=dedup_key)

    async def remove_unpublished(self, media_id: MediaId) -> None:
        """Remove what an attempt wrote that never wrote its original, because its upload was replaced."""
        if await self.original(media_id) is None:
            derived = keys.thumbnails(media_id, possible_sizes(self.sizes))
            await self.store.get().delete([*derived, keys.credentials(media_id)])

    async def announce_blocked(self, media_id: str) -> None:
        """Store the status of a blocked media item. First forget another status, such as READY: without one, readers
        find the block in the bucket."""
        status = await self.statuses.get(media_id)
        if status is None or status.reason is not Reason.BLOCKED:
            await self.statuses.forget(media_id)
            await self.statuses.put(Status(media_id, State.FAILED, reason=Reason.BLOCKED), ttl_s=FAILED_TTL_S)

    async def withdraw(self, any_id: AnyId, trigger: str) -> None:
        """Stop serving a media item that nobody deleted, remove its objects, and purge it. ``trigger``: see `purge`."""
        info = await self.original(any_id)
        sizes = await self._possible_sizes(info)
        await self._withdraw(any_id, info, keys.all_of(any_id, sizes))
        await self.purge(any_id, trigger, sizes)
        await self._leave_host(any_id, info)

    async def withdraw_objects(self, any_id: AnyId, to_delete: Sequence[str]) -> None:
        """Stop serving a media item that nobody deleted, and remove these of its objects. The CDN keeps what it has."""
        info = await self.original(any_id)
        await self._withdraw(any_id, info, to_delete)
        await self._leave_host(any_id, info)

    async def _withdraw(self, any_id: AnyId, original: ObjectInfo | None, to_delete: Sequence[str]) -> None:
        await self.statuses.forget(str(any_id))  # first: the status must not be READY when the objects are removed
        await self.store.get().delete([*to_delete, *await self._disown(any_id, original)])
        await self.statuses.forget(str(any_id))  # again: a reader may have found the objects just before

    async def remove_objects(self, any_id: AnyId, sizes: Iterable[str] | None = None) -> tuple[str, ...]:
        """Remove all objects of a media item. Return the thumbnail sizes it may have had. Can be repeated.

        ``sizes``: the sizes, if the caller knows them.
        """
        info = await self.original(any_id)
        known = tuple(sizes) if sizes is not None else await self._possible_sizes(info)
        indexes = await self._disown(any_id, info)
        await self.store.get().delete([*keys.all_of(any_id, known), *indexes])
        await self._leave_host(any_id, info)
        return known

    async def restore(
        self, any_id: AnyId, original: ObjectInfo | None, held_bytes: int, copy: Callable[[], Awaitable[str]]
    ) -> str:
        """Put back what was withdrawn: first in the indexes, as ``original`` says, then by ``copy``, which writes the
        original last. Return its result.

        Nothing of a media item comes back whose removal has begun because it was deleted. Then return an empty text.
        """
        state_of = partial(self.statuses.deletion_state, str(any_id))
        if await state_of() in _REMOVED:
            return ""
        metadata = {} if original is None else original.metadata
        await self._index(any_id, metadata, held_bytes)
        if original is not None:
            await self.copies.add(index_key(any_id, original))
        copied = await copy()
        if await state_of() in _REMOVED:  # the removal may have ended before this restored something
            await self.remove_objects(any_id)
            return ""
        return copied

    async def _disown(self, any_id: AnyId, original: ObjectInfo | None) -> list[str]:
        """Remove a media item from the index of its owner. Return the index objects to remove in one request with the
        original, which names them and the owner."""
        if original is None:
            return []
        owner = owner_of(original.metadata)
        if owner and isinstance(any_id, MediaId):
            await self.owners.remove(owner, any_id)
        return [index_key(any_id, original)]

    async def _leave_host(self, any_id: AnyId, original: ObjectInfo | None) -> None:
        """Remove a copy from the index of its host, which was found by its original. Last, because a purge of the host
        finds by the index what is left. What a crash leaves in the index the sweep removes."""
        host = "" if original is None else original.metadata.get(HOST_METADATA, "")
        if host and isinstance(any_id, RemoteId):
            await self.hosts.remove(host, any_id)

    async def purge(self, any_id: AnyId | str, trigger: str, sizes: Iterable[str] = ()) -> None:
        """Purge a media item from the CDN soon. Several requests with the same ``trigger`` make one purge.

        ``sizes``: its thumbnail sizes, if known, because its original might already be removed. Private media are not
        purged: their paths have tokens, and no cache keeps them longer than a minute.
        """
        if self._cdn and not is_private(str(any_id)):
            fields = {"media_id": str(any_id)}
            if named := ",".join(sizes):
                fields[PURGED_SIZES] = named
            await self.queues[PURGE_QUEUE].enqueue(fields, dedup_key=f"{any_id}:{trigger}", follow_up=True)

    async def _possible_sizes(self, original: ObjectInfo | None) -> tuple[str, ...]:
        """Return the sizes that the original names, and the configured ones, which an unfinished attempt may have left.

        If the original is removed already or names none: the sizes of all media items in the store.
        """
        facts = None if original is None else stored_facts(original)
        known = facts.thumbnails if facts is not None else ()
        known = known or in_all_formats(await stored_sizes(self.store))
        return tuple(dict.fromkeys((*known, *possible_sizes(self.sizes))))

    async def remove_incoming(self, media_id: MediaId) -> None:
        """Remove the upload, which is never served."""
        await self.store.get().delete([keys.incoming(media_id)])


def _details(facts: MediaFacts, any_id: AnyId, thumbnails: Mapping[str, str]) -> dict[str, Any]:
    """Return what an event says of a media item: all that a page needs to show it. Of a private one it has no owner
    and no paths."""
    details = {
        "content_type": facts.format.content_type,
        "size": facts.size_bytes,
        "width": facts.width,
        "height": facts.height,
        "duration": facts.duration_s,
    }
    said = {"digital_source_type": facts.digital_source_type, "claim_generator": facts.claim_generator}
    details |= {name: text for name, text in said.items() if text}
    if any_id.is_private:
        return details | {"visibility": "private"}
    owner = {"owner": facts.owner} if facts.owner else {}
    paths = {"path": keys.original_path(any_id), "thumbnails": thumbnails}
    return owner | details | paths | {"visibility": "public"}


def _type_of(thumbnail: str) -> str:
    return WEBP.content_type if thumbnail.endswith(WEBP_SUFFIX) else JPEG.content_type
