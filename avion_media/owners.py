"""Which media each owner has: one empty object for each, ``owner/{owner}/{media_id}.{bytes}``.

A listing of ``owner/{owner}/`` is all there is to usage, listing and erasure of an account; nothing is counted
anywhere else. The object is written before the original and removed before it: so a public medium with an owner always
has one, and what a crash leaves has no original, which the sweep finds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from avion_media.domain import keys
from avion_media.domain.ids import InvalidId, MediaId, parse_media_id
from avion_media.domain.owners import is_owner
from avion_media.resources import ResourceSlot
from avion_media.store import ObjectStore

_AFTER_DOT = "/"  # the character behind ".": `{media_id}/` sorts behind all of `{media_id}.…`
_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class OwnedMedium:
    """One media item of an owner, and the bytes that the store held for it when it became public."""

    owner: str
    media_id: MediaId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner has."""

    count: int = 0
    size_bytes: int = 0


class OwnerIndex:
    """The index in one bucket. Every call may raise Unavailable, and may be repeated."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    async def add(self, owner: str, media_id: MediaId, size_bytes: int) -> None:
        """Write that the owner has the media item."""
        await self._store.get().put(keys.owned(owner, media_id, size_bytes), b"", content_type=_TYPE)

    async def remove_if_doubled(self, owner: str, media_id: MediaId, size_bytes: int) -> None:
        """Remove what an attempt has added whose file is not the one that became public, if that has another size."""
        listed = [each async for page in self._store.get().list_keys(keys.owned_by(owner, media_id)) for each in page]
        if len(listed) > 1:
            await self._store.get().delete([keys.owned(owner, media_id, size_bytes)])

    async def remove(self, owner: str, media_id: MediaId) -> None:
        """Write that the owner has the media item no longer."""
        store = self._store.get()
        listed = [each async for page in store.list_keys(keys.owned_by(owner, media_id)) for each in page]
        if listed:
            await store.delete(listed)

    def media(self, owner: str = "", after: MediaId | None = None, *, page_size: int = 1000) -> OwnedPages:
        """Pages of the media of an owner behind the id ``after``, in the order of their ids, by ``async for``.

        Without an owner: of all owners, one after the other.
        """
        prefix = keys.owned_by(owner) if owner else keys.OWNER_PREFIX
        start_after = None if after is None else f"{prefix}{after}{_AFTER_DOT}"
        return OwnedPages(self._store.get().list_keys(prefix, start_after, page_size=page_size))

    async def usage(self, owner: str) -> Usage:
        """Return what an owner has: one request for a thousand media, in constant memory."""
        count = size_bytes = 0
        async for page in self.media(owner):
            count += len(page)
            size_bytes += sum(each.size_bytes for each in page)
        return Usage(count, size_bytes)


class OwnedPages:
    """An asynchronous iterator of pages. A media item that two attempts have written is in them once."""

    def __init__(self, pages: AsyncIterator[list[str]]) -> None:
        self._pages = pages
        self._last = ""

    def __aiter__(self) -> OwnedPages:
        return self

    async def __anext__(self) -> list[OwnedMedium]:
        found = []
        for key in await anext(self._pages):
            owned = read_key(key)
            if owned is not None and not key.startswith(f"{self._last}."):
                found.append(owned)
                self._last = key.rpartition(".")[0]
        return found


def read_key(key: str) -> OwnedMedium | None:
    """Return what the key of an index object says; None if it is not one of ours."""
    owner, _, name = key.removeprefix(keys.OWNER_PREFIX).partition("/")
    media_id, _, size = name.rpartition(".")
    if not is_owner(owner) or not size.isascii() or not size.isdigit():
        return None
    try:
        return OwnedMedium(owner, parse_media_id(media_id), int(size))
    except InvalidId:
        return None
