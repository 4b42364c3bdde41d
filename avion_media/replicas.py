"""Which processes of the service there are: each says so on Redis every few seconds, for the console of any other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from avion_media.redis import Redis, as_map

_KEY: Final = "media_replicas"
SILENT_S: Final = 30.0
"""A process that said nothing for so long is not shown as running."""
_FORGET_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One process as it was ``at`` (Unix seconds). ``name`` is that of its host, ``started_at`` in Unix seconds."""

    process: str  # a name that no other process has, ever
    name: str
    version: str
    roles: tuple[str, ...]
    phase: str
    is_ready: bool
    started_at: float
    at: float


class Replicas:
    """The list on Redis. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, me: Replica) -> None:
        """Say how this process is."""
        await self._redis.execute("HSET", _KEY, me.process, json.dumps(asdict(me), separators=(",", ":")))

    async def read(self, now: float) -> list[Replica]:
        """Return all, by name; those that were silent for two minutes are forgotten."""
        written = as_map(await self._redis.execute("HGETALL", _KEY))
        found = [replica for each in written.values() if (replica := _parse(each)) is not None]
        gone = [each.process for each in found if now - each.at > _FORGET_S]
        if gone:
            await self._redis.execute("HDEL", _KEY, *gone)
        return sorted(
            (each for each in found if now - each.at <= _FORGET_S), key=lambda each: (each.name, each.started_at)
        )


def _parse(written: bytes) -> Replica | None:
    """None for what another version wrote in another form."""
    try:
        document = json.loads(written)
        return Replica(**{**document, "roles": tuple(document["roles"])})
    except (ValueError, KeyError, TypeError):
        return None
