"""The notices of ``drop_deleted``: what avion-post deleted, on a stream and on a channel (docs/contract.md, section 4).

The stream has no gap: it is read through a consumer group, and entries that a crashed reader left are read again. The
channel is for producers that do not know the stream. Its listeners (`NoticeChannel`) write each message once to the
stream ``{drop_deleted}:heard``, which belongs to this service. From there on both are read, handled and acknowledged in
the same way. Handling the same notice twice has no effect.

A notice shows whether it was issued before an undelete: by its position in the stream, or by the last undelete that its
listener had received before it on the same connection.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio

from avion_media.backends.queue import QueueStats
from avion_media.backends.queue.consumers import ensure_group, read_consumers, remove_idle_consumers
from avion_media.backends.redis import Redis, RedisRefused, Reply, as_map, as_text
from avion_media.common.ids import InvalidId, UnknownFormat, parse_any_id
from avion_media.common.records import HashRecord
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion.records import NOTICES_GROUP

HEARD = f"{{{DROP_DELETED}}}:heard"
"""Stream of this service: the notices of the channel. In one cluster slot with the stream of the producers."""
_STREAMS = (DROP_DELETED, HEARD)
_MOST_MERGED = 1000  # media of several messages that one step handles
MAX_EVENT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Notice:
    """Media to delete. ``position`` is that of the stream's entry, empty for a notice of the channel.

    ``problem`` says what could not be read, if anything; ``media_ids`` are then the readable ones. ``lower_bound_ms``:
    a notice of the channel was issued after this time (Unix milliseconds by the server's clock). ``heard_ids``: the
    ids of its entries in `HEARD`, one for each message that it stands for.
    """

    media_ids: tuple[str, ...]
    position: str = ""
    problem: str = ""
    lower_bound_ms: int | None = None
    heard_ids: tuple[str, ...] = ()


def parse_notice(event: bytes, position: str = "") -> Notice:
    """Read one event. Never fails: errors are its ``problem``."""
    if len(event) > MAX_EVENT_BYTES:
        return Notice((), position, f"longer than {MAX_EVENT_BYTES} bytes")
    try:
        document = json.loads(event)
    except (ValueError, RecursionError):
        return Notice((), position, "not JSON")
    listed = document.get("media_ids") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return Notice((), position, 'the event has no list "media_ids"')
    valid = [each for each in listed if _is_id(each)]
    media_ids, refused = tuple(dict.fromkeys(valid)), len(listed) - len(valid)
    problem = f"{refused} of {refused + len(media_ids)} values are not media ids" if refused else ""
    return Notice(media_ids, position, problem)


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
    """The notices of both streams. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis, *, claim_after_s: float = 60.0) -> None:
        self._redis = redis
        self._claim_after_ms = round(claim_after_s * 1000)
        self._claim_at = -math.inf

    async def ensure_group(self) -> bool:
        """Create streams and groups if they are missing. Return whether one was."""
        return any([await ensure_group(self._redis, each, NOTICES_GROUP) for each in _STREAMS])

    async def take(self, consumer: str, block_s: float, count: int = 32) -> list[Notice]:
        """Return up to ``count`` events of each stream: those of dead readers first, else new ones; none if none come
        in ``block_s``. Messages of the channel with the same lower bound are one notice.

        The caller handles each, then passes it to `done`. Otherwise another reader reads them again later. A cancel
        leaves new events to the next reader.
        """
        block_ms = max(1, round(block_s * 1000))  # 0 would mean without a limit
        read = ("XREADGROUP", "GROUP", NOTICES_GROUP, consumer, "COUNT", count, "BLOCK", block_ms, "STREAMS")
        try:
            if trio.current_time() >= self._claim_at:
                claim = (NOTICES_GROUP, consumer, self._claim_after_ms, "0", "COUNT", count)
                left = {each: (await self._redis.execute("XAUTOCLAIM", each, *claim))[1] for each in _STREAMS}
                if any(left.values()):
                    return _read_notices(left)
                self._claim_at = trio.current_time() + self._claim_after_ms / 4000
            reply = await self._redis.execute_blocking(
                *read, *_STREAMS, ">", ">", block_s=block_ms / 1000, undo=partial(self._leave, consumer)
            )
        except RedisRefused as refused:
            if refused.code != "NOGROUP":
                raise
            await self.ensure_group()
            return []
        return _read_notices({stream.decode(): rows for stream, rows in (reply or {}).items()})

    async def _leave(self, consumer: str, reply: Reply) -> None:
        """Make these events look abandoned, so that the next reader takes them over at once."""
        for stream, rows in (reply or {}).items():
            claim = ("XCLAIM", stream, NOTICES_GROUP, consumer, 0, *(entry_id for entry_id, _ in rows))
            await self._redis.execute(*claim, "IDLE", self._claim_after_ms, "JUSTID")

    async def done(self, *notices: Notice) -> None:
        """Acknowledge handled notices. Entries of the producers' stream stay, because others may read it. Entries of
        `HEARD` are removed, first: a group forgets a pending entry that is gone."""
        positions = [each.position for each in notices if each.position]
        heard_ids = [heard_id for each in notices for heard_id in each.heard_ids]
        if positions:
            await self._redis.execute("XACK", DROP_DELETED, NOTICES_GROUP, *positions)
        if heard_ids:
            await self._redis.execute("XDEL", HEARD, *heard_ids)
            await self._redis.execute("XACK", HEARD, NOTICES_GROUP, *heard_ids)

    async def remove_idle_consumers(self, idle_s: float) -> int:
        """Remove readers without pending events that did not read for ``idle_s``. Return how many."""
        return sum([await remove_idle_consumers(self._redis, each, NOTICES_GROUP, idle_s) for each in _STREAMS])


