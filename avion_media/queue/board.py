"""The status board: what is said of each medium for a while, and the events about it.

The store holds the truth; this is what is quick to ask and quick to change. Every change is a compare-and-set on the
server: what is deleted gets no status, and what is ready stays ready until it is deleted, forgotten or expired.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from avion_media.domain.errors import OURS, Reason, Unavailable
from avion_media.domain.media import facts_from_metadata
from avion_media.domain.tasks import EVENTS_STREAM, State, Status
from avion_media.queue import scripts
from avion_media.queue.names import STATUS_CHANGES, deletion_key, status_key
from avion_media.redis import Argument, Redis

_CHUNK = 500  # statuses that one script reads
_DELETION_SAID_S = 30 * 86_400.0
ANY_FAILURE = "*"
_EVENTS_KEPT = 10_000
_SAID_S = 86_400.0  # how long an event is remembered: far beyond any repetition of the task that says it
_DELETED = "media.deleted"
_PAUSE_S = (0.2, 5.0)  # first and longest wait before the next try to subscribe


class StatusBoard:
    """Statuses on Redis. Every method but `listen` raises `Unavailable` while Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, media_id: str) -> Status | None:
        """What is said of a medium: DELETED as soon as its deletion is recorded; None when nothing is."""
        return (await self.get_many([media_id]))[media_id]

    async def get_many(self, media_ids: Sequence[str], *, despite_deletion: bool = False) -> dict[str, Status | None]:
        """As `get`, of several media, which need not be of one moment.

        ``despite_deletion``: of a deleted medium, the status that it will have again if it is undeleted.
        """
        found: dict[str, Status | None] = {}
        names = {status_key(media_id): media_id for media_id in media_ids}
        for keys in await self._redis.grouped(list(names), _CHUNK):
            both = [key for each in keys for key in (each, deletion_key(names[each]))]
            replies = await self._redis.run(scripts.READ_STATUSES, both)
            for key, (written, state) in zip(keys, replies, strict=True):
                found[names[key]] = _said(names[key], written, b"" if despite_deletion else state)
        return found

    async def put(self, status: Status, ttl_s: float, *, over: Reason | str | None = ANY_FAILURE) -> bool:
        """Say how a medium is doing, for ``ttl_s``; whether it was taken.

        It is not when the medium is deleted, is READY and would be anything else, or is FAILED and would be
        PROCESSING or fail for another reason (failures that are not the medium's may). READY is taken over the failure
        ``over`` only; None is no failure.
        """
        keys = (status_key(status.media_id), deletion_key(status.media_id))
        args: tuple[Argument, ...] = (
            status.media_id,
            str(status.state),
            _write_status(status),
            round(ttl_s * 1000),
            STATUS_CHANGES,
            str(over or ""),
            *OURS,
        )
        return bool(await self._redis.run(scripts.PUT_STATUS, keys, args))

    async def forget(self, media_id: str) -> bool:
        """Remove the status, so that the store is asked again; whether there was one. A deletion stays."""
        return bool(await self._redis.run(scripts.FORGET, (status_key(media_id),), (media_id, STATUS_CHANGES)))

    async def deletion_state(self, media_id: str) -> str:
        """The state of the record of its deletion, empty when there is none. See `avion_media.deletion`."""
        return (await self._redis.execute("HGET", deletion_key(media_id), "state") or b"").decode()

    async def is_deleted(self, media_id: str) -> bool:
        """Whether a medium counts as deleted."""
        return _is_deleted(await self.deletion_state(media_id))

    async def publish_event(
        self, event_type: str, media_id: str, details: Mapping[str, Any], *, occasion: str = ""
    ) -> bool:
        """Tell other services, on stream and channel `media_events`; only what is durable already. Whether it was new.

        It is told once per medium and type, however often this is called; with an ``occasion`` (a task that may come
        again for the same medium) once for that, whatever the type. Nothing is told after a medium's deletion.
        """
        event = json.dumps({**details, "type": event_type, "media_id": media_id}, separators=(",", ":"))
        said_s = _DELETION_SAID_S if event_type == _DELETED else _SAID_S
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
                await self._redis.listen(STATUS_CHANGES, heard=heard, subscribed=subscribed)
            except Unavailable:
                await trio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(longest_s, pause_s * 2)


def _is_deleted(state: str) -> bool:
    return state not in ("", "undeleted")


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


def _said(media_id: str, written: bytes, deletion_state: bytes) -> Status | None:
    """Empty: there is none."""
    if _is_deleted(deletion_state.decode()):
        return Status(media_id, State.DELETED)
    return _read_status(media_id, written) if written else None


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
