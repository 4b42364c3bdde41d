"""Evidence: files of blocked and held media under ``quarantine/{media_id}/``, with a record that says until when.

A block or a recorded report dates the record, and neither ever brings its end forward. A sweep removes what is over
(`is_over`). Files without a record are those of a media item that waits for a moderator, or what a crash left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from avion_media.backends.store import FileSource, ListedObject, ObjectInfo, ObjectStore
from avion_media.backends.store.contents import change_object, find, read_if_there
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.records import JsonRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation.records import Block, Ground, moment
from mediathumbs import WEBP_SUFFIX

_INCOMING, _ORIGINAL = keys.KEPT_UPLOAD, keys.KEPT_ORIGINAL
_THUMBNAIL = "thumbnail-"
_CREDENTIALS = "credentials"
RECORD: Final = "record.json"
_PREVIEW = "preview"
_MAX_PREVIEW_BYTES = 16 << 20
_MAX_RECORD_BYTES = 64 << 10
_COPY_ATTEMPTS = 5
_key = keys.evidence


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """Until when the evidence of one media item is kept, and why.

    ``blocked_at``, ``ground``, ``requested_at``, ``automated``, ``by``, ``note`` and ``cause`` are those of its last
    block (see `Block`), and empty before one. ``reported_at`` is when ``reported_by`` recorded ``report``.
    """

    media_id: str
    kept_until: str = ""
    blocked_at: str = ""
    reported_at: str = ""
    ground: Ground = Ground.UNSPECIFIED
    requested_at: str = ""
    automated: bool = False
    by: str = ""
    note: str = ""
    cause: str = ""
    report: str = ""
    reported_by: str = ""

    def is_over(self, at: datetime) -> bool:
        """Return whether its time has passed."""
        return datetime.fromisoformat(self.kept_until) <= at


EVIDENCE: Final = JsonRecord(
    "evidence", EvidenceRecord, f"{keys.QUARANTINE_PREFIX}<id>/{RECORD}", "moderators, workers"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is in quarantine of one media item: sizes by name, and when the newest of them was written."""

    media_id: str
    files: Mapping[str, int]
    written_at: datetime

    @property
    def size_bytes(self) -> int:
        """The size of all of it, in bytes."""
        return sum(self.files.values())


