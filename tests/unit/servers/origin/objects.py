"""What the origin asks, in memory: the store, which can be made to fail, the deletions and the blocks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from datetime import UTC, datetime
from typing import Any

import trio

from avion_media.backends.store import ByteRange, ContentRange, ObjectInfo, ObjectPart, RangeNotSatisfiable
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.ids import MediaId
from avion_media.common.resources import ResourceSlot
from avion_media.items.moderation import ModerationStatus
from avion_media.items.private.access import PrivateMedia, Refusal
from trio_http1 import Request
from trio_s3 import Relay

Fault = Callable[[], Awaitable[None]]
MODIFIED = datetime(2025, 1, 1, tzinfo=UTC)


class Objects:
    """``held`` has the bytes by key. ``faults`` are called, one for each read, in this order; None for no fault."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.metadata: dict[str, str] = {}
        self.faults: list[Fault | None] = []
        self.reads: list[ByteRange | None] = []
        self.heads = 0
        self.asked: list[tuple[str, str]] = []  # each request, and its key
        self.reading = 0
        self.can_relay = False

    async def head(self, key: str) -> ObjectInfo:
        """As the store's."""
        self.heads += 1
        self.asked.append(("head", key))
        await trio.lowlevel.checkpoint()
        return self._info(key)

    async def exists(self, key: str) -> bool:
        """As the store's."""
        self.heads += 1
        self.asked.append(("head", key))
        await trio.lowlevel.checkpoint()
        return key in self.held

    async def read_part(
        self,
        key: str,
        byte_range: ByteRange | None = None,
        *,
        max_bytes: int,
        if_match: str | None = None,
    ) -> ObjectPart:
        """As the store's, but for what a fault does."""
        self.reads.append(byte_range)
        self.asked.append(("get", key))
        self.reading += 1
        try:
            await trio.lowlevel.checkpoint()
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None:
                await fault()
        finally:
            self.reading -= 1
        info, data = self._info(key), self.held[key]
        if if_match is not None and if_match != info.etag:
            raise PreconditionFailed(key)
        first, last = byte_range or (0, None)
        if first is None:
            assert last is not None
            first, last = max(0, len(data) - last), None
        if first >= len(data):
            raise RangeNotSatisfiable(key)
        part = data[first : None if last is None else last + 1]
        assert len(part) <= max_bytes
        content_range = ContentRange(first, first + len(part) - 1, len(data))
        return ObjectPart(info, content_range, part)

    async def relay(self, key: str, first: int, last: int, etag: str, relay: Relay) -> None:
        """As the store's, but for what a fault does behind the first half."""
        part = await self.read_part(key, (first, last), max_bytes=last - first + 1, if_match=etag)
        half = len(part.data) // 2
        await relay.put(bytes(part.data[:half]))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            await fault()
        await relay.put(bytes(part.data[half:]))

    @property
    def downloads(self) -> Objects:
        """Itself: it signs nothing."""
        return self

    def get(
        self,
        key: str,
        *,
        expires_s: int,
        now: datetime,
        content_type: str,
        content_disposition: str,
        cache_control: str = "",
    ) -> str:
        """A URL that names what it was asked for."""
        kept = f"&{cache_control}" if cache_control else ""
        return f"https://store.example/bucket/{key}?{expires_s}&{content_type}&{content_disposition}{kept}"

    def _info(self, key: str) -> ObjectInfo:
        if key not in self.held:
            raise ObjectMissing(key)
        return ObjectInfo(key, len(self.held[key]), self.etags.get(key, "one"), MODIFIED, "image/jpeg", self.metadata)


class Slot(ResourceSlot[Any]):
    """Holds what a node would give: the store, say."""

    def __init__(self, value: Any) -> None:
        super().__init__(Dependency.STORE)
        self.fill(value)


class Deletions:
    """``known`` is what Redis says: None while it is away."""

    def __init__(self, *, known: bool | None = False) -> None:
        self.known = known

    async def is_deleted(self, _media_id: str) -> bool:
        if self.known is None:
            raise Unavailable(Dependency.REDIS)
        return self.known


class Blocks(ModerationStatus):
    """``blocked`` are media ids with a block in force, ``watched`` those whose record is read before their objects."""

    def __init__(self, blocked: Container[str] = (), watched: Container[str] = ()) -> None:
        self._blocked = blocked
        self._ids_watched = watched

    async def is_blocked_despite_objects(self, media_id: str) -> bool:
        return media_id in self._ids_watched and await self.is_blocked(media_id)

    async def is_blocked(self, media_id: str) -> bool:
        return media_id in self._blocked


def request(target: str, method: str = "GET", **fields: str) -> Request:
    """A request as the server hands it over; names of fields write ``-`` as ``_``."""
    headers = {name.replace("_", "-").lower(): value for name, value in fields.items()}
    path, mark, query = target.partition("?")
    return Request(method, path, query if mark else None, headers, "peer", _no_body)


async def _no_body() -> bytes:
    return b""


class Tokens(PrivateMedia):
    """Answers for every token with ``known``; None while that cannot be looked up."""

    def __init__(self, known: int | Refusal | None = Refusal.FORGED) -> None:
        self._known = known
        self.checked: list[str] = []

    async def check(self, media_id: MediaId, text: str) -> int | Refusal:
        """As of the service."""
        self.checked.append(text)
        if self._known is None:
            raise Unavailable(Dependency.REDIS, "a test")
        return self._known
