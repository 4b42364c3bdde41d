"""Every action has an entry in the audit log, however it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis as redis_py
import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.credentials import Person
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.items.item import Items
from avion_media.operations import audit
from avion_media.operations.operation import Order, Outcome, Work
from avion_media.operations.table import Operations


@pytest.fixture
async def redis(redis_of_process: str) -> AsyncIterator[Redis]:
    """An empty Redis."""
    with redis_py.Redis.from_url(redis_of_process) as client:
        client.flushall()
    async with open_redis(redis_of_process) as redis:
        yield redis


async def carry_out(redis: Redis, work: Work, note: str = "") -> Outcome:
    """Release two targets, as ada."""
    operations = Operations(cast("Any", SimpleNamespace(items=Items(ResourceSlot(Dependency.STORE), redis))))
    return await operations.carry_out("release", Order(("one", "two"), who=Person("ada"), note=note), work)


async def only_entry(redis: Redis) -> audit.AuditEntry:
    """The entry of the action."""
    (entry,), _ = await audit.read(redis)
    assert (entry.who, entry.action, entry.count, entry.targets) == ("ada", "release", 2, "one, two")
    return entry


async def test_an_action_is_recorded_with_its_note(redis: Redis) -> None:
    async def work() -> Outcome:
        return Outcome({"one": {}, "two": {}})

    outcome = await carry_out(redis, work, "ticket 7")
    entry = await only_entry(redis)
    assert (entry.result, entry.note) == ("2 media items are released: processed and published.", "ticket 7")
    assert outcome.entry == entry


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Unavailable(Dependency.STORE, "it is down"), "the object store is not available: it is down"),
        (KeyError("colr"), "'colr'"),
        (AssertionError(), "AssertionError"),
    ],
)
async def test_an_action_that_fails_is_recorded_with_the_cause(redis: Redis, error: Exception, cause: str) -> None:
    async def work() -> Outcome:
        raise error

    with pytest.raises(type(error)):
        await carry_out(redis, work)
    assert (await only_entry(redis)).result == f"Not completed: {cause}"


@pytest.mark.parametrize(("ends", "result"), [(True, "2 media items"), (False, "Not completed: it was interrupted")])
async def test_an_action_that_is_cancelled_is_recorded(redis: Redis, ends: bool, result: str) -> None:
    with trio.CancelScope() as scope:

        async def work() -> Outcome:
            scope.cancel()
            if not ends:  # else it has killed what called it
                await trio.sleep_forever()
            return Outcome({"one": {}, "two": {}})

        await carry_out(redis, work)
    assert scope.cancelled_caught is not ends
    assert (await only_entry(redis)).result.startswith(result)