@dataclass(frozen=True, slots=True)
class HeardNotice:
    """A message of the channel, and `Notice.lower_bound_ms`."""

    event: str
    lower_bound: int


HEARD_NOTICE = HashRecord("heard_notice", HeardNotice, HEARD, "listeners of the channel `drop_deleted`")


def _read_notices(found: Mapping[str, Sequence[Reply]]) -> list[Notice]:
    """Return the notices of these entries, by stream."""
    return [_read_notice(*row) for row in found.get(DROP_DELETED, ())] + _merged(
        [_read_heard(*row) for row in found.get(HEARD, ())]
    )


def _read_notice(entry_id: bytes, flat: Reply) -> Notice:
    fields = as_map(flat)
    if b"event" not in fields:
        return Notice((), entry_id.decode(), "no field event")
    return parse_notice(fields[b"event"], entry_id.decode())


def _read_heard(entry_id: bytes, flat: Reply) -> Notice:
    heard_ids = (entry_id.decode(),)
    heard = HEARD_NOTICE.read_or_skip(as_text(flat), f"{HEARD} {heard_ids[0]}")
    if heard is None:
        return Notice((), problem="an unreadable record", heard_ids=heard_ids)
    return replace(parse_notice(heard.event.encode()), lower_bound_ms=heard.lower_bound, heard_ids=heard_ids)


def _merged(notices: Sequence[Notice]) -> list[Notice]:
    """Return these notices of the channel, as few as possible. A journal entry has one for each."""
    merged: list[Notice] = []
    last: dict[int | None, int] = {}  # by lower bound, where the one is that takes more
    for each in notices:
        at = last.get(each.lower_bound_ms)
        if at is None or each.problem or len(merged[at].media_ids) + len(each.media_ids) > _MOST_MERGED:
            if not each.problem:
                last[each.lower_bound_ms] = len(merged)
            merged.append(each)
        else:
            media_ids = tuple(dict.fromkeys((*merged[at].media_ids, *each.media_ids)))
            merged[at] = replace(merged[at], media_ids=media_ids, heard_ids=(*merged[at].heard_ids, *each.heard_ids))
    return merged


_SILENT_S = 60.0  # a reader that sent nothing for so long does not count: each read lasts a third of that at most
_COUNTED = 10_000  # maximum unread notices that are counted one by one, if Redis does not know their number


async def notice_backlog(redis: Redis) -> QueueStats:
    """Return how many notices wait, on both streams, and for how long. The length of the producers' stream does not
    show it, because they trim it.

    Raises `Unavailable`.
    """
    first, second = [await _backlog(redis, each) for each in _STREAMS]
    return QueueStats(
        first.depth + second.depth,
        first.lag + second.lag,
        first.pending + second.pending,
        max(first.oldest_age_s, second.oldest_age_s),
        consumers=max(first.consumers, second.consumers),
    )


async def _backlog(redis: Redis, stream: str) -> QueueStats:
    group = await _group(redis, stream)
    if group is None:
        return QueueStats()
    pending, last, lag = group[b"pending"], group[b"last-delivered-id"], group.get(b"lag")
    unread = await redis.execute("XRANGE", stream, b"(" + last, "+", "COUNT", 1 if lag is not None else _COUNTED)
    oldest = [row[0] for row in unread[:1]]
    if pending:
        rows = await redis.execute("XPENDING", stream, NOTICES_GROUP, "-", "+", 1)
        oldest += [row[0] for row in rows]
    lag = len(unread) if lag is None else lag
    written_ms = min((int(entry_id.partition(b"-")[0]) for entry_id in oldest), default=None)
    age_s = 0.0 if written_ms is None else max(0.0, time.time() - written_ms / 1000)
    readers = await read_consumers(redis, stream, NOTICES_GROUP)
    alive = sum(row[b"idle"] < _SILENT_S * 1000 for row in readers)
    return QueueStats(lag + pending, lag, pending, age_s, consumers=alive)


async def _group(redis: Redis, stream: str) -> dict[bytes, Reply] | None:
    try:
        groups = await redis.execute("XINFO", "GROUPS", stream)
    except RedisRefused:
        return None  # there is no stream
    for each in groups:
        fields = as_map(each)
        if fields[b"name"] == NOTICES_GROUP.encode():
            return fields
    return None
