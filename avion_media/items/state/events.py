"""The events about media, on stream and channel ``media_events`` (contract, section 4; docs/events.md)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from avion_media.backends.queue.consumers import ensure_group
from avion_media.backends.redis import Redis, RedisRefused, as_map, load_script
from avion_media.common.tasks import EVENTS_STREAM
from avion_media.items.settings import EventsConfig

EVENT_TYPES = (
    *("media.ready", "media.failed", "media.deleted", "media.blocked", "media.held"),
    *("remote.ready", "remote.failed"),
)
DEFAULT_MAX_ENTRIES = EventsConfig().max_entries
_DELETED = "media.deleted"
_DELETION_DEDUP_S = 30 * 86_400.0  # no event about a media item follows its deletion
_EVENT_DEDUP_S = 3600.0  # a task is usually repeated within minutes; a later repetition has the same ``event_id``
_PUBLISH_EVENT = load_script("avion_media.items.state", "publish_event")
_SEQ = f"{{{EVENTS_STREAM}}}:seq"
_NAMESPACE = uuid.UUID("6f0c4f0a-5f0e-5b7e-9d43-9a1c7d2f4b11")


class MediaEvents:
    """Every method raises `Unavailable` while Redis is unavailable. ``max_entries`` limits the stream,
    approximately."""

    def __init__(self, redis: Redis, max_entries: int = DEFAULT_MAX_ENTRIES) -> None:
        self._redis = redis
        self._max_entries = max_entries

    async def publish(self, event_type: str, media_id: str, details: Mapping[str, Any], *, dedup_key: str = "") -> bool:
        """Publish an event about something that is already durable. Return whether it was published now.

        An event is published once per media item and type. With a ``dedup_key`` (for a task that can be repeated for
        the same media item) it is published once per key, for any type. Nothing is published after a deletion.
        """
        subject = f"{media_id}:{dedup_key or event_type}"
        document = {"event_id": str(uuid.uuid5(_NAMESPACE, subject)), **details, "type": event_type}
        event = json.dumps(document | {"media_id": media_id}, separators=(",", ":"))
        dedup_s = _DELETION_DEDUP_S if event_type == _DELETED else _EVENT_DEDUP_S
        keys = (EVENTS_STREAM, _published_key(subject), _published_key(f"{media_id}:{_DELETED}"), _SEQ)
        args = (event, self._max_entries, EVENTS_STREAM, round(dedup_s * 1000))
        return bool(await self._redis.run(_PUBLISH_EVENT, keys, args))

    async def was_published(self, media_id: str, dedup_key: str) -> bool:
        """Return whether an event with this key was published recently."""
        return bool(await self._redis.execute("EXISTS", _published_key(f"{media_id}:{dedup_key}")))

    async def headroom(self) -> int:
        """Return how many more events fit before the slowest consumer group misses one; negative if it missed some."""
        try:
            groups = await self._redis.execute("XINFO", "GROUPS", EVENTS_STREAM)
        except RedisRefused:
            return self._max_entries  # no stream yet
        lags = [await self._lag(as_map(group)) for group in groups]
        return self._max_entries - max(lags, default=0)

    async def _lag(self, group: Mapping[bytes, Any]) -> int:
        """Return how many events a group has not read.

        The server does not know it for a group that was created at the end of the stream, until that group has read
        the last event. The numbers of the first unread event and of the last one say it then.
        """
        if group.get(b"lag") is not None:
            return int(group[b"lag"])
        after = b"(" + group[b"last-delivered-id"]
        unread = await self._redis.execute("XRANGE", EVENTS_STREAM, after, "+", "COUNT", 1)
        if not unread:
            return 0
        last = await self._redis.execute("GET", _SEQ)
        try:
            return int(last) - int(json.loads(as_map(unread[0][1])[b"event"])["seq"]) + 1
        except (KeyError, TypeError, ValueError):  # an entry of another program
            return int(await self._redis.execute("XLEN", EVENTS_STREAM))


class EventReader:
    """Reads the stream for one consumer group, in order. One process reads a group at a time.

    Every method raises `Unavailable` while Redis is unavailable.
    """

    def __init__(self, redis: Redis, group: str) -> None:
        self._redis = redis
        self._group = group
        self._after = "0"  # what another process has read and not acknowledged, then what is new

    async def join(self) -> None:
        """Create the group if it is missing: it gets what is published from now on."""
        await ensure_group(self._redis, EVENTS_STREAM, self._group, "$")

    async def read(self, count: int, block_s: float) -> list[tuple[str, str]]:
        """Return up to ``count`` events with their ids in the stream; none if none came within ``block_s``.

        Pass the ids to `done` once the events are handled. Otherwise the next reader gets them again.
        """
        command = ("XREADGROUP", "GROUP", self._group, self._group, "COUNT", count)
        try:
            if self._after == "0":
                found = await self._redis.execute(*command, "STREAMS", EVENTS_STREAM, "0")
                if not any(found.values() if found else ()):
                    self._after = ">"
                    return []
            else:
                block = ("BLOCK", round(block_s * 1000), "STREAMS", EVENTS_STREAM, ">")
                found = await self._redis.execute_blocking(*command, *block, block_s=block_s)
        except RedisRefused as refused:
            if refused.code != "NOGROUP":
                raise
            await ensure_group(
                self._redis, EVENTS_STREAM, self._group
            )  # Redis lost its data: everything in the stream is new
            return []
        rows = [row for rows in (found or {}).values() for row in rows]
        return [(entry_id.decode(), as_map(flat or ()).get(b"event", b"").decode()) for entry_id, flat in rows]

    async def done(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge handled events."""
        if entry_ids:
            await self._redis.execute("XACK", EVENTS_STREAM, self._group, *entry_ids)


def _published_key(subject: str) -> str:
    """Return the key of the dedup marker, in the cluster slot of the events."""
    return f"{{{EVENTS_STREAM}}}:said:{subject}"
