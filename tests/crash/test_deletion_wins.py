"""A deletion races with processing, with its own removal and with its undelete, in every interleaving."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import combinations, combinations_with_replacement

import pytest

from avion_media.common import keys
from avion_media.common.errors import Reason
from avion_media.common.tasks import DELETE_QUEUE, State
from avion_media.items.state import StatusStore
from tests.crash.stage import SERVED, Act, Killed, Stage, Steps, open_stages
from tests.service.published import key_of

NewStage = Callable[..., Stage]


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    """Yield a function that makes stages with an unprocessed upload."""
    async with open_stages(redis_url) as new:
        yield new


async def die() -> None:
    raise Killed


async def until_it_dies(attempt: Awaitable[object]) -> bool:
    """Return whether the attempt died; otherwise it has ended."""
    died = True
    try:
        await attempt
        died = False
    except* Killed:
        pass
    return died


async def moments_of_processing(new_stage: NewStage) -> list[int]:
    """Return the moments of an undisturbed attempt that differ."""
    steps = Steps()
    stage = new_stage()
    await stage.process(steps)
    assert steps.count > 15, steps.names
    return steps.before_calls


async def assert_deleted(stage: Stage, what: object, *, left: set[str] | None = None) -> None:
    """Check that no object is left, and that one `media.deleted` was published, as the last event."""
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    assert status is not None, what
    assert status.state is State.DELETED, what
    assert not (set(stage.objects) if left is None else left), what
    events = stage.events()
    assert events.count("media.deleted") == 1, (what, events)
    assert events[-1] == "media.deleted", (what, events)
    assert events.count("media.ready") <= 1, (what, events)


async def test_a_deletion_and_its_removal_at_every_two_moments_of_an_attempt(new_stage: NewStage) -> None:
    moments = await moments_of_processing(new_stage)
    for deleted_at, removed_at in combinations_with_replacement([*moments, moments[-1] + 1], 2):
        stage = new_stage()
        if deleted_at == removed_at:

            async def both(stage: Stage = stage) -> None:
                await stage.delete()
                await stage.remove()

            acts: dict[int, Act] = {deleted_at: both}
        else:
            acts = {deleted_at: stage.delete, removed_at: stage.remove}
        await stage.process(Steps(acts))
        if deleted_at > moments[-1]:
            await stage.delete()
        await stage.remove()
        await assert_deleted(stage, (deleted_at, removed_at))


async def test_an_attempt_that_dies_after_the_deletion_leaves_nothing_to_the_next(new_stage: NewStage) -> None:
    moments = await moments_of_processing(new_stage)

    for deleted_at, died_at in combinations(moments, 2):
        stage = new_stage()

        async def delete_and_remove(stage: Stage = stage) -> None:
            await stage.delete()
            await stage.remove()

        # The deletion makes the attempt shorter, so it might end before it can die.
        await until_it_dies(stage.process(Steps({deleted_at: delete_and_remove, died_at: die})))
        await stage.process()
        await assert_deleted(stage, (deleted_at, died_at), left=stage.left_after_a_death())


async def test_until_its_removal_a_deletion_takes_nothing_that_was_public(new_stage: NewStage) -> None:
    moments = await moments_of_processing(new_stage)
    for deleted_at in moments:
        stage = new_stage(delay_s=3600)
        await stage.process()
        stage.upload()  # the task comes again, because its first attempt was not acknowledged
        await stage.process(Steps({deleted_at: stage.delete}))
        assert len(stage.served()) == SERVED, deleted_at


async def test_a_foreign_deletion_marks_first_and_removes_then(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    stage.client.xadd(DELETE_QUEUE, {"task_id": "foreign", "media_id": str(stage.media_id)})
    seen: list[tuple[bool, bool]] = []

    async def look() -> None:
        marked = await StatusStore(stage.redis).is_deleted(str(stage.media_id))
        seen.append((marked, bool(stage.objects)))

    await stage.remove(Steps(dict.fromkeys(range(20), look)))

    assert (False, False) not in seen
    await assert_deleted(stage, seen)


async def test_a_foreign_deletion_at_every_moment_of_an_attempt(new_stage: NewStage) -> None:
    moments = await moments_of_processing(new_stage)
    for removed_at in [*moments, moments[-1] + 1]:
        stage = new_stage()
        stage.client.xadd(DELETE_QUEUE, {"task_id": "foreign", "media_id": str(stage.media_id)})
        await stage.process(Steps({removed_at: stage.remove}))
        await stage.remove()
        await assert_deleted(stage, removed_at)


async def test_a_removal_whose_record_was_lost_is_done(new_stage: NewStage) -> None:
    """Redis has lost the record, but not the task. The media item must be removed all the same."""
    stage = new_stage()
    await stage.process()
    await stage.delete()
    stage.client.delete(key_of("media_deletion", stage.media_id))
    await stage.remove()
    await assert_deleted(stage, "no record")


async def assert_undone_or_gone(stage: Stage, problem: str | None, what: object) -> None:
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    assert status is not None
    if problem is None:
        assert status.state is State.READY, what
        assert len(stage.served()) == SERVED, what
        assert "media.deleted" not in stage.events(), what
    else:
        await assert_deleted(stage, (what, problem))


async def test_undoing_at_every_moment_of_a_removal(new_stage: NewStage) -> None:
    outcomes = set()
    for moment in range(20):
        stage = new_stage()
        await stage.process()
        await stage.delete()
        problems: list[str | None] = []

        async def undo(stage: Stage = stage, problems: list[str | None] = problems) -> None:
            problems.append(await stage.undelete())

        await stage.remove(Steps({moment: undo}))
        if not problems:
            await undo()
        await stage.remove()
        await assert_undone_or_gone(stage, problems[0], moment)
        outcomes.add(problems[0] is None)
    assert outcomes == {True, False}


async def test_a_removal_at_every_moment_of_an_undoing(new_stage: NewStage) -> None:
    outcomes = set()
    for moment in range(40):
        stage = new_stage()
        await stage.process()
        await stage.delete()
        steps = Steps({moment: stage.remove})
        problem = await stage.undelete(steps)
        await stage.remove()
        await assert_undone_or_gone(stage, problem, (moment, steps.names))
        outcomes.add(problem is None)
        if moment >= steps.count:
            break
    assert outcomes == {True, False}


async def test_deleted_again_after_an_undoing(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    await stage.delete()
    assert await stage.undelete() is None
    await stage.delete()
    await stage.remove()
    await assert_deleted(stage, "again")


async def test_a_refused_upload_that_dies_at_every_moment_fails_for_its_first_reason_once(new_stage: NewStage) -> None:
    steps = Steps()
    stage = new_stage()
    make_corrupt(stage)
    await stage.process(steps)
    for moment in steps.before_calls:
        stage = new_stage()
        make_corrupt(stage)
        assert await until_it_dies(stage.process(Steps({moment: die})))
        await stage.process()
        await stage.process()
        status = await StatusStore(stage.redis).get(str(stage.media_id))
        assert status is not None
        assert (status.state, status.reason) == (State.FAILED, Reason.UNSUPPORTED_TYPE), moment
        assert stage.events() == ["media.failed"], moment
        assert not stage.objects, moment


async def test_an_upload_that_dies_at_every_moment_is_ready_once(new_stage: NewStage) -> None:
    for moment in await moments_of_processing(new_stage):
        stage = new_stage()
        assert await until_it_dies(stage.process(Steps({moment: die})))
        await stage.process()
        await stage.process()
        assert stage.events() == ["media.ready"], moment
        assert set(stage.objects) == stage.served(), moment


def make_corrupt(stage: Stage) -> None:
    key = keys.incoming(stage.media_id)
    stored = stage.objects[key]
    stage.objects[key] = type(stored)(b"no picture at all, of any kind", stored.content_type, {}, stored.written)
