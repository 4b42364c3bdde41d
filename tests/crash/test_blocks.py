"""A block holds, wherever its process is killed, whatever Redis loses, and whatever a worker does meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from avion_media.domain import keys
from avion_media.domain.errors import Reason
from avion_media.domain.tasks import State, Status
from avion_media.state import StatusStore
from tests.crash.stage import SIZES, Killed, Stage, Steps, open_stages

NewStage = Callable[[], Stage]


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        def moderated() -> Stage:
            stage = new()
            stage.moderated = True
            return stage

        yield moderated


async def published(new_stage: NewStage) -> Stage:
    stage = new_stage()
    await stage.process()
    assert len(stage.served()) == 1 + len(SIZES)
    return stage


async def kill() -> None:
    raise Killed


def names(stage: Stage, prefix: str) -> set[str]:
    return {key.rpartition("/")[2] for key in stage.objects if key.startswith(prefix)}


def evidence(stage: Stage) -> set[str]:
    return names(stage, f"{keys.QUARANTINE_PREFIX}{stage.media_id}/")


async def assert_blocked(stage: Stage, what: object, *, redis_lost: bool = False) -> None:
    assert stage.served() == set(), what
    assert names(stage, keys.BLOCK_PREFIX) == {str(stage.media_id)}, what
    assert names(stage, keys.UNFINISHED_BLOCK_PREFIX) == set(), what
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    if not redis_lost:  # else the bucket says so, and the events were in Redis
        assert status == Status(str(stage.media_id), State.FAILED, reason=Reason.BLOCKED), what
        assert stage.events().count("media.blocked") == 1, what


@pytest.mark.parametrize("redis_lost", [False, True], ids=["Redis stays", "Redis is lost as well"])
async def test_a_block_killed_at_every_moment_is_carried_out_and_keeps_its_evidence(
    new_stage: NewStage, redis_lost: bool
) -> None:
    moment, was_recorded = 0, 0
    while True:
        stage, steps = await published(new_stage), Steps({moment: kill})
        original = stage.objects[keys.original(stage.media_id)].data
        try:
            await stage.block(steps)
        except Killed:
            pass
        else:
            break  # it has fewer moments
        if redis_lost:
            stage.client.flushall()
        await stage.resume_blocks()
        if names(stage, keys.BLOCK_PREFIX):
            was_recorded += 1
            await assert_blocked(stage, steps.names[-1], redis_lost=redis_lost)
        else:  # killed before it was recorded: nothing has happened, and the caller knows of no success
            assert len(stage.served()) == 1 + len(SIZES), steps.names[-1]
            await stage.block()
            await assert_blocked(stage, steps.names[-1])
        assert evidence(stage) >= {"original", *(f"thumbnail-{size.name}" for size in SIZES)}, steps.names[-1]
        assert stage.objects[f"{keys.QUARANTINE_PREFIX}{stage.media_id}/original"].data == original
        moment += 1
    assert was_recorded > 20


async def test_a_lifted_block_killed_at_every_moment_restores_the_medium(new_stage: NewStage) -> None:
    moment = 0
    while True:
        stage, steps = await published(new_stage), Steps({moment: kill})
        served = {key: stage.objects[key].data for key in stage.served()}
        await stage.block()
        try:
            await stage.unblock(steps)
        except Killed:
            pass
        else:
            break
        await stage.resume_blocks()
        if names(stage, keys.BLOCK_PREFIX):  # killed before it was noted that the block is lifted
            await assert_blocked(stage, steps.names[-1])
            await stage.unblock()
        assert {key: stage.objects[key].data for key in stage.served()} == served, steps.names[-1]
        assert evidence(stage) == names(stage, keys.UNFINISHED_BLOCK_PREFIX) == set(), steps.names[-1]
        assert names(stage, keys.OWN_ENTRY_PREFIX) == set(), steps.names[-1]
        moment += 1
    assert moment > 20


async def test_a_block_at_every_moment_of_an_attempt_leaves_nothing_to_be_served(new_stage: NewStage) -> None:
    steps = Steps()
    await new_stage().process(steps)
    for moment in range(steps.count + 1):
        stage = new_stage()
        await StatusStore(stage.redis).put(Status(str(stage.media_id), State.PROCESSING), ttl_s=600)
        steps = Steps({moment: stage.block})
        await stage.process(steps)
        if moment == len(steps.names):
            await stage.block()
        await assert_blocked(stage, steps.names[moment : moment + 1])
        assert evidence(stage) & {"incoming", "original"}, moment
        assert keys.incoming(stage.media_id) not in stage.objects, moment
