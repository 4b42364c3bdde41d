"""One leader among all replicas, by a lease on Redis.

The lease saves work and keeps one cursor; correctness does not depend on it. If a replica is stopped for longer than
its lease and then resumes, two replicas sweep for a moment. That is harmless, because every action can be repeated.
"""

from __future__ import annotations

import secrets
from importlib.resources import files

import trio

from avion_media.domain.errors import LeaseLost, Unavailable
from avion_media.redis import Redis, Script

_KEY = "media_sweep_leader"
_FOLDER = files("avion_media.tasks.sweep") / "lua"
_RENEW = Script("renew_leadership", (_FOLDER / "renew_leadership.lua").read_text())
_RELEASE = Script("release_leadership", (_FOLDER / "release_leadership.lua").read_text())


class Leadership:
    """The lease of this process. ``ttl_s``: how long the others wait for a dead leader."""

    def __init__(self, redis: Redis, *, ttl_s: float = 30.0) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._token = secrets.token_hex(16)

    async def acquire(self) -> bool:
        """Become the leader if there is none. Return whether this process leads. After `Unavailable` it may lead."""
        holder = await self._redis.execute("SET", _KEY, self._token, "NX", "GET", "PX", round(self._ttl_s * 1000))
        return holder is None or (holder == self._token.encode() and await self._renew())

    async def keep(self) -> None:
        """Renew the lease until it is lost, then raise `LeaseLost`. A cancel does not release it."""
        renewed_at = trio.current_time()
        while True:
            await trio.sleep(self._ttl_s / 3)
            asked_at = trio.current_time()
            try:
                if not await self._renew():
                    raise LeaseLost("another replica leads, or Redis lost data")
                renewed_at = asked_at
            except Unavailable:
                if trio.current_time() - renewed_at >= self._ttl_s:
                    raise LeaseLost("it could not be renewed in time") from None

    async def release(self) -> None:
        """Release the lease if this process has it. After `Unavailable` it expires by itself."""
        await self._redis.run(_RELEASE, (_KEY,), (self._token,))

    async def _renew(self) -> bool:
        args = (self._token, round(self._ttl_s * 1000))
        return bool(await self._redis.run(_RENEW, (_KEY,), args))
