"""Before anybody wrote anything there is nothing to forget, and that is no error."""

from __future__ import annotations

from avion_media.domain.tasks import PROCESSING_QUEUE
from avion_media.queue import DropStream, TaskQueue
from avion_media.redis import open_redis


async def test_forgetting_consumers_of_a_stream_that_does_not_exist(redis_url: str) -> None:
    async with open_redis(redis_url) as redis:
        assert await DropStream(redis).remove_idle_consumers(0.0) == 0
        assert await TaskQueue(redis, PROCESSING_QUEUE).remove_idle_consumers(0.0) == 0