class Evidence:
    """Copies inside the store. Existing evidence is not overwritten, because a later file is not the evidence. It stays
    for ``keep_s`` after the block, also after an unblock: whatever a late process removes can be restored again.

    Every method raises `Unavailable` while the store is unavailable, and can then be repeated.
    """

    def __init__(self, store: ResourceSlot[ObjectStore], keep_s: float) -> None:
        self._store = store
        self._keep = timedelta(seconds=keep_s)

    async def keep(self, any_id: AnyId, sizes: Iterable[str], *, replace: bool = False) -> None:
        """Copy everything of a media item. Call it before anything of it is removed. ``replace``: over what exists."""
        for name, key in self._places(any_id, sizes).items():
            await self._copy(key, _key(any_id, name), if_absent=not replace)

    async def keep_upload(self, media_id: MediaId, etag: str) -> None:
        """Copy the upload with this ETag, over an earlier one. Raises `PreconditionFailed` if the client has replaced
        it."""
        await self._replace(keys.incoming(media_id), _key(media_id, _INCOMING), etag)

    async def keep_file(self, any_id: AnyId, fd: int, size_bytes: int) -> None:
        """Write a file that is not in the store, for example one that was fetched from a remote server."""
        file = FileSource(fd, size_bytes)
        await self._store.get().put(_key(any_id, _INCOMING), file, content_type="application/octet-stream")

    async def keep_preview(self, any_id: AnyId, thumbnail: bytes) -> None:
        """Write a thumbnail of a held media item, which has none in the store. Moderators must not decode the
        upload."""
        await self._store.get().put(_key(any_id, _PREVIEW), thumbnail, content_type="image/jpeg")

    async def kept(self, any_id: AnyId) -> Kept | None:
        """Return what is kept of a media item; None if nothing is."""
        pages = self._store.get().list(f"{keys.QUARANTINE_PREFIX}{any_id}/")
        listed = [each async for page in pages for each in page]
        return _kept(listed) if listed else None

    async def files(self, any_id: AnyId) -> Mapping[str, int]:
        """Return the names and sizes of the evidence of a media item, with those of the record."""
        kept = await self.kept(any_id)
        return {} if kept is None else kept.files

    async def preview(self, any_id: AnyId) -> bytes | None:
        """Return a JPEG that shows it: the preview of a held media item, or a thumbnail of a blocked one; or None.

        All of them were made in the sandbox.
        """
        shown = _preview_among(await self.files(any_id))
        if not shown:
            return None
        return await read_if_there(self._store.get(), _key(any_id, shown), max_bytes=_MAX_PREVIEW_BYTES)

    async def record(self, any_id: AnyId) -> EvidenceRecord | None:
        """Return the record, or None. Raises `UnreadableRecord`."""
        key = _key(any_id, RECORD)
        raw = await read_if_there(self._store.get(), key, max_bytes=_MAX_RECORD_BYTES)
        return None if raw is None else EVIDENCE.read(raw, key)

    async def note_block(self, any_id: AnyId, block: Block) -> EvidenceRecord:
        """Record the present block beside the files, which are kept for `keep_s` from it. Raises `UnreadableRecord`."""
        names = "ground", "requested_at", "automated", "by", "note", "cause"
        return await self._change(any_id, blocked_at=block.at, **{name: getattr(block, name) for name in names})

    async def hold(self, any_id: AnyId, at: datetime, until: datetime, report: str, by: str) -> EvidenceRecord:
        """Record a report beside the files, which are kept for `keep_s` from it, and at least until ``until``.

        Raises `UnreadableRecord`.
        """
        reported = {"reported_at": moment(at), "report": report, "reported_by": by}
        return await self._change(any_id, kept_until=moment(until), **reported)

    async def _change(self, any_id: AnyId, **changes: Any) -> EvidenceRecord:
        """Change the record over the version of it that was read. Its end is the latest that was ever set."""
        key, changed = _key(any_id, RECORD), EvidenceRecord(str(any_id))

        def change(raw: bytes | None) -> bytes:
            nonlocal changed
            before = EvidenceRecord(str(any_id)) if raw is None else EVIDENCE.read(raw, key)
            changed = replace(before, **changes)
            last = datetime.fromisoformat(max(changed.blocked_at, changed.reported_at))
            ends = before.kept_until, changed.kept_until, moment(last + self._keep)
            changed = replace(changed, kept_until=max(ends))
            return EVIDENCE.write(changed)

        store = self._store.get()
        await change_object(store, key, change, content_type="application/json", max_bytes=_MAX_RECORD_BYTES)
        return changed

    async def all(self, after: str = "") -> AsyncIterator[Kept]:
        """Iterate over everything that is kept, behind this media id, in the order of ids."""
        start = keys.behind(f"{keys.QUARANTINE_PREFIX}{after}/") if after else None
        listed: list[ListedObject] = []
        async for page in self._store.get().list(keys.QUARANTINE_PREFIX, start):
            for each in page:
                if listed and _media_id(each) != _media_id(listed[0]):
                    yield _kept(listed)
                    listed = []
                listed.append(each)
        if listed:
            yield _kept(listed)

    async def is_over(self, any_id: AnyId, kept: Kept, at: datetime) -> bool:
        """Return whether the time of this evidence has passed. Raises `UnreadableRecord`.

        Without a record it ends `keep_s` after the newest file was written, but not while a moderator must decide.
        """
        record = await self.record(any_id)
        if record is not None:
            return record.is_over(at)
        if await find(self._store.get(), f"{keys.HELD_PREFIX}{any_id}") is not None:
            return False
        return kept.written_at + self._keep <= at

    async def remove(self, any_id: AnyId) -> None:
        """Remove all of it, the record last, so that a crash leaves nothing without its record."""
        names = [each for each in await self.files(any_id) if each != RECORD]
        for name in (*names, RECORD):
            await self._store.get().delete([_key(any_id, name)])

    async def original(self, any_id: AnyId) -> tuple[ObjectInfo | None, int]:
        """Return the kept original, or None, and the bytes of it, its thumbnails and its content credentials."""
        sizes = await self.files(any_id)
        if _ORIGINAL not in sizes:
            return None, 0
        served = sum(
            size for name, size in sizes.items() if name in (_ORIGINAL, _CREDENTIALS) or name.startswith(_THUMBNAIL)
        )
        return await self._store.get().head(_key(any_id, _ORIGINAL)), served

    async def restore(self, any_id: AnyId, sizes: Iterable[str]) -> bool:
        """Copy a published media item back, the original last. Return whether its original was kept."""
        places = self._places(any_id, sizes)
        for name, key in reversed(places.items()):
            if name != _INCOMING:
                await self._copy(_key(any_id, name), key)
        return await self._store.get().exists(keys.original(any_id))

    async def restore_upload(self, media_id: AnyId, *, if_absent: bool = False) -> str:
        """Copy the upload back, over a later one, to be processed. Return its ETag; empty if nothing was copied."""
        if not isinstance(media_id, MediaId):
            return ""
        return await self._replace(_key(media_id, _INCOMING), keys.incoming(media_id), if_absent=if_absent)

    async def remove_held(self, any_id: AnyId) -> None:
        """Remove what was kept for the review of a held media item, unless it was blocked or reported before."""
        if await find(self._store.get(), _key(any_id, RECORD)) is None:
            await self._store.get().delete([_key(any_id, _INCOMING), _key(any_id, _PREVIEW)])

    def _places(self, any_id: AnyId, sizes: Iterable[str]) -> dict[str, str]:
        """Return the keys of the evidence, and the keys that the files are served from. The original is first."""
        places = {_ORIGINAL: keys.original(any_id)}
        places |= {f"{_THUMBNAIL}{size}": keys.thumbnail(any_id, size) for size in sizes}
        places[_CREDENTIALS] = keys.credentials(any_id)
        return {**places, _INCOMING: keys.incoming(any_id)} if isinstance(any_id, MediaId) else places

    async def _replace(self, source_key: str, target_key: str, etag: str = "", *, if_absent: bool = False) -> str:
        """Copy over the target, or only if there is none. Return the ETag; empty if nothing was copied.

        Raises `PreconditionFailed` if the source was replaced, or has another ETag than ``etag``.
        """
        store = self._store.get()
        try:
            info = await store.head(source_key)
            if if_absent and await store.exists(target_key):
                return ""
            return await store.copy(
                source_key,
                target_key,
                content_type=info.content_type,
                metadata=info.metadata,
                source_etag=etag or info.etag,
            )
        except ObjectMissing:
            return ""

    async def _copy(self, source_key: str, target_key: str, *, if_absent: bool = True) -> None:
        """Copy, unless the source does not exist; ``if_absent``: or the target does."""
        for _ in range(_COPY_ATTEMPTS):
            with suppress(PreconditionFailed):  # it was replaced meanwhile: a client can PUT its upload again
                await self._replace(source_key, target_key, if_absent=if_absent)
                return
        raise Unavailable(Dependency.UPLOAD, f"{source_key} is replaced again and again")


def _media_id(listed: ListedObject) -> str:
    return listed.key.removeprefix(keys.QUARANTINE_PREFIX).partition("/")[0]


def _kept(listed: Sequence[ListedObject]) -> Kept:
    files = {each.key.rpartition("/")[2]: each.size_bytes for each in listed}
    return Kept(_media_id(listed[0]), files, max(each.last_modified for each in listed))


def has_preview(files: Mapping[str, int]) -> bool:
    """Return whether these files of a media item include a `preview`."""
    return bool(_preview_among(files))


def _preview_among(files: Mapping[str, int]) -> str:
    """Return the name of the image to show: the preview, or the largest thumbnail; empty without one."""
    pictures = [name for name in files if name.startswith(_THUMBNAIL) and not name.endswith(WEBP_SUFFIX)]
    return _PREVIEW if _PREVIEW in files else max(pictures, key=lambda name: files[name], default="")
