"""A master that Sentinels watch dies in the middle of work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.errors import Unavailable
from avion_media.common.tasks import PROCESSING_QUEUE
from tests.integration.backends.topology.conftest import Workers
from trio_redis.tests.outages import persistently
from trio_redis.tests.servers import Watched, watched_redis

FIELDS = {"media_id": "m", "type": "thumbnail"}


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watched_redis() as started:
        yield started


async def test_a_failover_loses_nothing_that_was_replicated(watched: Watched) -> None:
    """Tasks in the queue, in hands, delayed and given up, and one that comes while there is no master."""
    async with open_redis(watched.url, timeout_s=2.0) as redis, trio.open_nursery() as nursery:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.ensure_group()
        assert await queue.detect_data_loss() is None
        media_ids = {f"m{number}" for number in range(400)}
        for media_id in sorted(media_ids):
            await queue.enqueue({**FIELDS, "media_id": media_id})
        lease = await queue.take("b", block_s=1)
        assert lease is not None
        await lease.dead_letter("given up before")
        await queue.delay([({**FIELDS, "media_id": "later"}, "later", 4e9)])
        assert watched.master.ask("WAIT", 1, 5000) == 1

        workers = Workers(queue)
        nursery.start_soon(workers.run)
        with trio.fail_after(10):
            while len(workers.done) < 50:
                await trio.lowlevel.checkpoint()
        watched.master.kill()
        with pytest.raises(Unavailable):
            await queue.stats()
        assert not redis.available.up
        first: str = await persistently(lambda: queue.enqueue(FIELDS, dedup_key="k"))
        assert await persistently(lambda: queue.enqueue(FIELDS, dedup_key="k")) == first
        await workers.until_done((media_ids | {"m"}) - {lease.task.fields["media_id"]})
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            stats = await queue.stats()
            assert await queue.detect_data_loss() is not None  # for all that anybody can tell
    assert workers.outages > 0
    assert (stats.depth, stats.pending, stats.delayed, stats.dead_letters) == (0, 0, 1, 1)
    assert watched.current_master() == watched.replica.port
    assert watched.replica.ask("ROLE")[0] == "master"
