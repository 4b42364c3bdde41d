"""Before anybody wrote anything there is nothing to forget, and that is neither an error nor a loss."""

from __future__ import annotations

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import open_redis
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.items.deletion import NoticeStream


async def test_forgetting_consumers_of_a_stream_that_does_not_exist(redis_url: str) -> None:
    async with open_redis(redis_url) as redis:
        assert await NoticeStream(redis).remove_idle_consumers(0.0) == 0
        assert await TaskQueue(redis, PROCESSING_QUEUE).remove_idle_consumers(0.0) == 0


async def test_forgetting_consumers_makes_no_group(redis_url: str) -> None:
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await redis.execute("XADD", PROCESSING_QUEUE, "*", "media_id", "m")
        assert await queue.remove_idle_consumers(0.0) == 0
        assert await queue.ensure_group()
        assert await queue.detect_data_loss() is None
