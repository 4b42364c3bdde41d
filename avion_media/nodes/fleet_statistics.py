"""What gauges and charts show of Redis, for the whole fleet: one replica counts, all others read what it has found.

So a replica costs Redis one GET every few seconds, whatever there is to count.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from avion_media.backends.queue import QueueKeys, QueueStats, TaskQueue
from avion_media.backends.queue.history import QueueSample
from avion_media.backends.redis import Redis, RedisRefused, as_map
from avion_media.common.records import JsonRecord
from avion_media.items.deletion.backlog import notice_backlog
from avion_media.items.state import MediaEvents
from avion_media.items.state.sweep_state import SweepState

_KEY = "media_statistics"
_COUNTING = "media_statistics_counting"  # string: some replica counts, or has counted a moment ago
_KEPT = 3  # times the age at which they are counted again: the others read them while one counts


@dataclass(frozen=True, slots=True)
class FleetStatistics:
    """One moment, by the clock of the replica that counted (Unix seconds).

    ``notices`` are those of `drop_deleted` that wait; ``events_headroom``: see `MediaEvents.headroom`. ``stored``:
    objects and bytes by kind at the last whole sweep; ``swept_at``: its end in Unix seconds, or 0. ``memory_use``:
    see `Redis.memory_use`.
    """

    counted_at: float
    queues: Mapping[str, QueueSample]
    notices: QueueStats
    events_headroom: int
    stored: Mapping[str, tuple[int, int]]
    swept_at: float
    memory_use: float = 0.0


STATISTICS = JsonRecord("statistics", FleetStatistics, _KEY, "the process that counts")


async def read_fleet_statistics(
    redis: Redis, queues: Mapping[str, TaskQueue], events: MediaEvents, max_age_s: float
) -> FleetStatistics:
    """Return them as some replica found them within ``max_age_s``. Raises `Unavailable`.

    Of several replicas that find them older at once, one counts, and the others return what they have found.
    """
    found = await redis.execute("GET", _KEY)
    known = None if found is None else STATISTICS.read_or_skip(found, _KEY)
    if known is not None and 0 <= time.time() - known.counted_at < max_age_s:
        return known
    age_ms = round(max_age_s * 1000)
    counts_elsewhere = await redis.execute("SET", _COUNTING, "1", "NX", "PX", age_ms, when_full=True) is None
    if known is not None and counts_elsewhere:
        return known
    counted = await _count(redis, queues, events)
    await redis.execute("SET", _KEY, STATISTICS.write(counted), "PX", _KEPT * age_ms, when_full=True)
    return counted


async def _count(redis: Redis, queues: Mapping[str, TaskQueue], events: MediaEvents) -> FleetStatistics:
    sweep = await SweepState(redis).read()
    return FleetStatistics(
        time.time(),
        {name: await _sample(redis, queue) for name, queue in queues.items()},
        await notice_backlog(redis),
        await events.headroom(),
        sweep.stored,
        sweep.finished_at,
        max(await redis.memory_use(), await redis.state.memory_use()),
    )


async def _sample(redis: Redis, queue: TaskQueue) -> QueueSample:
    stats = await queue.stats()
    added = await _entries_added(redis, queue.name) + stats.waiting
    return QueueSample(stats, added, await _entries_added(redis, QueueKeys(queue.name).dead_letters))


async def _entries_added(redis: Redis, stream: str) -> int:
    """How many entries the stream ever had."""
    try:
        reply = await redis.execute("XINFO", "STREAM", stream)
    except RedisRefused:  # there is no such stream yet
        return 0
    return int(as_map(reply).get(b"entries-added", 0))
