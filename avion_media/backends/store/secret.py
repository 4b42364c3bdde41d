"""Secrets that all replicas share without a setting: objects below ``secret/``, made when one is first needed."""

from __future__ import annotations

import secrets
from typing import Final

from avion_media.backends.store.store import ObjectStore
from avion_media.common.errors import ObjectMissing, PreconditionFailed

_BYTES: Final = 32
_MAX_BYTES: Final = 1024


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
