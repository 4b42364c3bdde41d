"""The list of processes that report themselves."""

from __future__ import annotations

import time

from avion_media.backends.redis import open_redis
from avion_media.process.replicas import Replica, Replicas


async def test_processes_of_one_host_are_told_apart(redis_url: str) -> None:
    now = time.time()
    async with open_redis(redis_url) as redis:
        replicas = Replicas(redis)
        for process, host in (("alpha-7-aa", "alpha"), ("beta-1-bb", "beta"), ("alpha-9-cc", "alpha")):
            await replicas.announce(Replica(process, host, "1", ("grpc",), "READY", True, now, now))
        assert [each.name for each in await replicas.read(now)] == ["alpha-7", "alpha-9", "beta"]
        await replicas.leave("alpha-9-cc")
        assert [each.name for each in await replicas.read(now)] == ["alpha", "beta"]
