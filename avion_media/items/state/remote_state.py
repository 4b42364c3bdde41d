"""What is remembered of remote media besides their status: failures, last use, revalidation.

Losing it does no harm: a URL is then fetched again sooner than necessary, and a copy is kept for a shorter time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from avion_media.backends.redis import Redis, load_script
from avion_media.common.errors import Reason
from avion_media.common.ids import RemoteId
from avion_media.common.records import CustomRecord, JsonRecord
from avion_media.items.state.status_store import deletion_key, key_of, status_key

_NOT_CACHEABLE: Final = "remote_not_cacheable"
_MAX_HOSTS: Final = 1000
_COUNTED_S: Final = 30 * 86_400
_SWEPT_WITHIN_S = 2 * 86_400.0  # the bucket is swept more often than that
_LOAD_REMOTE = load_script("avion_media.items.state", "load_remote")
_RESET_FAILURE = load_script("avion_media.items.state", "reset_failure")


@dataclass(frozen=True, slots=True)
class RemoteFailure:
    """Why a URL is not fetched again for a while, and the task that failed. ``failed_at`` is in Unix seconds.

    ``server`` is ``host:port`` of the URL, which cannot be derived from its hash. ``max_bytes`` is the limit of the
    fetch.
    """

    reason: Reason
    task_id: str
    server: str
    failed_at: float
    max_bytes: int = 0

    def stops(self, max_bytes: int) -> bool:
        """Return whether a request with this limit would fail as well."""
        return self.reason is not Reason.TOO_LARGE or max_bytes <= self.max_bytes


@dataclass(frozen=True, slots=True)
class RemoteUse:
    """When a copy was last requested; the longest time and the widest limit of all kinds that it was requested as."""

    at: datetime
    ttl_s: float = 0.0
    max_bytes: int = 0


def _parse_use(text: str, _key: str) -> RemoteUse:
    at, ttl_s, max_bytes, *_ = [*text.split(" "), "0", "0"]
    return RemoteUse(datetime.fromtimestamp(float(at), UTC), float(ttl_s), int(max_bytes))


REMOTE_FAILURE = JsonRecord("remote_failure", RemoteFailure, "remote_failure:{<XY>}<hash>", "workers of remote media")
REMOTE_USE = CustomRecord(
    "remote_use",
    RemoteUse,
    "remote_used:{<XY>}<hash>",
    "CacheRemoteMedia",
    fields=["Unix seconds", "time to live in seconds", "maximum bytes"],
    parse=_parse_use,
)


@dataclass(frozen=True, slots=True)
class RemoteState:
    """What is remembered of one remote media item. ``validated``: its server recently confirmed that the copy is
    current."""

    deleted: bool
    failure: RemoteFailure | None
    validated: bool
    use: RemoteUse = RemoteUse(datetime.min.replace(tzinfo=UTC))

    def used(self, at: datetime, ttl_s: float, max_bytes: int) -> RemoteUse:
        """Return the use by a request of a kind with these limits. The longest and the widest of all requests count."""
        return RemoteUse(at, max(ttl_s, self.use.ttl_s), max(max_bytes, self.use.max_bytes))


class RemoteStateStore:
    """Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis.state

    async def load(self, remote_id: RemoteId) -> RemoteState:
        """Return the whole state, with one call."""
        keys = (
            deletion_key(str(remote_id)),
            _failure_key(remote_id),
            _validated_key(remote_id),
            _used_key(str(remote_id)),
        )
        deletion, failure, validated, used = await self._redis.run(_LOAD_REMOTE, keys)
        known = REMOTE_FAILURE.read_or_skip(failure, keys[1]) if failure else None
        state = RemoteState(deletion not in (b"", b"undeleted"), known, bool(validated))
        use = REMOTE_USE.read_or_skip(used, keys[3]) if used else None
        return state if use is None else replace(state, use=use)

    async def seconds_left(self, remote_id: RemoteId) -> tuple[float, float]:
        """Return for how many seconds a failure is still remembered, and a validated copy is still fresh; 0: not at
        all."""
        left = [await self._redis.execute("PTTL", key) for key in (_failure_key(remote_id), _validated_key(remote_id))]
        return max(0, left[0]) / 1000, max(0, left[1]) / 1000

    async def remember_failure(self, remote_id: RemoteId, failure: RemoteFailure, ttl_s: float) -> None:
        """Remember a failure of the URL for ``ttl_s``. Call it before the status is published: see `reset_failure`."""
        await self._set(_failure_key(remote_id), REMOTE_FAILURE.write(failure), ttl_s)

    async def forget_failure(self, remote_id: RemoteId) -> None:
        """Allow the URL to be fetched again."""
        await self._redis.execute("DEL", _failure_key(remote_id))

    async def reset_failure(self, remote_id: RemoteId) -> None:
        """Remove a status FAILED whose failure is no longer remembered, so that it can become PROCESSING again.

        A failure that happens meanwhile is kept, because it is remembered before its status is written.
        """
        await self._redis.run(_RESET_FAILURE, (status_key(str(remote_id)), _failure_key(remote_id)))

    async def note_not_cacheable(self, host: str) -> None:
        """Count that a server forbids a copy of a file. The thousand hosts with the highest counts are kept."""
        await self._redis.execute("ZINCRBY", _NOT_CACHEABLE, 1, host)
        await self._redis.execute("ZREMRANGEBYRANK", _NOT_CACHEABLE, 0, -_MAX_HOSTS - 1)
        await self._redis.execute("EXPIRE", _NOT_CACHEABLE, _COUNTED_S)

    async def not_cacheable(self) -> dict[str, int]:
        """Return how often each host has forbidden copies, the most frequent first. A month without any clears it."""
        found = await self._redis.execute("ZREVRANGE", _NOT_CACHEABLE, 0, -1, "WITHSCORES")
        return {host.decode(): int(count) for host, count in found}

    async def mark_validated(self, remote_id: RemoteId, ttl_s: float) -> None:
        """Record that the copy is fresh for another ``ttl_s``, regardless of its age."""
        await self._set(_validated_key(remote_id), "1", ttl_s)

    async def mark_used(self, remote_id: RemoteId, use: RemoteUse) -> None:
        """Record that the copy was requested. The record outlives its time, because the sweep needs that then."""
        text = f"{use.at.timestamp():.3f} {use.ttl_s:.3f} {use.max_bytes}"
        await self._set(_used_key(str(remote_id)), text, use.ttl_s + _SWEPT_WITHIN_S)

    async def last_uses(self, names: Sequence[str]) -> dict[str, RemoteUse]:
        """Return the last use of each of the remote media, if there was one recently. One round trip."""
        values = await self._redis.get_many([_used_key(each) for each in names])
        found = {
            name: REMOTE_USE.read_or_skip(value, _used_key(name))
            for name, value in zip(names, values, strict=True)
            if value is not None
        }
        return {name: use for name, use in found.items() if use is not None}

    async def _set(self, key: str, value: str | bytes, ttl_s: float) -> None:
        await self._redis.execute("SET", key, value, "PX", max(1, round(ttl_s * 1000)), when_full=True)


def _failure_key(remote_id: RemoteId) -> str:
    return key_of("remote_failure", str(remote_id))


def _validated_key(remote_id: RemoteId) -> str:
    return key_of("remote_validated", str(remote_id))


def _used_key(name: str) -> str:
    return key_of("remote_used", name)
