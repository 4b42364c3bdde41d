"""Finds the thumbnail sizes that the object store has, including those of former configurations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from avion_media.backends.store.objects import ListedObject
from avion_media.backends.store.store import ObjectStore
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.resources import ResourceSlot

_AFTER_SLASH = "0"  # the character behind "/": `thumbnail/small0` sorts behind all of `thumbnail/small/`


async def stored_sizes(store: ResourceSlot[ObjectStore], limiter: RateLimiter | None = None) -> list[str]:
    """Return the names of all thumbnail sizes in the object store, with one request for each, and one more.

    Raises `Unavailable`.
    """
    sizes: list[str] = []
    after: str | None = None
    while True:
        if limiter is not None:
            await limiter.acquire()
        first = await _first(store.get().list(keys.THUMBNAIL_PREFIX, after, page_size=1))
        if first is None:
            return sizes
        size = first.key.removeprefix(keys.THUMBNAIL_PREFIX).partition("/")[0]
        sizes.append(size)
        after = f"{keys.THUMBNAIL_PREFIX}{size}{_AFTER_SLASH}"


async def _first(pages: AsyncIterator[Sequence[ListedObject]]) -> ListedObject | None:
    async for page in pages:
        if page:
            return page[0]
    return None
