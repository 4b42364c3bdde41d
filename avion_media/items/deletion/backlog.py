"""How far the listeners of ``drop_deleted`` are behind. Notices are not tasks, but they wait like tasks."""

from __future__ import annotations

import time

from avion_media.backends.queue import QueueStats
from avion_media.backends.redis import Redis, RedisRefused, Reply, as_map
from avion_media.common.tasks import DROP_DELETED
from avion_media.items.deletion.names import NOTICES_GROUP

_COUNTED = 10_000  # maximum unread notices that are counted one by one, if Redis does not know their number


async def notice_backlog(redis: Redis) -> QueueStats:
    """Return how many notices wait, and for how long. The stream's length does not show it, because the producer trims
    it.

    Raises `Unavailable`.
    """
    group = await _group(redis)
    if group is None:
        return QueueStats()
    pending, last, lag = group[b"pending"], group[b"last-delivered-id"], group.get(b"lag")
    unread = await redis.execute("XRANGE", DROP_DELETED, b"(" + last, "+", "COUNT", 1 if lag is not None else _COUNTED)
    oldest = [row[0] for row in unread[:1]]
    if pending:
        rows = await redis.execute("XPENDING", DROP_DELETED, NOTICES_GROUP, "-", "+", 1)
        oldest += [row[0] for row in rows]
    lag = len(unread) if lag is None else lag
    written_ms = min((int(entry_id.partition(b"-")[0]) for entry_id in oldest), default=None)
    age_s = 0.0 if written_ms is None else max(0.0, time.time() - written_ms / 1000)
    return QueueStats(lag + pending, lag, pending, age_s, consumers=group[b"consumers"])


async def _group(redis: Redis) -> dict[bytes, Reply] | None:
    try:
        groups = await redis.execute("XINFO", "GROUPS", DROP_DELETED)
    except RedisRefused:
        return None  # there is no stream
    for each in groups:
        fields = as_map(each)
        if fields[b"name"] == NOTICES_GROUP.encode():
            return fields
    return None
