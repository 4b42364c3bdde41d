"""The list of the service's processes. Each one reports itself on Redis every few seconds, for every replica's
console."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from avion_media.redis import Redis, as_map

_KEY: Final = "media_replicas"
SILENT_S: Final = 30.0
"""A process that did not report for this long is not shown as running."""
_FORGET_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One process, as it was ``at`` (Unix seconds). ``name`` is the name of its host, ``started_at`` is in Unix
    seconds."""

    process: str  # a name that no other process ever has
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
        """Report the state of this process."""
        await self._redis.execute("HSET", _KEY, me.process, json.dumps(asdict(me), separators=(",", ":")))

    async def read(self, now: float) -> list[Replica]:
        """Return all processes, by name. Those that did not report for two minutes are removed."""
        written = as_map(await self._redis.execute("HGETALL", _KEY))
        found = [replica for each in written.values() if (replica := _parse(each)) is not None]
        gone = [each.process for each in found if now - each.at > _FORGET_S]
        if gone:
            await self._redis.execute("HDEL", _KEY, *gone)
        return sorted(
            (each for each in found if now - each.at <= _FORGET_S), key=lambda each: (each.name, each.started_at)
        )


def _parse(written: bytes) -> Replica | None:
    """Return the process; None if another version wrote it in another form."""
    try:
        document = json.loads(written)
        return Replica(**{**document, "roles": tuple(document["roles"])})
    except (ValueError, KeyError, TypeError):
        return None
