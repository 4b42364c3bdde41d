"""What several callers do with objects: list folders, remove a prefix, change an object, keep a secret."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from avion_media.backends.store.store import ObjectStore
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.resources import ResourceSlot
from trio_redis import run_all
from trio_s3 import ListedObject, ObjectInfo

SECRET_BYTES: Final = 32
_MAX_BYTES: Final = 1024
_READ_AT_ONCE: Final = 8
_ATTEMPTS: Final = 20  # to change an object that other processes change as well


async def stored_sizes(store: ResourceSlot[ObjectStore], limiter: RateLimiter | None = None) -> list[str]:
    """Return the names of all thumbnail sizes in the object store, with one request for each, and one more.

    Raises `Unavailable`.
    """
    return [size async for size in folders(store, keys.THUMBNAIL_PREFIX, limiter)]


async def folders(
    store: ResourceSlot[ObjectStore], prefix: str, limiter: RateLimiter | None = None
) -> AsyncIterator[str]:
    """Iterate over the names that stand between a prefix and the next slash, with one request for each, and one more.

    Raises `Unavailable`.
    """
    after: str | None = None
    while True:
        if limiter is not None:
            await limiter.acquire()
        first = await _first(store.get().list(prefix, after, page_size=1))
        if first is None:
            return
        name = first.key.removeprefix(prefix).partition("/")[0]
        yield name
        after = keys.behind(f"{prefix}{name}/")


async def _first(pages: AsyncIterator[Sequence[ListedObject]]) -> ListedObject | None:
    async for page in pages:
        if page:
            return page[0]
    return None


async def find(store: ObjectStore, key: str) -> ObjectInfo | None:
    """Return the facts about one object; None if there is none. Raises `Unavailable`."""
    with suppress(ObjectMissing):
        return await store.head(key)
    return None


async def read_if_there(store: ObjectStore, key: str, *, max_bytes: int) -> bytes | None:
    """Return the content of one object; None if there is none. Raises `Unavailable` and `TooLarge`."""
    with suppress(ObjectMissing):
        return await store.read(key, max_bytes=max_bytes)
    return None


async def read_version(store: ObjectStore, key: str, *, max_bytes: int) -> tuple[bytes, str] | None:
    """Return the content of one object and its ETag; None if there is none. Errors as with `read_if_there`."""
    with suppress(ObjectMissing):
        part = await store.read_part(key, max_bytes=max_bytes)
        return bytes(part.data), part.info.etag
    return None


async def read_many(
    store: ObjectStore, wanted: Iterable[str], *, max_bytes: int, at_once: int = _READ_AT_ONCE
) -> dict[str, bytes]:
    """Return the contents of those of these objects that exist, in this order. Errors as with `read_if_there`."""
    keys = list(wanted)
    contents = await run_all([partial(read_if_there, store, key, max_bytes=max_bytes) for key in keys], at_once)
    return {key: content for key, content in zip(keys, contents, strict=True) if content is not None}


async def remove_below(store: ObjectStore, prefix: str, *, but: str = "") -> None:
    """Remove all objects with this prefix except the one with the key ``but``. Raises `Unavailable`."""
    if wrong := [key async for page in store.list_keys(prefix) for key in page if key != but]:
        await store.delete(wrong)


async def change_object(
    store: ObjectStore, key: str, change: Callable[[bytes | None], bytes | None], *, content_type: str, max_bytes: int
) -> None:
    """Change an object that other processes change as well: read it, and write it unless it was changed meanwhile.

    ``change`` gets the content, None for no object, and returns the new content, or None to leave it. It can be called
    several times. Raises `Unavailable`, also if the object is changed again and again, `TooLarge`, and what ``change``
    raises. After `Unavailable` or a cancel it may be changed.
    """
    for _ in range(_ATTEMPTS):
        content, etag = await read_version(store, key, max_bytes=max_bytes) or (None, None)
        changed = change(content)
        if changed is None:
            return
        with suppress(PreconditionFailed):  # another process has changed it, or this write was repeated
            await store.put(key, changed, content_type=content_type, only_if_absent=etag is None, if_match=etag)
            return
    raise Unavailable(Dependency.OBJECT, f"{key} is changed again and again")


async def read_secret(store: ObjectStore, key: str) -> bytes:
    """Return the secret of this key; make it if there is none. Raises `Unavailable`."""
    if (secret := await read_if_there(store, key, max_bytes=_MAX_BYTES)) is not None:
        return secret
    with suppress(PreconditionFailed):  # another process was faster
        made = secrets.token_bytes(SECRET_BYTES)
        await store.put(key, made, content_type="application/octet-stream", only_if_absent=True)
    return await store.read(key, max_bytes=_MAX_BYTES)
