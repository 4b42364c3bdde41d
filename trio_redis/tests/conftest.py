"""The servers, and the library on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from trio_redis import Redis, open_redis

from .fixtures import (
    cluster,
    cluster_of_process,
    memory,
    other,
    redis_of_process,
    redis_url,
    server,
    valkey_of_process,
)

__all__ = [
    "cluster",
    "cluster_of_process",
    "memory",
    "other",
    "redis_of_process",
    "redis_url",
    "server",
    "valkey_of_process",
]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        yield opened
