"""``drop_deleted``: what avion-post says was deleted, on a channel and on a stream (contract, section 4).

The stream has no gap: it is read through a consumer group of our own, and what a dead reader left is read again. The
channel is for producers that know no stream; what they say while nobody hears is lost, so the gap is measured. Hearing
of the same media twice is harmless to whoever handles a `Drop`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio

from avion_media.domain.errors import Unavailable
from avion_media.domain.ids import InvalidId, UnknownFormat, parse_any_id
from avion_media.domain.tasks import DROP_DELETED
from avion_media.queue import scripts
from avion_media.redis import Redis, RedisRefused, Reply

DROPS_GROUP = "media_drops"
_MAX_EVENT_BYTES = 1 << 20
_BACKLOG = 256  # events heard on the channel and not handled yet; what comes on top is lost, and said to be
_PAUSE_S = (0.2, 5.0)  # first and longest wait for Redis to come back


class MalformedDrop(ValueError):
    """Not an event that names media."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Media to be deleted. ``entry_id`` is that of the stream's entry, empty when it was heard on the channel.

    ``problem`` says what could not be read of the event, if anything: then ``media_ids`` are those that could.
    ``heard_at`` is Trio's time when it was heard on the channel.
    """

    media_ids: tuple[str, ...]
    entry_id: str = ""
    problem: str = ""
    heard_at: float | None = None

    @property
    def said_at_ms(self) -> int | None:
        """When it was written to the stream (Unix milliseconds by the server's clock)."""
        return int(self.entry_id.partition("-")[0]) if self.entry_id else None

    def said_ago_s(self) -> float:
        """How long ago it was heard on the channel."""
        return 0.0 if self.heard_at is None else trio.current_time() - self.heard_at


def parse_drop(event: bytes, entry_id: str = "") -> Drop:
    """Read one event. Never fails: what is wrong with it is its ``problem``."""
    try:
        media_ids, refused = _media_ids(event)
    except MalformedDrop as error:
        return Drop((), entry_id, str(error))
    return Drop(media_ids, entry_id, f"{refused} of {refused + len(media_ids)} ids are none" if refused else "")


def _media_ids(event: bytes) -> tuple[tuple[str, ...], int]:
    if len(event) > _MAX_EVENT_BYTES:
        raise MalformedDrop(f"longer than {_MAX_EVENT_BYTES} bytes")
    try:
        document = json.loads(event)
    except (ValueError, RecursionError):
        raise MalformedDrop("not JSON") from None
    listed = document.get("media_ids") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise MalformedDrop("no list media_ids")
    media_ids = tuple(dict.fromkeys(each for each in listed if _is_id(each)))
    return media_ids, sum(not _is_id(each) for each in listed)


def _is_id(value: object) -> bool:
    """Also for an id of a newer version of this service: the task that removes its medium comes after a delay, and who
    cannot carry it out makes a dead letter of it. No deletion is lost while versions change."""
    try:
        return isinstance(value, str) and parse_any_id(value) is not None
    except UnknownFormat:
        return True
    except InvalidId:
        return False


class DropStream:
    """The stream. Every method raises `Unavailable` while Redis is away."""

    def __init__(self, redis: Redis, *, claim_after_s: float = 60.0) -> None:
        self._redis = redis
        self._claim_after_ms = round(claim_after_s * 1000)

    async def ensure_group(self) -> bool:
        """Create stream and group if they are missing; whether they were."""
        try:
            await self._redis.execute("XGROUP", "CREATE", DROP_DELETED, DROPS_GROUP, "0", "MKSTREAM")
        except RedisRefused as refused:
            if refused.code != "BUSYGROUP":
                raise
            return False
        return True

    async def take(self, consumer: str, block_s: float, count: int = 32) -> list[Drop]:
        """Up to ``count`` events: what dead readers left, else new ones; none if none came within ``block_s``.

        Each is to be handled, then told to `done`. One that is not is read again by somebody later: after a crash, a
        cancel, or when `done` could not be told.
        """
        block_ms = max(1, round(block_s * 1000))  # 0 would mean for ever
        read = ("XREADGROUP", "GROUP", DROPS_GROUP, consumer, "COUNT", count, "BLOCK", block_ms)
        try:
            left = await self._redis.execute(
                "XAUTOCLAIM", DROP_DELETED, DROPS_GROUP, consumer, self._claim_after_ms, "0", "COUNT", count
            )
            if left[1]:
                return [_read_drop(row) for row in left[1]]
            reply = await self._redis.execute_blocking(*read, "STREAMS", DROP_DELETED, ">", block_s=block_ms / 1000)
        except RedisRefused as refused:
            if refused.code != "NOGROUP":
                raise
            await self.ensure_group()
            return []
        return [_read_drop(row) for rows in (reply or {}).values() for row in rows]

    async def done(self, *drops: Drop) -> None:
        """These are handled for good. The entries stay: the stream is the producer's, and others may read it."""
        if drops:
            await self._redis.execute("XACK", DROP_DELETED, DROPS_GROUP, *(drop.entry_id for drop in drops))

    async def remove_idle_consumers(self, idle_s: float) -> int:
        """Forget readers that hold nothing and have not asked for ``idle_s``; how many."""
        args = (DROPS_GROUP, round(idle_s * 1000))
        removed: int = await self._redis.run(scripts.REMOVE_IDLE_CONSUMERS, (DROP_DELETED,), args)
        return removed


def _read_drop(row: Reply) -> Drop:
    entry_id, flat = row
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    if b"event" not in fields:
        return Drop((), entry_id.decode(), "no field event")
    return parse_drop(fields[b"event"], entry_id.decode())


class DropChannel:
    """The channel."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def listen(
        self, handle: Callable[[Drop], Awaitable[None]], *, gap: Callable[[float], None], lost: Callable[[], None]
    ) -> None:
        """Await ``handle`` for each event, one after the other. Never returns.

        Outages are waited for: ``handle`` is repeated as long as it raises `Unavailable`, and ``gap`` is called with
        the seconds without a subscription as soon as there is one again. ``lost`` is called for an event that found
        the backlog full. What else ``handle`` raises ends this.
        """
        send, receive = trio.open_memory_channel[Drop](_BACKLOG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, send, gap, lost)
            async for drop in receive:
                await _until_available(handle, drop)

    async def _hear(
        self, send: trio.MemorySendChannel[Drop], gap: Callable[[float], None], lost: Callable[[], None]
    ) -> None:
        deaf_since: float | None = None
        pause_s, longest_s = _PAUSE_S

        def subscribed() -> None:
            nonlocal deaf_since, pause_s
            pause_s = _PAUSE_S[0]
            if deaf_since is not None:
                gap(trio.current_time() - deaf_since)
            deaf_since = None

        def heard(_channel: str, event: bytes) -> None:
            try:
                send.send_nowait(replace(parse_drop(event), heard_at=trio.current_time()))
            except trio.WouldBlock:
                lost()

        while True:
            try:
                await self._redis.listen(DROP_DELETED, heard=heard, subscribed=subscribed)
            except Unavailable:
                deaf_since = trio.current_time() if deaf_since is None else deaf_since
                await trio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(longest_s, pause_s * 2)


async def _until_available(handle: Callable[[Drop], Awaitable[None]], drop: Drop) -> None:
    pause_s, longest_s = _PAUSE_S
    while True:
        try:
            await handle(drop)
        except Unavailable:
            await trio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(longest_s, pause_s * 2)
        else:
            return
