"""The index of remote media by host: one empty object per copy, ``host/{host}/{hash}.{bytes}.{kind}``.

It is to remote media what ``owner/…`` is to uploads (`avion_media.items.owners`): usage, listing and purge of a host
are listings of ``host/{host}/``. The index object is written before the original, and removed before it. A crash can
leave one without an original, which the sweep or a purge removes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import find, folders, remove_below
from avion_media.common import keys
from avion_media.common.ids import RemoteId, parse_remote_id
from avion_media.common.records import CustomRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.owners import EntryPages, Usage

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]+)\.([a-z_]+)", re.ASCII)
_TYPE = "application/octet-stream"
_URL = "url"  # user metadata
_MAX_URL = 1500  # characters: stores keep 2 KiB of metadata


@dataclass(frozen=True, slots=True)
class RemoteCopy:
    """One copy of a remote file, and its bytes in the store when it became public."""

    host: str
    media_id: RemoteId
    size_bytes: int
    kind: str


class HostIndex:
    """The index in one bucket. Every call can raise `Unavailable`, and can be repeated."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store

    async def add(self, host: str, remote_id: RemoteId, size_bytes: int, kind: str, url: str) -> str:
        """Add a copy to the index of its host. Return the key of its index object.

        The index object names the URL in its metadata. Nothing else in the bucket does, because the origin can show the
        metadata of an original.
        """
        key = keys.hosted(host, remote_id, size_bytes, kind)
        await self._store.get().put(key, b"", content_type=_TYPE, metadata={_URL: url[:_MAX_URL]})
        return key

    async def url_of(self, host: str, remote_id: RemoteId) -> str:
        """Return the URL of a copy, cut to its first characters; empty if the index does not have it."""
        store = self._store.get()
        async for page in store.list_keys(keys.hosted_by(host, remote_id)):
            for key in page:
                info = await find(store, key)
                return "" if info is None else info.metadata.get(_URL, "")
        return ""

    async def remove(self, host: str, remote_id: RemoteId, *, but: str = "") -> None:
        """Remove a copy from the index of its host; all its index objects except ``but``."""
        await remove_below(self._store.get(), keys.hosted_by(host, remote_id), but=but)

    def copies(self, host: str, after: RemoteId | None = None, *, page_size: int = 1000) -> EntryPages[RemoteCopy]:
        """Iterate over the copies of a host after the id ``after``, page by page, in the order of their ids."""
        start_after = None if after is None else keys.behind(keys.hosted_by(host, after))
        listed = self._store.get().list_keys(keys.hosted_by(host), start_after, page_size=page_size)
        return EntryPages(listed, HOST_ENTRY)

    async def usage(self, host: str) -> Usage:
        """Return the usage of a host, with one request per thousand copies."""
        found = (await self.usage_by_kind(host)).values()
        return Usage(sum(each.count for each in found), sum(each.size_bytes for each in found))

    async def usage_by_kind(self, host: str) -> dict[str, Usage]:
        """Return the same by kind."""
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        async for page in self.copies(host):
            for each in page:
                counts[each.kind] += 1
                sizes[each.kind] += each.size_bytes
        return {kind: Usage(count, sizes[kind]) for kind, count in counts.items()}

    async def hosts(self, wanted: Callable[[str], bool]) -> AsyncIterator[str]:
        """Iterate over the hosts that have copies and are ``wanted``, with one request for each host of the bucket."""
        async for host in folders(self._store, keys.HOST_PREFIX):
            if wanted(host):
                yield host


def _parse(key: str, _key: str) -> RemoteCopy:
    """Return what the key of an index object says. Raises ValueError."""
    host, _, name = key.removeprefix(keys.HOST_PREFIX).partition("/")
    found = _NAME.fullmatch(name)
    if not host or found is None:
        raise ValueError("it is not host/<host>/<hash>.<bytes>.<kind>")
    return RemoteCopy(host, parse_remote_id(found[1]), int(found[2]), found[3])


HOST_ENTRY = CustomRecord(
    "host_entry",
    RemoteCopy,
    f"{keys.HOST_PREFIX}<host>/<hash>.<bytes>.<kind>",
    "workers of remote media",
    fields=["host", "hash", "bytes", "kind"],
    parse=_parse,
)
