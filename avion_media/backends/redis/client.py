"""What this service adds to trio_redis: errors of its own, a log of outages, and a second Redis for statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

import trio_redis
from avion_media.common import errors
from avion_media.common.errors import Dependency, MediaError
from trio_redis import Availability, Errors
from trio_telemetry import OutageLog

NEARLY_FULL = 0.9
"""Share of `maxmemory` in use from which operators are warned, as in the alert."""


class Unavailable(trio_redis.RedisUnavailable, errors.Unavailable):
    """Redis is unavailable. Code catches it as `errors.Unavailable`."""

    def __init__(self, detail: str, retry_after_s: float = 1.0, *, setting: str = "") -> None:
        errors.Unavailable.__init__(self, Dependency.REDIS, detail, retry_after_s, setting=setting)


class RedisFull(trio_redis.RedisFull, Unavailable):
    """The server has reached `maxmemory`. It takes no new work until tasks that it has are done, or memory is added."""

    def __init__(self, *, setting: str = "") -> None:
        super().__init__()
        self.setting = setting


class LockLost(trio_redis.LockLost, Unavailable):
    """Another process took the lock, or it could not be renewed in time."""


class RedisRefused(trio_redis.RedisRefused, MediaError):
    """Redis returned an error that is not an outage: a bug. ``code`` is its first word (``NOGROUP``)."""


class Redis(trio_redis.Redis):
    """The connections of one process to its Redis, or to its two: see `state`."""

    def __init__(
        self,
        url: str,
        connections: int = 24,
        timeout_s: float = 5.0,
        *,
        state_url: str = "",
        only_statuses: bool = False,
    ) -> None:
        """See `open_redis` for the arguments. ``only_statuses``: it is the `state` of another, and errors say so."""
        setting = "AVION_MEDIA_STATUS__REDIS_URL" if only_statuses else ""
        self._outages = OutageLog("redis", "foundation/redis")
        super().__init__(
            url,
            connections,
            timeout_s,
            label="for statuses: " if only_statuses else "",
            errors=Errors(
                unavailable=partial(Unavailable, setting=setting),
                full=partial(RedisFull, setting=setting),
                lock_lost=LockLost,
                refused=RedisRefused,
            ),
            on_availability=self._log,
        )
        has_own_state = state_url not in ("", url)
        self.state = Redis(state_url, connections, timeout_s, only_statuses=True) if has_own_state else self
        """The Redis of statuses, deletion records and remote state: this one, unless another one is configured."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """As in trio_redis, also for `state`."""
        async with super().opened(), nullcontext() if self.state is self else self.state.opened():
            yield

    @property
    def available(self) -> Availability:
        """As in trio_redis. If statuses have a Redis of their own, this is the state of the one that is unavailable, or
        else of the one that became available last."""
        mine = super().available
        if self.state is self or not mine.up:
            return mine
        return max(mine, self.state.available, key=lambda each: (not each.up, each.since))

    @property
    def has_sentinels(self) -> bool:
        """As in trio_redis, also of `state`."""
        return super().has_sentinels or (self.state is not self and self.state.has_sentinels)

    async def ping(self) -> None:
        """As in trio_redis, also for `state`."""
        await super().ping()
        if self.state is not self:
            await self.state.ping()

    def _log(self, now: Availability) -> None:
        if now.up:
            self._outages.available()
        else:
            self._outages.unavailable(now.detail)


@asynccontextmanager
async def open_redis(
    url: str, connections: int = 24, timeout_s: float = 5.0, *, state_url: str = ""
) -> AsyncIterator[Redis]:
    """Open the connections to the servers behind ``url``, as `trio_redis.open_redis` does.

    ``state_url`` leads to the Redis of statuses, deletion records and remote state, if that is another one
    (`Redis.state`).
    """
    redis = Redis(url, connections, timeout_s, state_url=state_url)
    async with redis.opened():
        yield redis
