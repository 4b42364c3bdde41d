"""Which sizes of thumbnails the store has: those of former configurations too."""

from __future__ import annotations

from collections.abc import AsyncIterator

from avion_media.domain import keys
from avion_media.resources import ResourceSlot
from avion_media.store import ListedObject, ObjectStore
from avion_media.tasks.pace import Pace

_AFTER_SLASH = "0"  # the character behind "/": `thumbnail/small0` sorts behind all of `thumbnail/small/`


async def stored_sizes(store: ResourceSlot[ObjectStore], pace: Pace | None = None) -> list[str]:
    """The names of the sizes that any medium in the store has. One request for each, and one more.

    Raises `Unavailable`.
    """
    sizes: list[str] = []
    after: str | None = None
    while True:
        if pace is not None:
            await pace.wait()
        first = await _first(store.get().list(keys.THUMBNAIL_PREFIX, after, page_size=1))
        if first is None:
            return sizes
        size = first.key.removeprefix(keys.THUMBNAIL_PREFIX).partition("/")[0]
        sizes.append(size)
        after = f"{keys.THUMBNAIL_PREFIX}{size}{_AFTER_SLASH}"


async def _first(pages: AsyncIterator[tuple[ListedObject, ...]]) -> ListedObject | None:
    async for page in pages:
        if page:
            return page[0]
    return None
