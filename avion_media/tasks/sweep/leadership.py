"""One leader among all replicas, by a lease on Redis.

The lease does not have to be perfect: should two replicas sweep at once for a moment (one is stopped for longer than
its lease, and wakes up), both do the same harmless things. It saves the work, and keeps the cursor in one hand.
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
    """This process's claim. ``ttl_s`` is how long a dead leader is waited for."""

    def __init__(self, redis: Redis, *, ttl_s: float = 30.0) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._token = secrets.token_hex(16)

    async def acquire(self) -> bool:
        """Take the lead if nobody has it. Raises `Unavailable`; the lead may have been taken then."""
        holder = await self._redis.execute("SET", _KEY, self._token, "NX", "GET", "PX", round(self._ttl_s * 1000))
        return holder is None or (holder == self._token.encode() and await self._renew())

    async def keep(self) -> None:
        """Renew the lead for as long as it lasts; ends with `LeaseLost` only. A cancel leaves the lead as it is."""
        renewed_at = trio.current_time()
        while True:
            await trio.sleep(self._ttl_s / 3)
            asked_at = trio.current_time()
            try:
                if not await self._renew():
                    raise LeaseLost("another replica sweeps, or Redis has lost its memory")
                renewed_at = asked_at
            except Unavailable:
                if trio.current_time() - renewed_at >= self._ttl_s:
                    raise LeaseLost("it could not be renewed in time") from None

    async def release(self) -> None:
        """Give the lead up, if it is ours. Raises `Unavailable`: then it runs out by itself."""
        await self._redis.run(_RELEASE, (_KEY,), (self._token,))

    async def _renew(self) -> bool:
        args = (self._token, round(self._ttl_s * 1000))
        return bool(await self._redis.run(_RENEW, (_KEY,), args))
