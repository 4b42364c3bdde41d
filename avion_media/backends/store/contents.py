"""What all replicas find in the bucket without a setting: sizes of thumbnails, and secrets below ``secret/``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Final

from avion_media.backends.store.objects import ListedObject
from avion_media.backends.store.store import ObjectStore
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import ObjectMissing, PreconditionFailed
from avion_media.common.resources import ResourceSlot

_AFTER_SLASH = "0"  # the character behind "/": `thumbnail/small0` sorts behind all of `thumbnail/small/`

_BYTES: Final = 32
_MAX_BYTES: Final = 1024


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


async def read_secret(store: ObjectStore, key: str) -> bytes:
    """Return the secret of this key; make it if there is none. Raises `Unavailable`."""
    try:
        return await store.read(key, max_bytes=_MAX_BYTES)
    except ObjectMissing:
        pass
    try:
        made = secrets.token_bytes(_BYTES)
        await store.put(key, made, content_type="application/octet-stream", only_if_absent=True)
    except PreconditionFailed:
        pass  # another process was faster
    return await store.read(key, max_bytes=_MAX_BYTES)
