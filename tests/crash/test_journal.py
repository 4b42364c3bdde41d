"""The journal of deletions: what is joined is not lost, and a replay serves others meanwhile and can be continued."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime

import pytest
import trio

from avion_media.common.errors import Unavailable
from avion_media.items.deletion import JournalReplay, Mark, Undelete, replay
from avion_media.items.deletion.journal import key_at
from tests.crash.stage import Stage, Steps, open_stages
from tests.crash.test_deletion_wins import die, until_it_dies
from tests.crash.test_redis_lost import make_older

NewStage = Callable[..., Stage]
ENTRIES = 40
FIRST_MS = 1_700_000_000_000


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:
        yield new


async def write(stage: Stage, entries: int = ENTRIES) -> set[str]:
    """Journal a deletion of each of so many media items. Return their ids."""
    marks = [Mark(f"m{number}", FIRST_MS + number, FIRST_MS, False) for number in range(entries)]
    for each in marks:
        await stage.journal().write_marks([each], f"{each.generation}-0")
    return {each.media_id for each in marks}


async def read(stage: Stage, steps: Steps | None = None) -> set[str]:
    """Return the media items that a replay finds."""
    return {mark.media_id async for _, batch in stage.journal(steps).entries() for each in batch for mark in each.marks}


async def test_entries_of_a_day_are_joined_and_none_is_lost_whenever_that_ends(new_stage: NewStage) -> None:
    stage = new_stage()
    written, full, moment = await write(stage), dict(stage.journaled), 0
    positions = {mark.position async for _, batch in stage.journal().entries() for each in batch for mark in each.marks}
    while True:
        stage.journaled.clear()
        stage.journaled.update(full)
        steps = Steps({moment: die})
        died = await until_it_dies(stage.journal(steps).compact())
        assert await read(stage) == written, steps.names
        if not died:
            break
        moment += 1
    assert moment > ENTRIES
    (joined,) = stage.journaled
    assert joined > max(full)
    found = [mark async for _, batch in stage.journal().entries() for each in batch for mark in each.marks]
    assert {mark.position for mark in found} == positions
    await stage.journal().compact()
    assert list(stage.journaled) == [joined]


async def test_a_joined_undelete_outlives_the_deletions_beside_it(new_stage: NewStage) -> None:
    stage = new_stage(delay_s=3600)
    written = await write(stage, 3)
    await stage.journal().write_undeletes({"m0": (FIRST_MS, FIRST_MS + 9)}, Undelete(FIRST_MS + 9, "0-0"))
    await stage.journal().compact()

    async def unfinished(_marks: Sequence[Mark]) -> Collection[Mark]:
        return ()

    assert await stage.journal().prune(unfinished) == 0
    assert await read(stage) == written
    (joined,) = stage.journaled
    make_older(stage, joined)
    assert await stage.journal().prune(unfinished) == 1
    left = [each async for _, batch in stage.journal().entries() for each in batch]
    assert [each.undeleted for each in left] == [{"m0": FIRST_MS}]
    for _ in range(2):
        make_older(stage, next(iter(stage.journaled)))
    assert await stage.journal().prune(unfinished) == 1
    assert not stage.journaled


async def test_a_prune_lists_no_further_than_the_first_day_that_stays(new_stage: NewStage) -> None:
    stage, today = new_stage(delay_s=3600), round(time.time() * 1000)
    await write(stage, 3)
    for number in range(3000):
        day = datetime.fromtimestamp(today / 1000, UTC)
        stage.journaled[f"{key_at(day)}{number:016}.json"] = next(iter(stage.journaled.values()))
    steps = Steps()

    async def unfinished(_marks: Sequence[Mark]) -> Collection[Mark]:
        return ()

    await stage.journal(steps).prune(unfinished)
    assert sum(name.startswith("before list") for name in steps.names) == 1


async def test_entries_that_are_joined_while_they_are_read_are_found(new_stage: NewStage) -> None:
    stage = new_stage()
    written, full, moment, steps = await write(stage), dict(stage.journaled), 0, Steps()
    while moment <= steps.count:
        stage.journaled.clear()
        stage.journaled.update(full)
        steps = Steps({moment: stage.journal().compact})
        assert await read(stage, steps) == written, steps.names
        moment += 1


async def test_media_that_the_journal_does_not_name_are_served_during_a_replay(new_stage: NewStage) -> None:
    stage, other = new_stage(delay_s=3600), new_stage()
    await stage.process()
    await stage.delete("1-1")
    stage.client.flushall()
    replay_ = stage.replay(wait_s=0)
    other_id = f"{str(other.media_id)[:-2]}{str(stage.media_id)[-2:]}"  # of the same bucket
    with pytest.raises(Unavailable):
        await replay_.is_deleted(other_id)
    await read_names(replay_)
    assert not await replay_.is_deleted(other_id)
    with pytest.raises(Unavailable):
        await replay_.is_deleted(str(stage.media_id))
    stage.client.flushall()  # what was marked since the names were read is lost
    with pytest.raises(Unavailable):
        await replay_.is_deleted(other_id)
    await replay_.ensure_complete()
    assert await replay_.is_deleted(str(stage.media_id))


async def read_names(replay_: JournalReplay) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replay_._read_names)
        await replay_._progress.wait()
        nursery.cancel_scope.cancel()


async def test_a_replay_continues_where_another_one_ended(new_stage: NewStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_NOTE_S", 0)
    stage = new_stage()
    await write(stage)
    stage.client.flushall()
    whole = Steps()
    await stage.replay(whole).ensure_complete()
    end = len(whole.names) - 1 - whole.names[::-1].index("before redis end_replay")
    stage.client.flushall()
    assert await until_it_dies(stage.replay(Steps({end: die})).ensure_complete())
    stage.client.delete("media_deletion_replay")  # its lock
    rest = Steps()
    await stage.replay(rest).ensure_complete()
    reads = [sum(name.startswith("before read") for name in each.names) for each in (whole, rest)]
    assert reads == [ENTRIES, 0]
    assert len(stage.client.keys("media_deletion:*")) == ENTRIES
