"""Every action has an entry in the audit log, however it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis as redis_py
import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Dependency, Unavailable
from avion_media.servers.console import audit
from avion_media.servers.console.actions import Action, Asks, Outcome, Service
from avion_media.servers.console.questions import Question, Questions

Perform = Callable[[Service, Sequence[str]], Awaitable[Outcome]]


@pytest.fixture
async def redis(redis_of_process: str) -> AsyncIterator[Redis]:
    """An empty Redis."""
    with redis_py.Redis.from_url(redis_of_process) as client:
        client.flushall()
    async with open_redis(redis_of_process) as redis:
        yield redis


async def carry_out(redis: Redis, perform: Perform, note: str = "") -> None:
    """Carry out an action on two targets, as ada."""
    action = Action("turn", "Turn", "media item", "", "{} turned.", Asks.NEVER, (), perform)
    targets = ("one", "two")
    service = Service(cast("Any", SimpleNamespace(redis=redis)), cast("Any", None))
    questions = Questions(service, {}, "replica-1")
    await questions.carry_out(Question(action, targets, targets, {}, targets, "/"), "ada", note=note)


async def only_entry(redis: Redis) -> audit.AuditEntry:
    """The entry of the action."""
    (entry,), _ = await audit.read(redis)
    assert (entry.who, entry.action, entry.count, entry.targets, entry.replica) == (
        "ada",
        "turn",
        2,
        "one, two",
        "replica-1",
    )
    return entry


async def test_an_action_is_recorded_with_its_note(redis: Redis) -> None:
    async def perform(_service: Service, targets: Sequence[str]) -> Outcome:
        return Outcome(len(targets))

    await carry_out(redis, perform, "ticket 7")
    assert (await only_entry(redis)).result == "2 media items turned. Note: ticket 7"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Unavailable(Dependency.STORE, "it is down"), "the object store is not available: it is down"),
        (KeyError("colr"), "'colr'"),
        (AssertionError(), "AssertionError"),
    ],
)
async def test_an_action_that_fails_is_recorded_with_the_cause(redis: Redis, error: Exception, cause: str) -> None:
    async def perform(_service: Service, _targets: Sequence[str]) -> Outcome:
        raise error

    with pytest.raises(type(error)):
        await carry_out(redis, perform)
    assert (await only_entry(redis)).result == f"Not completed: {cause}"


async def test_an_action_that_is_cancelled_is_recorded(redis: Redis) -> None:
    with trio.CancelScope() as scope:

        async def perform(_service: Service, _targets: Sequence[str]) -> Outcome:
            scope.cancel()
            await trio.sleep_forever()
            raise AssertionError

        await carry_out(redis, perform)
    assert scope.cancelled_caught
    assert (await only_entry(redis)).result == "Not completed: it was interrupted"
