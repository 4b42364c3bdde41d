"""A deletion that is undone during processing has no effect: the media item exists, as if never deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import combinations, combinations_with_replacement

import pytest

from avion_media.backends.queue import TaskQueue
from avion_media.common import keys
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE, State, Status
from avion_media.items.state import StatusStore
from tests.crash.stage import SERVED, Act, Killed, Stage, Steps, open_stages
from tests.service.published import key_of

NewStage = Callable[..., Stage]
HOUR_S = 3600.0


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:
        yield lambda: new(delay_s=HOUR_S)


async def completed(new_stage: NewStage) -> Stage:
    """Return a stage whose upload is queued, with the status PROCESSING."""
    stage = new_stage()
    await StatusStore(stage.redis).put(Status(str(stage.media_id), State.PROCESSING), ttl_s=600)
    return stage


async def undo(stage: Stage) -> str | None:
    return await stage.undelete()


async def queued(stage: Stage) -> int:
    """Run the tasks that an undelete queued. Return how many there were."""
    queue = TaskQueue(stage.redis, PROCESSING_QUEUE)
    count = 0
    while (lease := await queue.take("worker", block_s=0)) is not None:
        assert lease.task.fields["media_id"] == str(stage.media_id)
        await stage.process()
        await lease.complete()
        count += 1
    return count


async def assert_as_if_never_deleted(stage: Stage, what: object) -> None:
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    assert status is not None, what
    assert status.state is State.READY, what
    assert len(stage.served()) == SERVED, (what, sorted(stage.objects))
    # The sweep removes an upload that its attempt could not remove any more.
    assert set(stage.objects) - stage.served() <= {keys.incoming(stage.media_id)}, what
    assert stage.events() == ["media.ready"], what


async def moments_of(new_stage: NewStage) -> range:
    """Return the moments before each call of an attempt, and some more."""
    steps = Steps()
    await new_stage().process(steps)
    return range(0, steps.count + 10, 2)


@pytest.mark.parametrize("at_once", [True, False], ids=["its task is done at once", "its task is done later"])
async def test_deleted_and_undone_at_every_two_moments_of_an_attempt(new_stage: NewStage, at_once: bool) -> None:
    for deleted_at, undone_at in combinations_with_replacement(await moments_of(new_stage), 2):
        stage = await completed(new_stage)
        problems: list[str | None] = []

        async def undo_it(stage: Stage = stage, problems: list[str | None] = problems) -> None:
            problems.append(await undo(stage))
            if at_once:
                await queued(stage)

        async def both(stage: Stage = stage, undo_it: Act = undo_it) -> None:
            await stage.delete()
            await undo_it()

        acts: dict[int, Act] = {deleted_at: stage.delete, undone_at: undo_it}
        if deleted_at == undone_at:
            acts = {deleted_at: both}
        steps = Steps(acts)
        await stage.process(steps)
        if deleted_at >= steps.count:
            continue  # it was over before
        if problems != [None]:  # two thumbnails are written at once: the undelete can come before the mark
            assert problems in ([], ["it is not deleted"]), (deleted_at, undone_at)
            assert await undo(stage) is None, (deleted_at, undone_at)
        await queued(stage)
        await assert_as_if_never_deleted(stage, (deleted_at, undone_at, steps.names))


async def test_undone_after_an_attempt_that_died(new_stage: NewStage) -> None:

    async def die() -> None:
        raise Killed

    for deleted_at, died_at in combinations(await moments_of(new_stage), 2):
        stage = await completed(new_stage)
        steps = Steps({deleted_at: stage.delete, died_at: die})
        try:
            await stage.process(steps)
        except* Killed:
            pass
        if deleted_at >= steps.count:
            continue
        await stage.process()  # the task comes again, and finds the mark
        assert await undo(stage) is None, (deleted_at, died_at)
        await queued(stage)
        await assert_as_if_never_deleted(stage, (deleted_at, died_at, steps.names))


async def test_a_deletion_that_is_read_again_after_its_undoing_is_void(new_stage: NewStage) -> None:
    """Its reader died before it acknowledged it, or the group was lost and created again."""
    stage = new_stage()
    await stage.process()
    seconds, _ = stage.client.time()
    entry_id = f"{seconds * 1000 - 1000}-0"
    await stage.delete(entry_id)
    assert await undo(stage) is None
    await stage.delete(entry_id)
    await assert_as_if_never_deleted(stage, "read again")
    await stage.delete(f"{seconds * 1000 + 60_000}-0")
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    assert status is not None
    assert status.state is State.DELETED


async def test_a_void_notice_takes_nothing_from_a_new_one(new_stage: NewStage) -> None:
    """Another reader receives the new notice while the ignored one is read again."""
    moments = 0
    while True:
        stage = new_stage()
        await stage.process()
        seconds, _ = stage.client.time()
        old, new = f"{seconds * 1000 - 1000}-0", f"{seconds * 1000 + 60_000}-0"
        await stage.delete(old)
        assert await undo(stage) is None
        steps = Steps({moments: partial(stage.delete, new)})
        await stage.delete(old, steps)
        if moments >= steps.count:
            break
        status = await StatusStore(stage.redis).get(str(stage.media_id))
        assert status is not None
        assert status.state is State.DELETED, steps.names
        remembered = stage.client.zrange(f"{{{DELETE_QUEUE}}}:delayed", 0, -1)
        generation = stage.client.hget(key_of("media_deletion", stage.media_id), "generation")
        assert sum(f"{stage.media_id}.{generation}" in str(each) for each in remembered) == 1, steps.names
        moments += 1
    assert moments


async def test_what_was_ready_is_not_processed_again(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    await stage.delete()
    assert await undo(stage) is None
    assert await queued(stage) == 0
    await assert_as_if_never_deleted(stage, "ready")
