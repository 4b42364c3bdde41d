"""Evidence: the files of blocked and held media, under ``quarantine/{media_id}/`` until a lifecycle rule removes
them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from avion_media.backends.store import FileSource, ObjectInfo, ObjectStore
from avion_media.backends.store.contents import read_if_there
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.ids import AnyId, MediaId
from avion_media.common.resources import ResourceSlot
from mediathumbs import WEBP_SUFFIX

_INCOMING, _ORIGINAL = keys.KEPT_UPLOAD, keys.KEPT_ORIGINAL
_THUMBNAIL = "thumbnail-"
_CREDENTIALS = "credentials"
_RECORD = "block.json"
_PREVIEW = "preview"
_MAX_PREVIEW_BYTES = 16 << 20
_COPY_ATTEMPTS = 5
_key = keys.evidence


class Evidence:
    """Copies inside the store. Existing evidence is not overwritten, because a later file is not the evidence. It stays
    until the lifecycle rule removes it, also after an unblock: whatever a late process removes can be restored again.

    Every method raises `Unavailable` while the store is unavailable, and can then be repeated.
    """

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

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

    async def files(self, any_id: AnyId) -> dict[str, int]:
        """Return the names and sizes of the evidence of a media item."""
        store, prefix = self._store.get(), f"{keys.QUARANTINE_PREFIX}{any_id}/"
        return {each.key.removeprefix(prefix): each.size_bytes async for page in store.list(prefix) for each in page}

    async def preview(self, any_id: AnyId) -> bytes | None:
        """Return a JPEG that shows it: the preview of a held media item, or a thumbnail of a blocked one; or None.

        All of them were made in the sandbox.
        """
        shown = _preview_among(await self.files(any_id))
        if not shown:
            return None
        return await read_if_there(self._store.get(), _key(any_id, shown), max_bytes=_MAX_PREVIEW_BYTES)

    async def keep_record(self, any_id: AnyId, record: bytes) -> None:
        """Write the present record of the block beside the files."""
        await self._store.get().put(_key(any_id, _RECORD), record, content_type="application/json")

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
        """Remove what was kept for the review of a held media item."""
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


def has_preview(files: Mapping[str, int]) -> bool:
    """Return whether these files of a media item include a `preview`."""
    return bool(_preview_among(files))


def _preview_among(files: Mapping[str, int]) -> str:
    """Return the name of the image to show: the preview, or the largest thumbnail; empty without one."""
    pictures = [name for name in files if name.startswith(_THUMBNAIL) and not name.endswith(WEBP_SUFFIX)]
    return _PREVIEW if _PREVIEW in files else max(pictures, key=lambda name: files[name], default="")
