"""The notices of ``drop_deleted``: what avion-post deleted, on a stream and on a channel (docs/contract.md, section 4).

The stream has no gap: it is read through a consumer group, and entries that a crashed reader left are read again. The
channel is for producers that do not know the stream. Messages that they publish while no replica is subscribed are
lost, so the gap is measured. Handling the same notice twice has no effect.

A notice shows whether it was issued before an undelete: by its position in the stream, or by the last undelete that its
listener had received before it on the same connection.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.consumers import ensure_group, remove_idle_consumers
from avion_media.backends.redis import Redis, RedisRefused, Reply, as_map
from avion_media.common.concurrency import OutagePause
from avion_media.common.errors import Unavailable
from avion_media.common.ids import InvalidId, UnknownFormat, parse_any_id
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion import scripts
from avion_media.items.deletion.records import LAST_UNDELETE, NOTICES_GROUP, UNDELETES

_MAX_EVENT_BYTES = 1 << 20
_BACKLOG = 256  # maximum events received on the channel and not handled yet; further ones are lost, and reported


class MalformedNotice(ValueError):
    """An event without readable media ids."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Media to delete. ``position`` is that of the stream's entry, empty for a notice of the channel.

    ``problem`` says what could not be read, if anything; ``media_ids`` are then the readable ones. ``lower_bound_ms``:
    a notice of the channel was issued after this time (Unix milliseconds by the server's clock).
    """

    media_ids: tuple[str, ...]
    position: str = ""
    problem: str = ""
    lower_bound_ms: int | None = None


def parse_notice(event: bytes, position: str = "") -> Notice:
    """Read one event. Never fails: errors are its ``problem``."""
    try:
        media_ids, refused = _media_ids(event)
    except MalformedNotice as error:
        return Notice((), position, str(error))
    problem = f"{refused} of {refused + len(media_ids)} values are not media ids" if refused else ""
    return Notice(media_ids, position, problem)


def _media_ids(event: bytes) -> tuple[tuple[str, ...], int]:
    if len(event) > _MAX_EVENT_BYTES:
        raise MalformedNotice(f"longer than {_MAX_EVENT_BYTES} bytes")
    try:
        document = json.loads(event)
    except (ValueError, RecursionError):
        raise MalformedNotice("not JSON") from None
    listed = document.get("media_ids") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise MalformedNotice('the event has no list "media_ids"')
    media_ids = [each for each in listed if _is_id(each)]
    return tuple(dict.fromkeys(media_ids)), len(listed) - len(media_ids)


def _is_id(value: object) -> bool:
    """Return whether this is an id. An id of a newer version counts, so that no deletion is lost during an upgrade.

    Workers of this version leave its removal to those of the newer one.
    """
    try:
        return isinstance(value, str) and parse_any_id(value) is not None
    except UnknownFormat:
        return True
    except InvalidId:
        return False


class NoticeStream:
    """The stream. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis, *, claim_after_s: float = 60.0) -> None:
        self._redis = redis
        self._claim_after_ms = round(claim_after_s * 1000)
        self._claim_at = -math.inf

    async def ensure_group(self) -> bool:
        """Create stream and group if they are missing. Return whether they were."""
        return await ensure_group(self._redis, DROP_DELETED, NOTICES_GROUP)

    async def take(self, consumer: str, block_s: float, count: int = 32) -> list[Notice]:
        """Return up to ``count`` events: those of dead readers first, else new ones; none if none come in ``block_s``.

        The caller handles each, then passes it to `done`. Otherwise another reader reads it again later. A cancel
        leaves new events to the next reader.
        """
        block_ms = max(1, round(block_s * 1000))  # 0 would mean without a limit
        read = ("XREADGROUP", "GROUP", NOTICES_GROUP, consumer, "COUNT", count, "BLOCK", block_ms)
        try:
            if trio.current_time() >= self._claim_at:
                left = await self._redis.execute(
                    "XAUTOCLAIM", DROP_DELETED, NOTICES_GROUP, consumer, self._claim_after_ms, "0", "COUNT", count
                )
                if left[1]:
                    return [_read_notice(row) for row in left[1]]
                self._claim_at = trio.current_time() + self._claim_after_ms / 4000
            reply = await self._redis.execute_blocking(
                *read, "STREAMS", DROP_DELETED, ">", block_s=block_ms / 1000, undo=partial(self._leave, consumer)
            )
        except RedisRefused as refused:
            if refused.code != "NOGROUP":
                raise
            await self.ensure_group()
            return []
        return [_read_notice(row) for row in _rows(reply)]

    async def _leave(self, consumer: str, reply: Reply) -> None:
        """Make these events look abandoned, so that the next reader takes them over at once."""
        ids = [entry_id for entry_id, _ in _rows(reply)]
        claim = ("XCLAIM", DROP_DELETED, NOTICES_GROUP, consumer, 0, *ids)
        await self._redis.execute(*claim, "IDLE", self._claim_after_ms, "JUSTID")

    async def done(self, *notices: Notice) -> None:
        """Acknowledge handled notices. The entries stay: the stream belongs to the producer, and others may read it."""
        if notices:
            await self._redis.execute("XACK", DROP_DELETED, NOTICES_GROUP, *(notice.position for notice in notices))

    async def remove_idle_consumers(self, idle_s: float) -> int:
        """Remove readers without pending events that did not read for ``idle_s``. Return how many."""
        return await remove_idle_consumers(self._redis, DROP_DELETED, NOTICES_GROUP, idle_s)


