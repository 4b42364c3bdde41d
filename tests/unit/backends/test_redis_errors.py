"""An error of trio_redis is an error of the service, with the same text and the same name as always."""

from __future__ import annotations

import pytest

import trio_redis
from avion_media.backends.redis import LockLost, Redis, RedisFull, RedisRefused
from avion_media.common.errors import Dependency, MediaError, Unavailable

URL = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(("only_statuses", "setting"), [(False, ""), (True, "AVION_MEDIA_STATUS__REDIS_URL")])
async def test_an_outage_names_the_dependency_and_the_setting(only_statuses: bool, setting: str) -> None:
    redis = Redis(URL, only_statuses=only_statuses)
    with pytest.raises(Unavailable, match=r"^Redis is not available: closed$") as closed:
        await redis.execute("GET", "k")
    full = redis.errors.full()
    assert isinstance(full, RedisFull)
    assert str(full) == str(RedisFull()) == "Redis is not available: it is full (used memory has reached maxmemory)"
    for error, retry_after_s in ((closed.value, 1.0), (full, 10.0)):
        assert isinstance(error, trio_redis.RedisUnavailable)
        assert isinstance(error, Unavailable)
        assert (error.dependency, error.setting, error.retry_after_s) == (Dependency.REDIS, setting, retry_after_s)
    assert type(closed.value).__name__ == "Unavailable"  # in logs and spans


def test_the_other_errors() -> None:
    lost = Redis(URL).errors.lock_lost("another process holds k")
    assert isinstance(lost, LockLost)
    assert isinstance(lost, Unavailable)
    assert str(lost) == "Redis is not available: another process holds k"
    found = (lost.detail, lost.dependency, lost.setting, lost.retry_after_s)
    assert found == ("another process holds k", Dependency.REDIS, "", 1.0)
    refused = Redis(URL).errors.refused("GET", "WRONGTYPE", "not a string")
    assert isinstance(refused, RedisRefused)
    assert isinstance(refused, MediaError)
    assert (str(refused), refused.code) == ("redis refused GET: WRONGTYPE not a string", "WRONGTYPE")
