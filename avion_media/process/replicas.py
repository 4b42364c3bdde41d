"""The list of the service's processes. Each one reports itself on Redis every few seconds, for every replica's
console."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from avion_media.backends.redis import Redis, as_map
from avion_media.common.records import JsonRecord

_KEY: Final = "media_replicas"
SILENT_S: Final = 30.0
"""A process that did not report for this long was killed, or hangs: one that stops removes itself."""
_FORGET_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One process, as it was ``at`` (Unix seconds). ``name`` is the name of its host, ``started_at`` is in Unix
    seconds. ``unreadable`` are stored records that it could not read, with the reason."""

    process: str  # a name that no other process ever has
    name: str
    version: str
    roles: tuple[str, ...]
    phase: str
    is_ready: bool
    started_at: float
    at: float
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def is_silent(self, now: float) -> bool:
        """Whether it has not reported for `SILENT_S`."""
        return now - self.at > SILENT_S


REPLICA: Final = JsonRecord("replica", Replica, f"{_KEY} <process>", "each process, every 4 to 15 s")


class Replicas:
    """The list on Redis. Every method raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, me: Replica) -> None:
        """Report the state of this process."""
        await self._redis.execute("HSET", _KEY, me.process, REPLICA.write(me), when_full=True)

    async def leave(self, process: str) -> None:
        """Remove a process that stops."""
        await self._redis.execute("HDEL", _KEY, process)

    async def read(self, now: float) -> list[Replica]:
        """Return all processes, by name. Of several on one host the name has the process id, too.

        Those that did not report for ten minutes are removed.
        """
        written = as_map(await self._redis.execute("HGETALL", _KEY))
        read = [REPLICA.read_or_skip(each, f"{_KEY} {name.decode()}") for name, each in written.items()]
        found = [each for each in read if each is not None]
        gone = [each.process for each in found if now - each.at > _FORGET_S]
        if gone:
            await self._redis.execute("HDEL", _KEY, *gone)
        kept = [each for each in found if now - each.at <= _FORGET_S]
        on_host = Counter(each.name for each in kept)
        named = (
            replace(each, name=each.process.rpartition("-")[0]) if on_host[each.name] > 1 else each for each in kept
        )
        return sorted(named, key=lambda each: (each.name, each.started_at))
