"""Statistics of Redis are counted by one replica, and read by the others."""

from __future__ import annotations

import json
import time

import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis
from avion_media.common.tasks import PROCESSING_QUEUE, processing_fields
from avion_media.items.state import MediaEvents
from avion_media.items.state.sweep_state import SweepState
from avion_media.nodes.gauges import read_fleet_statistics
from avion_media.process.replicas import Replica, Replicas
from tests.integration.backends.queue.conftest import Client


async def test_one_replica_counts_for_all(redis: Redis, other: Client) -> None:
    queues, events = {PROCESSING_QUEUE: TaskQueue(redis, PROCESSING_QUEUE)}, MediaEvents(redis)
    await SweepState(redis).note_stored({"image": (3, 4096)})
    await queues[PROCESSING_QUEUE].enqueue(processing_fields("m"))
    now = time.time()
    for name, at in (("a", now), ("b", now - 60), ("gone", now - 600)):
        await Replicas(redis).announce(Replica(name, name, "1", ("grpc",), "READY", True, at, at))
    first = await read_fleet_statistics(redis, queues, events, max_age_s=60)
    assert (first.queues[PROCESSING_QUEUE].added, first.stored, first.replicas) == (1, {"image": (3, 4096)}, 2)
    assert set(other.hkeys("media_replicas")) == {"a", "b"}
    await queues[PROCESSING_QUEUE].enqueue(processing_fields("m"))
    assert await read_fleet_statistics(redis, queues, events, max_age_s=60) == first
    other.set("media_statistics", '{"queues": {}, "of another version": 1}')
    again = await read_fleet_statistics(redis, queues, events, max_age_s=60)
    assert again.queues[PROCESSING_QUEUE].stats.depth == 2


async def test_of_those_that_find_them_too_old_at_once_one_counts(redis: Redis, other: Client) -> None:
    queues, events = {PROCESSING_QUEUE: TaskQueue(redis, PROCESSING_QUEUE)}, MediaEvents(redis)
    await read_fleet_statistics(redis, queues, events, max_age_s=60)
    old = json.loads(other.get("media_statistics")) | {"counted_at": 1.0}
    other.set("media_statistics", json.dumps(old))
    other.delete("media_statistics_counting")
    await queues[PROCESSING_QUEUE].enqueue(processing_fields("m"))
    depths: list[int] = []

    async def read() -> None:
        found = await read_fleet_statistics(redis, queues, events, max_age_s=60)
        depths.append(found.queues[PROCESSING_QUEUE].stats.depth)

    async with trio.open_nursery() as replicas:
        for _ in range(20):
            replicas.start_soon(read)
    assert sorted(depths) == [0] * 19 + [1]
    await read()
    assert depths[-1] == 1
