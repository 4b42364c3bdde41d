"""A lock among processes: a key on Redis, which expires unless its holder renews it.

What it protects must be repeatable, because two processes can hold it for a moment. A process that was suspended until
its lock expired works beside the next holder until it notices. A loss of Redis's data lets a second process take the
lock as well.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from trio_redis.client import Redis
from trio_redis.errors import LockLost, RedisUnavailable
from trio_redis.scripts import load_script

_RENEW = load_script("trio_redis", "renew_lock", flags="allow-oom")
_RELEASE = load_script("trio_redis", "release_lock", flags="allow-oom")
_POLL_S = 0.2  # how often a waiting process tries again
_RELEASE_S = 2.0
_OUTAGE_S = 1.0  # pause between two attempts during an outage


class Lock:
    """One attempt of one task to hold the lock ``key``. Another attempt needs another object.

    ``ttl_s``: how long the others wait for a holder that died. ``token``: a name that no other attempt ever has; by
    default a random one.
    """

    def __init__(self, redis: Redis, key: str, *, ttl_s: float, token: str = "") -> None:
        self._redis = redis
        self._key = key
        self._ttl_s = ttl_s
        self._token = token or secrets.token_hex(16)

    async def acquire(self) -> bool:
        """Take the lock if it is free, or renew it. Return whether this object holds it.

        Raises `RedisUnavailable`. After that, or after a cancel, this object may hold it.
        """
        ttl_ms = round(self._ttl_s * 1000)
        # A plain command costs a tenth of a script, and those that wait call this repeatedly.
        holder = await self._redis.execute("SET", self._key, self._token, "NX", "GET", "PX", ttl_ms, when_full=True)
        if holder != self._token.encode():
            return holder is None
        renewed = await self._redis.run(_RENEW, (self._key,), (self._token, ttl_ms))
        return bool(renewed) or await self.acquire()  # it expired between the two

    async def wait(self) -> None:
        """Acquire the lock, however long another process holds it."""
        while not await self.acquire():  # noqa: ASYNC110 - the holder is another process
            await trio.sleep(_POLL_S)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renew the acquired lock while the body runs. Release it at the end, for whatever reason the body ends.

        The body is cancelled when the lock is lost, and `LockLost` is raised. An error of the body goes before that.
        """
        lost: LockLost | None = None

        async def keep() -> None:
            nonlocal lost
            lost = await self._until_lost()
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep)
                yield
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # the nursery has wrapped the body's error
            errors = (each for each in group.exceptions if not isinstance(each, trio.Cancelled))
            raise next(errors, group) from None
        finally:
            # Shielded, so that the next holder does not wait until the key expires. Bounded by `_RELEASE_S`.
            with trio.CancelScope(shield=True):
                await self.release()
        if lost is not None:
            raise lost

    async def release(self) -> None:
        """Give up the lock if this object holds it, so that others do not wait until it expires."""
        with trio.move_on_after(_RELEASE_S), suppress(RedisUnavailable):
            await self._redis.run(_RELEASE, (self._key,), (self._token,))

    async def _until_lost(self) -> LockLost:
        renewed_at = trio.current_time()
        while True:
            await trio.sleep(self._ttl_s / 3)
            asked_at = trio.current_time()
            try:
                is_held = await self.acquire()
            except RedisUnavailable:
                if trio.current_time() - renewed_at >= self._ttl_s:
                    return self._redis.errors.lock_lost(f"{self._key} could not be renewed in time")
                continue
            if not is_held:
                return self._redis.errors.lock_lost(f"another process holds {self._key}")
            renewed_at = asked_at


class Seats:
    """A few locks, of which a process holds one at most: so many processes do something for all, and the others wait.

    ``ttl_s``: how long a seat stays empty whose holder died. The locks are in one cluster slot, that of ``key``, which
    has braces.
    """

    def __init__(self, redis: Redis, key: str, count: int, *, ttl_s: float) -> None:
        self._redis = redis
        self._keys = [f"{key}:{number}" for number in range(count)]
        self._ttl_s = ttl_s

    async def wait(self) -> Lock:
        """Return a seat, however long that takes, also through outages. The caller holds it."""
        while (seat := await self.find()) is None:  # noqa: ASYNC110 - the holders are other processes
            await trio.sleep(self._redis.next_tick_s(self._ttl_s))
        return seat

    async def find(self) -> Lock | None:
        """Return a seat, or None if all are taken. Waits during an outage. A cancel leaves a seat empty for a while."""
        while True:
            with suppress(RedisUnavailable):
                holders = await self._redis.execute("MGET", *self._keys)
                for key in (key for key, holder in zip(self._keys, holders, strict=True) if holder is None):
                    seat = Lock(self._redis, key, ttl_s=self._ttl_s)
                    if await seat.acquire():
                        return seat
                return None
            await trio.sleep(self._redis.next_tick_s(_OUTAGE_S))