def _rows(reply: Reply) -> list[Reply]:
    return [row for rows in (reply or {}).values() for row in rows]


def _read_notice(row: Reply) -> Notice:
    entry_id, flat = row
    fields = as_map(flat)
    if b"event" not in fields:
        return Notice((), entry_id.decode(), "no field event")
    return parse_notice(fields[b"event"], entry_id.decode())


class NoticeChannel:
    """The channel of notices."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def listen(
        self, handle: Callable[[Notice], Awaitable[None]], *, gap: Callable[[float], None], lost: Callable[[], None]
    ) -> None:
        """Await ``handle`` for each notice, one after another. Never returns.

        After an outage ``gap`` is called with the seconds without a subscription. ``lost`` is called for a notice that
        did not fit into the backlog. An error of ``handle`` ends this.
        """
        send, receive = trio.open_memory_channel[Notice](_BACKLOG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, send, gap, lost)
            async for notice in receive:
                await handle(notice)

    async def _receive(
        self, send: trio.MemorySendChannel[Notice], gap: Callable[[float], None], lost: Callable[[], None]
    ) -> None:
        disconnected_since: float | None = None
        lower_bound_ms = 0
        pause = OutagePause()

        def subscribed() -> None:
            nonlocal disconnected_since
            pause.succeeded()
            if disconnected_since is not None:
                gap(trio.current_time() - disconnected_since)
            disconnected_since = None

        def heard(channel: str, message: bytes) -> None:
            nonlocal lower_bound_ms
            if channel == UNDELETES:
                lower_bound_ms = max(lower_bound_ms, int(message) if message.isdigit() else 0)
                return
            try:
                send.send_nowait(replace(parse_notice(message), lower_bound_ms=lower_bound_ms))
            except trio.WouldBlock:
                lost()

        while True:
            try:
                # Read before the subscription, so every message received on it was published later.
                lower_bound_ms = await self._now_ms()
                await self._redis.listen(DROP_DELETED, UNDELETES, heard=heard, subscribed=subscribed)
            except Unavailable:
                disconnected_since = trio.current_time() if disconnected_since is None else disconnected_since
                await trio.sleep(pause.failed())

    async def _now_ms(self) -> int:
        """Return the time of the server that also gives undeletes their time."""
        return int(await self._redis.run(scripts.NOW, (LAST_UNDELETE,)))


_COUNTED = 10_000  # maximum unread notices that are counted one by one, if Redis does not know their number


async def notice_backlog(redis: Redis) -> QueueStats:
    """Return how many notices wait, and for how long. The stream's length does not show it, because the producer trims
    it.

    Raises `Unavailable`.
    """
    group = await _group(redis)
    if group is None:
        return QueueStats()
    pending, last, lag = group[b"pending"], group[b"last-delivered-id"], group.get(b"lag")
    unread = await redis.execute("XRANGE", DROP_DELETED, b"(" + last, "+", "COUNT", 1 if lag is not None else _COUNTED)
    oldest = [row[0] for row in unread[:1]]
    if pending:
        rows = await redis.execute("XPENDING", DROP_DELETED, NOTICES_GROUP, "-", "+", 1)
        oldest += [row[0] for row in rows]
    lag = len(unread) if lag is None else lag
    written_ms = min((int(entry_id.partition(b"-")[0]) for entry_id in oldest), default=None)
    age_s = 0.0 if written_ms is None else max(0.0, time.time() - written_ms / 1000)
    return QueueStats(lag + pending, lag, pending, age_s, consumers=group[b"consumers"])


async def _group(redis: Redis) -> dict[bytes, Reply] | None:
    try:
        groups = await redis.execute("XINFO", "GROUPS", DROP_DELETED)
    except RedisRefused:
        return None  # there is no stream
    for each in groups:
        fields = as_map(each)
        if fields[b"name"] == NOTICES_GROUP.encode():
            return fields
    return None
