"""Redis loses everything at any moment of a deletion, or of its undelete: the journal in the bucket knows both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from avion_media.deletion import DeletionJournal, DeletionRecords, DeletionState, JournalReplay
from avion_media.domain.errors import LeaseLost
from tests.crash.stage import SIZES, Act, Stage, Steps, open_stages

NewStage = Callable[..., Stage]
HOUR_S = 3600.0


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:
        yield lambda: new(delay_s=HOUR_S)


async def recover(stage: Stage) -> bool:
    """What the sweeper does first; whether it replayed the journal."""
    return await JournalReplay(stage.redis, stage.journal()).run_if_lost()


async def state_of(stage: Stage) -> DeletionState | None:
    record = await DeletionRecords(stage.redis).get(str(stage.media_id))
    return None if record is None else record.state


def lose_all(stage: Stage) -> Act:
    async def lose() -> None:
        stage.client.flushall()

    return lose


def due_now(stage: Stage) -> None:
    for key in stage.client.scan_iter("media_deletion:*"):
        stage.client.hset(key, "due", 0)
    delayed = "{media_delete_queue}:delayed"
    for member in stage.client.zrange(delayed, 0, -1):
        stage.client.zadd(delayed, {member: 0}, xx=True)


async def assert_removed_in_the_end(stage: Stage, what: object) -> None:
    due_now(stage)
    await stage.remove()
    assert not stage.objects, what
    assert await state_of(stage) is DeletionState.REMOVED, what


async def moments_of(new_stage: NewStage, what: str) -> int:
    stage = new_stage()
    await stage.process()
    steps = Steps()
    if what == "deletion":
        await stage.drop("1-1", steps)
    else:
        await stage.drop("1-1")
        assert await stage.undelete(steps) is None
    return steps.count


async def test_at_every_moment_of_a_deletion(new_stage: NewStage) -> None:
    """The notice is acknowledged after all of them: whatever its reader has not done yet, it does after the loss."""
    moments = await moments_of(new_stage, "deletion")
    assert moments >= 6
    for moment in range(moments + 1):
        stage = new_stage()
        await stage.process()
        await recover(stage)
        steps = Steps({moment: lose_all(stage)})
        await stage.drop("1-1", steps)
        if moment == moments:
            stage.client.flushall()
        assert await recover(stage), moment
        assert await state_of(stage) is DeletionState.MARKED, (moment, steps.names)
        await assert_removed_in_the_end(stage, moment)


async def test_at_every_moment_of_an_undelete(new_stage: NewStage) -> None:
    """If it was confirmed the medium stays; if not, one of both is right, but never half of it."""
    moments = await moments_of(new_stage, "undelete")
    assert moments >= 8
    outcomes = set()
    for moment in range(moments + 1):
        stage = new_stage()
        await stage.process()
        await stage.drop("1-1")
        await recover(stage)
        steps = Steps({moment: lose_all(stage)})
        problem = await stage.undelete(steps)
        if moment == moments:
            stage.client.flushall()
        assert await recover(stage), moment
        state = await state_of(stage)
        if problem is None:
            assert state is DeletionState.UNDELETED, (moment, steps.names)
        due_now(stage)
        await stage.remove()
        served = len(stage.served())
        assert served == (1 + len(SIZES) if state is DeletionState.UNDELETED else 0), (moment, problem, steps.names)
        outcomes.add(problem is None)
    assert outcomes == {True, False}


async def test_at_every_moment_of_a_removal(new_stage: NewStage) -> None:
    for moment in range(12):
        stage = new_stage()
        await stage.process()
        await stage.drop("1-1")
        await recover(stage)
        due_now(stage)
        steps = Steps({moment: lose_all(stage)})
        with suppress(LeaseLost):  # the queue is gone
            await stage.remove(steps)
        await recover(stage)
        await assert_removed_in_the_end(stage, moment)
        if moment >= steps.count:
            return


async def test_a_journal_that_comes_too_late_is_found(new_stage: NewStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """That these tests can fail: a loss between the step and its journal."""

    async def too_late(*_arguments: object) -> None:
        """As if it were written only after the loss."""

    for method, check in (
        ("write_marks", test_at_every_moment_of_a_deletion),
        ("write_undeletes", test_at_every_moment_of_an_undelete),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(DeletionJournal, method, too_late)
            with pytest.raises(AssertionError):
                await check(new_stage)


async def test_what_is_newer_than_the_journal_stays(new_stage: NewStage) -> None:
    """A failover loses little: the journal is read, and changes nothing that Redis still knows."""
    stage = new_stage()
    await stage.process()
    await stage.drop("1-1")
    await recover(stage)
    assert await stage.undelete() is None
    await stage.drop("9999999999999-1")
    due_now(stage)
    records = DeletionRecords(stage.redis)
    record = await records.get(str(stage.media_id))
    assert record is not None
    assert (await records.begin_removal(str(stage.media_id), record.generation)).may_go
    stage.client.delete("media_deletion_journal")
    assert await recover(stage)
    again = await records.get(str(stage.media_id))
    assert again is not None
    assert (again.state, again.generation) == (DeletionState.REMOVING, record.generation)


async def test_entries_are_pruned_once_they_cannot_matter(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.drop("1-1")
    assert await stage.journal().prune() == 0
    assert len(stage.journaled) == 1
    for key, stored in list(stage.journaled.items()):
        stage.journaled[key] = replace(stored, written=stored.written - timedelta(days=8))
    assert await stage.journal().prune() == 1
    assert not stage.journaled
