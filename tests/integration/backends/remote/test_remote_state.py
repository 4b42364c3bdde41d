"""What is remembered of remote media, on a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis as redis_py

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import Reason
from avion_media.common.tasks import State, Status
from avion_media.items.deletion import DeletionRecords
from avion_media.items.state import RemoteFailure, RemoteState, RemoteStateStore, RemoteUse, StatusStore
from tests.remote_ids import remote_id_for
from tests.service.published import key_of

REMOTE = remote_id_for("https://remote.example/a.png")
FAILURE = RemoteFailure(Reason.REMOTE_STATUS, "task", "remote.example:443", 1_750_000_000.25)
FAILED = Status(str(REMOTE), State.FAILED, Reason.REMOTE_STATUS)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as redis:
        yield redis


@pytest.fixture
def remote_states(redis: Redis) -> RemoteStateStore:
    return RemoteStateStore(redis)


@pytest.fixture
def statuses(redis: Redis) -> StatusStore:
    return StatusStore(redis)


@pytest.fixture
def other(redis_url: str) -> Any:
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def test_nothing_is_remembered_at_first(remote_states: RemoteStateStore) -> None:
    assert await remote_states.load(REMOTE) == RemoteState(deleted=False, failure=None, validated=False)
    assert await remote_states.seconds_left(REMOTE) == (0, 0)
    assert await remote_states.last_uses([]) == {}
    assert await remote_states.last_uses([str(REMOTE)]) == {}


async def test_what_is_remembered_is_recalled(redis: Redis, remote_states: RemoteStateStore, other: Any) -> None:
    used = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    await remote_states.remember_failure(REMOTE, FAILURE, 60)
    await remote_states.mark_validated(REMOTE, 30)
    await remote_states.mark_used(REMOTE, RemoteUse(used, 20, 7))
    await DeletionRecords(redis).mark([str(REMOTE)], delay_s=60)
    assert await remote_states.load(REMOTE) == RemoteState(
        deleted=True, failure=FAILURE, validated=True, use=RemoteUse(used, 20, 7)
    )
    assert await remote_states.last_uses([str(REMOTE), "0" * 64]) == {str(REMOTE): RemoteUse(used, 20, 7)}
    failure_s, validated_s = await remote_states.seconds_left(REMOTE)
    assert 59 < failure_s <= 60
    assert 29 < validated_s <= 30
    assert 19_000 < other.pttl(key_of("remote_used", REMOTE)) - 2 * 86_400_000 <= 20_000
    await remote_states.forget_failure(REMOTE)
    assert (await remote_states.load(REMOTE)).failure is None


async def test_a_time_to_live_of_nothing_is_no_error(remote_states: RemoteStateStore) -> None:
    await remote_states.mark_validated(REMOTE, 0.0)
    await remote_states.mark_used(REMOTE, RemoteUse(datetime.now(UTC)))


@pytest.mark.parametrize(
    "written",
    [
        "", "x", "[]", "1", "null", "{}", '{"reason":"remote_status"}',
        '{"reason":"of a later version","task_id":"t","server":"s:1","failed_at":1}',
        '{"reason":"remote_status","task_id":"t","server":"s:1","failed_at":"long ago"}',
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_not_held_against_a_url(
    remote_states: RemoteStateStore, other: Any, written: str
) -> None:
    other.set(key_of("remote_failure", REMOTE), written)
    assert (await remote_states.load(REMOTE)).failure is None


async def test_only_a_failure_whose_time_has_passed_is_begun_anew(
    remote_states: RemoteStateStore, statuses: StatusStore
) -> None:
    await remote_states.remember_failure(REMOTE, FAILURE, 60)
    await statuses.put(FAILED, ttl_s=60)
    await remote_states.reset_failure(REMOTE)
    assert await statuses.get(str(REMOTE)) == FAILED
    await remote_states.forget_failure(REMOTE)
    await remote_states.reset_failure(REMOTE)
    assert await statuses.get(str(REMOTE)) is None
    assert await statuses.put(Status(str(REMOTE), State.PROCESSING), ttl_s=60)


async def test_a_block_is_no_failure_of_a_fetch(remote_states: RemoteStateStore, statuses: StatusStore) -> None:
    blocked = Status(str(REMOTE), State.FAILED, reason=Reason.BLOCKED)
    await statuses.put(blocked, ttl_s=60)
    await remote_states.reset_failure(REMOTE)
    assert not await statuses.put(Status(str(REMOTE), State.PROCESSING), ttl_s=60)
    assert await statuses.get(str(REMOTE)) == blocked


@pytest.mark.parametrize("state", [State.READY, State.PROCESSING, State.DELETED])
async def test_no_other_state_is_forgotten(
    remote_states: RemoteStateStore, statuses: StatusStore, state: State
) -> None:
    await statuses.put(Status(str(REMOTE), state), ttl_s=60)
    await remote_states.reset_failure(REMOTE)
    status = await statuses.get(str(REMOTE))
    assert status is not None
    assert status.state is state


async def test_the_time_of_a_failure_is_exact(remote_states: RemoteStateStore) -> None:
    now = time.time()
    await remote_states.remember_failure(REMOTE, RemoteFailure(Reason.TOO_LARGE, "t", "[::1]:443", now), 60)
    failure = (await remote_states.load(REMOTE)).failure
    assert failure is not None
    assert (failure.failed_at, failure.server) == (now, "[::1]:443")
