"""DeleteMedia of 1,000 ids, killed at every moment: what was acknowledged is deleted after each restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from avion_media.common import keys
from avion_media.common.ids import base32, parse_media_id
from avion_media.common.tasks import DELETE_QUEUE
from avion_media.items.deletion import delete, removal_id, undelete
from tests.crash.stage import Stage, Steps, open_stages
from tests.crash.test_deletion_wins import die, until_it_dies
from tests.service.published import fields_of

NewStage = Callable[..., Stage]
HOUR_S = 3600.0
MOST, UNDELETED = 1000, 20
DELAYED = f"{{{DELETE_QUEUE}}}:delayed"


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        def empty() -> Stage:
            stage = new()
            stage.client.flushall()
            return stage

        yield empty


def media_of(stage: Stage) -> list[str]:
    """Return ids that are in the bucket of deletions that the stage replays."""
    first, bucket = stage.media_id.text[:-6], stage.media_id.text[-2:]
    return [f"{first}{base32(number, 4)}{bucket}" for number in range(MOST)]


async def deleted(stage: Stage, media_ids: Sequence[str], *, lose: bool) -> set[str]:
    """Return those that are deleted after a restart, perhaps with the loss of Redis."""
    if lose:
        stage.client.flushall()
    replay = stage.replay()
    await replay.ensure_complete()
    found = await replay.records.get_many(media_ids)
    return {media_id for media_id, record in found.items() if record.is_deleted}


async def test_killed_at_every_moment(new_stage: NewStage) -> None:
    """After a call of its client the process is in the state before the next one, so Redis is lost in every other."""
    acknowledged, moment = False, 0
    while not acknowledged:
        stage, lose = new_stage(), bool(moment % 2)
        media_ids = media_of(stage)
        undeleted = [parse_media_id(each) for each in media_ids[:UNDELETED]]
        stage.objects |= {keys.incoming(each): stage.objects[keys.incoming(stage.media_id)] for each in undeleted}
        await delete(stage.replay(), media_ids[:UNDELETED], HOUR_S)
        assert set((await undelete(stage.replay(), undeleted)).values()) == {None}
        steps = Steps({moment: die})
        acknowledged = not await until_it_dies(delete(stage.replay(steps), media_ids, HOUR_S))
        found = await deleted(stage, media_ids, lose=lose)
        assert not acknowledged or found == {*media_ids}, steps.names

        await delete(stage.replay(), media_ids, HOUR_S)
        assert await deleted(stage, media_ids, lose=lose) == {*media_ids}, steps.names
        removals = stage.client.zrange(DELAYED, 0, -1)
        records = await stage.replay().records.get_many(media_ids)
        due = {removal_id(media_id, record.generation) for media_id, record in records.items()}
        assert due <= {fields_of(each)["task_id"] for each in removals}, steps.names
        moment += 1
    assert moment > 8, steps.names
    assert await deleted(stage, media_ids, lose=True) == {*media_ids}
