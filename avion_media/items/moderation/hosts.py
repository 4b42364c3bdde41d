"""Blocked hosts: remote servers that nothing is fetched from.

``moderation/hosts/{host}`` covers the host and all names below it, ``moderation/hosts/={host}`` the host alone. The
keys say all that is needed to refuse a URL, so a record that cannot be read is in force as well. The bucket is the
source of truth. Replicas list it when another generation is announced (`Changes`), which is so after a loss of Redis
too, and every ``MODERATION__RELOAD``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import trio

from avion_media.backends.store import ObjectStore
from avion_media.backends.store.contents import read_many
from avion_media.common import keys
from avion_media.common.errors import MediaError
from avion_media.common.records import JsonRecord
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation.lists import Changes
from avion_media.items.moderation.records import now
from guarded_fetch import InvalidUrl, address_of, covers, normal_host

EXACTLY = "="
"""Begins the name of a block that covers no names below its host."""
SETTINGS = "settings"
"""Who blocks the hosts of ``REMOTE__DENY_HOSTS``."""
_MAX_BYTES = 64 << 10


class InvalidHost(ValueError):
    """The text is not the name or the address of a host that can be blocked."""


class HostNotBlocked(MediaError):
    """This host is not blocked by a call, a command or the console."""


@dataclass(frozen=True, slots=True)
class BlockedHost:
    """The block of one host. ``exact``: names below it are not blocked. ``since`` is empty for one of the settings."""

    host: str
    exact: bool = False
    note: str = ""
    since: str = ""
    by: str = ""

    @property
    def name(self) -> str:
        """Its name in keys, and as the target of an action."""
        return f"{EXACTLY if self.exact else ''}{self.host}"

    def covers(self, host: str) -> bool:
        """Return whether the block covers a host in normal form."""
        return host == self.host or (not self.exact and covers(host, frozenset({self.host})))


BLOCKED_HOST = JsonRecord("blocked_host", BlockedHost, f"{keys.HOST_BLOCK_PREFIX}<host>", "moderators")


def parse_host(name: str) -> BlockedHost:
    """Return what a name means, in normal form: ``example.org``, or ``=example.org`` for the host alone.

    An address is always exact. Raises `InvalidHost`.
    """
    text = name.strip().removeprefix(EXACTLY)
    bare = text.removeprefix("[").removesuffix("]")
    try:
        host = normal_host(f"[{bare}]" if ":" in bare else text)
    except InvalidUrl:
        raise InvalidHost("must be a host name or an address, without scheme, port, path or wildcard") from None
    if address_of(host) is not None:
        return BlockedHost(host, exact=True)
    if "." not in host:
        raise InvalidHost("a single label is not a host on the internet")
    return BlockedHost(host, exact=name.strip().startswith(EXACTLY))


class BlockedHosts:
    """The blocks of one bucket, as of the last `reload`. Methods raise `Unavailable`, and can then be repeated.

    ``denied``: the hosts of the settings, which are listed, and cannot be unblocked here.
    """

    def __init__(self, store: ResourceSlot[ObjectStore], changes: Changes, denied: Iterable[str]) -> None:
        self._store = store
        self._changes = changes
        self._denied = [BlockedHost(each.removeprefix("*").removeprefix("."), by=SETTINGS) for each in denied]
        self._names: frozenset[str] = frozenset()
        self._generation: bytes | None = None
        self._lock = trio.Lock()

    def is_blocked(self, host: str) -> bool:
        """Return whether a host in normal form is blocked, as of the last reload."""
        return f"{EXACTLY}{host}" in self._names or covers(host, self._names)

    async def refresh(self) -> None:
        """Reload if a change was announced since the last reload, or Redis has lost its data."""
        if await self._changes.generation() != self._generation:
            await self.reload()

    async def reload(self) -> None:
        """Read the bucket."""
        async with self._lock:
            generation = await self._changes.generation()  # first, so that changes made meanwhile are read again
            pages = self._store.get().list_keys(keys.HOST_BLOCK_PREFIX)
            self._names = frozenset([key.removeprefix(keys.HOST_BLOCK_PREFIX) async for page in pages for key in page])
            self._generation = generation

    async def block(self, wanted: BlockedHost) -> None:
        """Block a host. Another block of the same host is replaced. When this returns, all replicas refuse its URLs."""
        record = BLOCKED_HOST.write(BlockedHost(wanted.host, wanted.exact, wanted.note, now(), wanted.by))
        await self._store.get().put(_key(wanted.name), record, content_type="application/json")
        await self._store.get().delete([_key(_other(wanted).name)])
        await self._announce()

    async def unblock(self, host: str) -> None:
        """Remove the block of a host, whatever it covers. Raises `HostNotBlocked`."""
        await self.reload()
        names = {host, f"{EXACTLY}{host}"} & self._names
        if not names:
            raise HostNotBlocked(host)
        await self._store.get().delete(list(map(_key, names)))
        await self._announce()

    async def list(self, after: str = "", count: int = 1000) -> tuple[list[BlockedHost], str]:
        """Return the next ``count`` blocks after that token, in the order of hosts, and the token behind them, if there
        are more. Those of the settings are among them."""
        await self.refresh()
        behind = sorted((each for each in self._all() if _order(each) > after), key=_order)
        page, next_page = behind[:count], _order(behind[count - 1]) if len(behind) > count else ""
        stored = [_key(each.name) for each in page if each.by != SETTINGS]
        read = await read_many(self._store.get(), stored, max_bytes=_MAX_BYTES)
        found: dict[str, BlockedHost] = {}
        for each in page:
            key = _key(each.name)
            if each.by == SETTINGS:
                found[_order(each)] = each
            elif key in read:  # else it was unblocked meanwhile
                found[_order(each)] = BLOCKED_HOST.read_or_skip(read[key], key) or each
        return list(found.values()), next_page

    async def covering(self, host: str) -> Sequence[BlockedHost]:
        """Return the blocks that cover a host in normal form, only with their names."""
        await self.refresh()
        return [each for each in self._all() if each.covers(host)]

    def _all(self) -> Sequence[BlockedHost]:
        known = [BlockedHost(name.removeprefix(EXACTLY), name.startswith(EXACTLY)) for name in self._names]
        return (*known, *self._denied)

    async def _announce(self) -> None:
        await self._changes.note()
        await self.reload()


def _order(each: BlockedHost) -> str:
    """Return the place of a block in the list, which is also its page token."""
    return f"{each.host} {each.by == SETTINGS:d}"


def _other(blocked: BlockedHost) -> BlockedHost:
    return BlockedHost(blocked.host, not blocked.exact)


def _key(name: str) -> str:
    return f"{keys.HOST_BLOCK_PREFIX}{name}"
