"""The index of originals by content: one empty object per original, ``sha256/{hash}/{id}``.

An original without a SHA-256, which is a large video, has ``size/{bytes}/{id}`` instead. A block finds the copies of a
file with it. The index object is written before the original, and removed in one request with it. So a public original
always has one. A crash can leave an index object without an original. The sweep removes it, and writes one that is
missing, for example because another program wrote the original.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from avion_media.backends.store import ObjectInfo, ObjectStore
from avion_media.common import keys
from avion_media.common.ids import AnyId, parse_any_id
from avion_media.common.records import CustomRecord
from avion_media.common.resources import ResourceSlot

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class IndexedOriginal:
    """An original and its content: the SHA-256, or the size in bytes if it has no SHA-256."""

    any_id: AnyId
    sha256: str
    size_bytes: int = 0


class CopyIndex:
    """The index in one bucket. Every call can raise `Unavailable`, and can be repeated."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    async def add(self, key: str) -> None:
        """Write the index object with this key (`index_key`, `keys.same_file`)."""
        await self._store.get().put(key, b"", content_type=_TYPE)

    async def candidates(self, hashes: Iterable[str], size_bytes: int) -> list[IndexedOriginal]:
        """Return the originals that have one of these hashes, or that have this size and no hash.

        The caller compares each with its file: index objects can be left over.
        """
        listings = [self._store.get().list_keys(keys.same_file(each, size_bytes)) for each in (*hashes, "")]
        found = [
            COPY_ENTRY.read_or_skip(key.encode(), key) for listing in listings async for page in listing for key in page
        ]
        return [each for each in found if each is not None]


def sha256_of(original: ObjectInfo) -> str:
    """Return the SHA-256 that the metadata of an original has; empty if it has none."""
    sha256 = original.metadata.get("sha256", "")
    return sha256 if _SHA256.fullmatch(sha256) else ""


def index_key(any_id: AnyId, original: ObjectInfo) -> str:
    """Return the key of the index object of an original."""
    return keys.same_file(sha256_of(original), original.size_bytes, any_id)


def _parse(key: str, _key: str) -> IndexedOriginal:
    """Return what the key of an index object means. Raises ValueError."""
    prefix, _, rest = key.partition("/")
    content, _, name = rest.partition("/")
    if f"{prefix}/" == keys.SIZE_PREFIX:
        return IndexedOriginal(parse_any_id(name), "", int(content))
    if f"{prefix}/" != keys.SHA256_PREFIX or _SHA256.fullmatch(content) is None:
        raise ValueError("it is not sha256/<hash>/<id> or size/<bytes>/<id>")
    return IndexedOriginal(parse_any_id(name), content)


COPY_ENTRY = CustomRecord(
    "copy_entry",
    IndexedOriginal,
    f"{keys.SHA256_PREFIX}<hash>/<id>, {keys.SIZE_PREFIX}<bytes>/<id>",
    "workers of uploads and remote media, unblocks, the sweep",
    fields=["hash", "bytes", "id"],
    parse=_parse,
)
