"""The status board: what is said of each medium for a while, its tombstone, and the events about it.

The store holds the truth; this is what is quick to ask and quick to change. Every change is a compare-and-set on the
server: a tombstone is never overwritten, and what is ready stays ready until it is deleted, forgotten or expired.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import trio

from avion_media.domain.errors import OURS, Reason, Unavailable
from avion_media.domain.media import facts_from_metadata
from avion_media.domain.tasks import EVENTS_STREAM, State, Status
from avion_media.queue import scripts
from avion_media.redis import Argument, Redis

TOMBSTONE_TTL_S = 30 * 86_400.0  # far beyond any delay of a deletion: work in flight must not outlive it
TAKING_BACK_S = 900.0  # far beyond two calls of the store with all their retries, even in a process that stands still
_UNDONE_S = 366 * 86_400.0  # as long as a drop may be read again: its stream is the producer's
ANY_FAILURE = "*"
_EVENTS_KEPT = 10_000
_SAID_S = 86_400.0  # how long an event is remembered: far beyond any repetition of the task that says it
_DELETED = "media.deleted"
_CHANGES = "media_status"  # channel: the id of a medium whose status changed
_PAUSE_S = (0.2, 5.0)  # first and longest wait before the next try to subscribe


class StatusBoard:
    """Statuses on Redis. Every method but `listen` raises `Unavailable` while Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, media_id: str) -> Status | None:
        """What is said of a medium: DELETED as soon as it has a tombstone; None when nothing is."""
        return _said(media_id, *await self._redis.execute("MGET", status_key(media_id), tombstone_key(media_id)))

    async def get_many(self, media_ids: Sequence[str]) -> dict[str, Status | None]:
        """As `get`, of several media, which need not be of one moment."""
        values = await self._redis.get_many([key(each) for each in media_ids for key in (status_key, tombstone_key)])
        return {
            media_id: _said(media_id, written, tombstone)
            for media_id, written, tombstone in zip(media_ids, values[::2], values[1::2], strict=True)
        }

    async def put(self, status: Status, ttl_s: float, *, over: Reason | str | None = ANY_FAILURE) -> bool:
        """Say how a medium is doing, for ``ttl_s``; whether it was taken.

        It is not when the medium has a tombstone, is READY and would be anything else, or is FAILED and would be
        PROCESSING or fail for another reason (failures that are not the medium's may). READY is taken over the failure
        ``over`` only; None is no failure. DELETED makes a tombstone.
        """
        if status.state is State.DELETED:
            await self.tombstone([status.media_id], ttl_s)
            return True
        keys = (status_key(status.media_id), tombstone_key(status.media_id))
        args: tuple[Argument, ...] = (
            status.media_id,
            str(status.state),
            _write_status(status),
            round(ttl_s * 1000),
            _CHANGES,
            str(over or ""),
            *OURS,
        )
        return bool(await self._redis.run(scripts.PUT_STATUS, keys, args))

    async def forget(self, media_id: str) -> bool:
        """Remove the status, so that the store is asked again; whether there was one. A tombstone stays."""
        return bool(await self._redis.run(scripts.FORGET, (status_key(media_id),), (media_id, _CHANGES)))

    async def tombstone(self, media_ids: Iterable[str], ttl_s: float = TOMBSTONE_TTL_S) -> list[str]:
        """Mark media as deleted, one after the other; those that were not before.

        When it fails or is cancelled some may be marked: do it again.
        """
        fresh = []
        for media_id in media_ids:
            if await self.drop(media_id, ttl_s):
                fresh.append(media_id)
        return fresh

    async def drop(
        self, media_id: str, ttl_s: float, *, said_at_ms: int | None = None, said_ago_s: float = 0.0
    ) -> bool | None:
        """Mark a medium as deleted; whether it was not before. None when the deletion was undone since it was said.

        It was said at ``said_at_ms`` (Unix milliseconds by the server's clock), or ``said_ago_s`` ago.
        """
        said = "" if said_at_ms is None else said_at_ms
        args = (media_id, round(ttl_s * 1000), _CHANGES, said, round(said_ago_s * 1000))
        marked = await self._redis.run(scripts.TOMBSTONE, _deletion_keys(media_id)[:2], args)
        return None if marked < 0 else bool(marked)

    async def is_tombstoned(self, media_id: str) -> bool:
        """Whether a medium is marked as deleted."""
        return bool(await self._redis.execute("EXISTS", tombstone_key(media_id)))

    async def undelete(self, media_id: str) -> bool:
        """Take the mark away; False when there was none, its removal has begun, or `is_being_taken_back`.

        What was said of the medium before is said again. A removal that was remembered for later is void, and so is a
        `drop` that was said before and is heard later.
        """
        args = (media_id, round(_UNDONE_S * 1000), _CHANGES)
        keys = (*_deletion_keys(media_id), _taking_back_key(media_id))
        return bool(await self._redis.run(scripts.UNDELETE, keys, args))

    async def begin_taking_back(self, media_id: str) -> bool:
        """Keep the deletion from being undone while what was written after it goes; False when it was undone already.

        To be ended by `end_taking_back`, and soon: it ends by itself after `TAKING_BACK_S`. Repeating it begins anew.
        """
        keys = (tombstone_key(media_id), _taking_back_key(media_id))
        return bool(await self._redis.run(scripts.BEGIN_TAKING_BACK, keys, (round(TAKING_BACK_S * 1000),)))

    async def end_taking_back(self, media_id: str) -> None:
        """All of it is gone."""
        await self._redis.execute("DEL", _taking_back_key(media_id))

    async def is_being_taken_back(self, media_id: str) -> bool:
        """Whether an attempt that a deletion overtook is just removing what it wrote."""
        return bool(await self._redis.execute("EXISTS", _taking_back_key(media_id)))

    async def begin_removal(self, media_id: str, *, remembered: bool) -> bool:
        """Mark a medium as deleted for good, right before its objects go; repeating it is harmless.

        False when the removal was ``remembered`` for later and the deletion was undone since: then nothing may go.
        """
        args = (media_id, round(TOMBSTONE_TTL_S * 1000), _CHANGES, int(remembered))
        return bool(await self._redis.run(scripts.BEGIN_REMOVAL, _deletion_keys(media_id), args))

    async def is_being_removed(self, media_id: str) -> bool:
        """Whether its objects are going or gone: what turns up after that was written too late."""
        return bool(await self._redis.execute("EXISTS", _deletion_keys(media_id)[2]))

    async def publish_event(
        self, event_type: str, media_id: str, details: Mapping[str, Any], *, occasion: str = ""
    ) -> bool:
        """Tell other services, on stream and channel `media_events`; only what is durable already. Whether it was new.

        It is told once per medium and type, however often this is called; with an ``occasion`` (a task that may come
        again for the same medium) once for that, whatever the type. Nothing is told after a medium's deletion.
        """
        event = json.dumps({**details, "type": event_type, "media_id": media_id}, separators=(",", ":"))
        said_s = TOMBSTONE_TTL_S if event_type == _DELETED else _SAID_S
        keys = (EVENTS_STREAM, _said_key(media_id, occasion or event_type), _said_key(media_id, _DELETED))
        args = (event, _EVENTS_KEPT, EVENTS_STREAM, round(said_s * 1000))
        return bool(await self._redis.run(scripts.PUBLISH_EVENT, keys, args))

    async def has_told(self, media_id: str, occasion: str) -> bool:
        """Whether an event about this occasion was published."""
        return bool(await self._redis.execute("EXISTS", _said_key(media_id, occasion)))

    async def listen(self, changed: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Call ``changed`` with the id of each medium whose status changed, in whatever process. Never returns.

        One subscription serves the whole process. Outages are waited for; ``missed`` is called whenever the
        subscription stands (again): what happened until then was not heard. Both callbacks must return at once.
        """
        pause_s, longest_s = _PAUSE_S

        def heard(_channel: str, media_id: bytes) -> None:
            changed(media_id.decode(errors="replace"))

        def subscribed() -> None:
            nonlocal pause_s
            pause_s = _PAUSE_S[0]
            missed()

        while True:
            try:
                await self._redis.listen(_CHANGES, heard=heard, subscribed=subscribed)
            except Unavailable:
                await trio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(longest_s, pause_s * 2)


def status_key(media_id: str) -> str:
    """Where the status of a medium is written."""
    return f"media_status:{{{media_id}}}"


def tombstone_key(media_id: str) -> str:
    """Where it is written that a medium was deleted."""
    return f"media_tombstone:{{{media_id}}}"


def _deletion_keys(media_id: str) -> tuple[str, str, str]:
    """Tombstone, undoing, removal."""
    return (tombstone_key(media_id), f"media_undeleted:{{{media_id}}}", f"media_removal:{{{media_id}}}")


def _taking_back_key(media_id: str) -> str:
    return f"media_taking_back:{{{media_id}}}"


def _said_key(media_id: str, occasion: str) -> str:
    """In one cluster slot with the events."""
    return f"{{{EVENTS_STREAM}}}:said:{media_id}:{occasion}"


def _write_status(status: Status) -> str:
    document: dict[str, Any] = {"state": str(status.state)}
    if status.reason is not None:
        document |= {"reason": str(status.reason), "retryable": status.retryable}
    if status.facts is not None:
        document |= {"facts": status.facts.to_metadata(), "size_bytes": status.facts.size_bytes}
    if status.thumbnails:
        document["thumbnails"] = status.thumbnails
    return json.dumps(document, separators=(",", ":"))


def _said(media_id: str, written: bytes | None, tombstone: bytes | None) -> Status | None:
    if tombstone is not None:
        return Status(media_id, State.DELETED)
    return None if written is None else _read_status(media_id, written)


def _read_status(media_id: str, written: bytes) -> Status | None:
    """None when it was not written by us, or by a later version of us: then the store is asked."""
    try:
        document = json.loads(written)
        facts = document.get("facts")
        return Status(
            media_id=media_id,
            state=State(document["state"]),
            reason=Reason(document["reason"]) if "reason" in document else None,
            retryable=bool(document.get("retryable", False)),
            facts=None if facts is None else facts_from_metadata(facts, int(document["size_bytes"])),
            thumbnails=dict(document.get("thumbnails", {})),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
