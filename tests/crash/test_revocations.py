"""Tokens are revoked, and the process is killed, or Redis loses all, at every moment: what was acknowledged holds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import trio

from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.formats import PNG
from avion_media.common.ids import new_media_id
from avion_media.items.private.access import PrivateMedia, Refusal
from tests.crash.stage import Act, Stage, Steps, open_stages
from tests.crash.test_deletion_wins import die, until_it_dies

NewStage = Callable[[], Stage]
DAY_S = 86_400.0


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        def empty() -> Stage:
            """Return a stage of a private media item, on an empty Redis."""
            stage = replace(new(), media_id=new_media_id(PNG, int(time.time() * 1000), private=True))
            stage.client.flushall()
            return stage

        yield empty


def private(stage: Stage, steps: Steps | None = None, wait_s: float = 2.0) -> PrivateMedia:
    """Return the tokens as another process has them."""
    return PrivateMedia(stage.replay(steps, wait_s), DAY_S)


async def token(stage: Stage, audience: str = "") -> str:
    tokens, _ = await private(stage).sign([stage.media_id.text], DAY_S, audience)
    return tokens[stage.media_id.text]


async def revoke(stage: Stage, audience: str = "", steps: Steps | None = None) -> None:
    await private(stage, steps).revoke([stage.media_id.text], audience)


async def opens(stage: Stage, text: str) -> bool:
    """Return whether a new process serves the media item with this token, after its replay."""
    await stage.replay().ensure_complete()
    checked = await private(stage).check(stage.media_id, text)
    assert checked is Refusal.REVOKED or isinstance(checked, int)
    return checked is not Refusal.REVOKED


@pytest.mark.parametrize("lose", [False, True])
async def test_killed_at_every_moment(new_stage: NewStage, lose: bool) -> None:
    acknowledged, moment = False, 0
    while not acknowledged:
        stage = new_stage()
        mine, other = await token(stage, "ada"), await token(stage, "bob")
        steps = Steps({moment: die})
        acknowledged = not await until_it_dies(revoke(stage, "ada", steps))
        if lose:
            stage.client.flushall()
        is_open = await opens(stage, mine)
        assert not (acknowledged and is_open), steps.names
        assert await opens(stage, other), steps.names
        await revoke(stage, "ada")
        assert not await opens(stage, mine), steps.names
        assert await opens(stage, await token(stage, "ada")), steps.names
        moment += 1
    assert moment > 6, steps.names


def losing_all(stage: Stage, revoked_before: str, *, replayed_at_once: bool) -> Act:
    """Let Redis lose its data. No request after that may find that nothing is revoked."""

    async def lose() -> None:
        stage.client.flushall()
        with pytest.raises(Unavailable) as refused:
            await private(stage, wait_s=0).check(stage.media_id, revoked_before)
        assert refused.value.dependency is Dependency.DELETIONS
        if replayed_at_once:
            assert not await opens(stage, revoked_before)

    return lose


@pytest.mark.parametrize("replayed_at_once", [False, True])
async def test_redis_loses_all_at_every_moment(new_stage: NewStage, replayed_at_once: bool) -> None:
    moment, reached = 0, True
    while reached:
        stage = new_stage()
        before = await token(stage, "eve")
        await revoke(stage, "eve")
        mine = await token(stage)
        steps = Steps({moment: losing_all(stage, before, replayed_at_once=replayed_at_once)})
        await revoke(stage, "", steps)
        assert not await opens(stage, mine), steps.names
        assert not await opens(stage, before), steps.names
        stage.client.flushall()
        assert not await opens(stage, mine), steps.names
        reached = moment < steps.count
        moment += 1
    assert moment > 6


async def test_another_revocation_at_every_moment(new_stage: NewStage) -> None:
    moment, reached = 0, True
    while reached:
        stage = new_stage()
        tokens = [await token(stage, each) for each in ("ada", "bob")]
        steps = Steps({moment: lambda stage=stage: revoke(stage, "bob")})
        await revoke(stage, "ada", steps)
        for _ in range(2):
            assert [await opens(stage, each) for each in tokens] == [False, moment >= steps.count], steps.names
            stage.client.flushall()
        reached = moment < steps.count
        moment += 1


async def test_a_request_waits_for_the_replay(new_stage: NewStage) -> None:
    stage = new_stage()
    mine, other = await token(stage, "ada"), await token(stage, "bob")
    await revoke(stage, "ada")
    stage.client.flushall()
    async with trio.open_nursery() as process:
        replay = stage.replay()
        process.start_soon(replay.run)
        checked = [await PrivateMedia(replay, DAY_S).check(stage.media_id, each) for each in (mine, other)]
        process.cancel_scope.cancel()
    assert checked[0] is Refusal.REVOKED
    assert isinstance(checked[1], int)


async def test_a_record_of_a_later_version_refuses_all_tokens(new_stage: NewStage) -> None:
    stage = new_stage()
    mine = await token(stage)
    stage.write(f"private/{stage.media_id}", b'{"v": 2}')
    stage.client.flushall()
    assert not await opens(stage, mine)
    with pytest.raises(Unavailable):
        await revoke(stage)
