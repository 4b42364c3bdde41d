"""Redis loses everything at any moment of a deletion, its undelete or its removal. The journal restores it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
import trio

from avion_media.common.errors import Deferred, Dependency, LeaseLost, Unavailable
from avion_media.common.ids import unix_ms_of
from avion_media.items.deletion import (
    NOTICES_GROUP,
    DeletionJournal,
    DeletionRecords,
    DeletionState,
    JournalReplay,
    NoticeHandler,
    NoticeStream,
)
from avion_media.items.deletion.channel import write_heard
from avion_media.items.deletion.journal import key_at
from avion_media.items.deletion.notices import HEARD
from tests.crash.stage import SERVED, Act, Stage, Steps, open_stages, stepped
from tests.crash.test_deletion_wins import die, until_it_dies
from tests.service.published import key_of

NewStage = Callable[..., Stage]
HOUR_S = 3600.0
DAYS_AGO = timedelta(days=8)  # longer than an entry of the journal is kept


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        def empty() -> Stage:
            """Return a stage on an empty Redis, because the moments are counted from a first replay."""
            stage = new(delay_s=HOUR_S)
            stage.client.flushall()
            return stage

        yield empty


async def is_deleted(stage: Stage) -> bool:
    """Return whether the origin of a new process finds the deletion."""
    async with trio.open_nursery() as process:
        replay = stage.replay()
        process.start_soon(replay.run)
        deleted = await replay.is_deleted(str(stage.media_id))
        process.cancel_scope.cancel()
    return deleted


async def state_of(stage: Stage) -> DeletionState | None:
    record = await DeletionRecords(stage.redis).get(str(stage.media_id))
    return None if record is None else record.state


def losing_all(stage: Stage, *, replayed_at_once: bool) -> Act:
    """Let Redis lose its data. No lookup after that may find that the media item was not deleted."""

    async def lose() -> None:
        stage.client.flushall()
        with pytest.raises(Unavailable) as refused:
            await stage.replay(wait_s=0).is_deleted(str(stage.media_id))
        assert refused.value.dependency is Dependency.DELETIONS
        if replayed_at_once:
            await stage.replay().ensure_complete()

    return lose


def due_now(stage: Stage) -> None:
    for key in stage.client.scan_iter("media_deletion:*"):
        stage.client.hset(key, "due", 0)
    delayed = "{media_delete_queue}:delayed"
    for member in stage.client.zrange(delayed, 0, -1):
        stage.client.zadd(delayed, {member: 0}, xx=True)


async def nothing(_stage: Stage) -> None:
    """Do nothing before a deletion."""


async def deleted(stage: Stage) -> None:
    await stage.delete("1-1")


async def deleted_and_due(stage: Stage) -> None:
    await stage.delete("1-1")
    due_now(stage)


async def delete(stage: Stage, steps: Steps) -> DeletionState:
    await stage.delete("1-1", steps)
    return DeletionState.MARKED


async def undelete(stage: Stage, steps: Steps) -> DeletionState:
    assert await stage.undelete(steps) is None, steps.names
    return DeletionState.UNDELETED


async def remove(stage: Stage, steps: Steps) -> DeletionState:
    with suppress(LeaseLost, Deferred):  # the queue is lost, or the due time is that of the journal
        await stage.remove(steps)
    await stage.replay().ensure_complete()
    due_now(stage)
    await stage.remove()
    return DeletionState.REMOVED


@dataclass(frozen=True)
class Operation:
    before: Callable[[Stage], Awaitable[None]]
    run: Callable[[Stage, Steps], Awaitable[DeletionState]]
    moments: int


OPERATIONS = {
    "deletion": Operation(nothing, delete, 10),
    "undelete": Operation(deleted, undelete, 12),
    "removal": Operation(deleted_and_due, remove, 8),
}


@pytest.mark.parametrize("replayed_at_once", [True, False], ids=["replayed at once", "replayed by the next lookup"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_loss_at_every_moment(new_stage: NewStage, name: str, replayed_at_once: bool) -> None:
    """No deleted media item is served, and none that was undeleted is lost."""
    operation, moment, names = OPERATIONS[name], 0, [""]
    while moment <= len(names):
        stage = new_stage()
        await stage.process()
        await operation.before(stage)
        lose = losing_all(stage, replayed_at_once=replayed_at_once)
        steps = Steps({moment: lose})
        expected = await operation.run(stage, steps)
        names = steps.names
        if moment >= steps.count:
            await lose()
        assert await is_deleted(stage) is (expected is not DeletionState.UNDELETED), (moment, names)
        assert await state_of(stage) in (expected, *_AFTER_A_LOSS[expected]), (moment, names)
        due_now(stage)
        await stage.remove()
        assert bool(stage.served()) is (expected is DeletionState.UNDELETED), (moment, names)
        moment += 1
    assert moment >= operation.moments


# The journal does not say that the objects were removed, so they are removed again.
_AFTER_A_LOSS = {
    DeletionState.MARKED: (),
    DeletionState.UNDELETED: (),
    DeletionState.REMOVED: (DeletionState.MARKED, DeletionState.REMOVING),
}


async def test_a_rule_that_is_broken_is_found(new_stage: NewStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests can fail: a loss between the step and its journal, and a loss that is not detected afterwards."""

    async def too_late(*_arguments: object) -> None:
        """Write the journal only after the loss."""

    async def always(*_arguments: object) -> bool:
        return True

    for owner, method, instead, name in (
        (DeletionJournal, "write_marks", too_late, "deletion"),
        (DeletionJournal, "write_undeletes", too_late, "undelete"),
        (JournalReplay, "is_unchanged", always, "deletion"),
    ):
        with monkeypatch.context() as broken:
            broken.setattr(owner, method, instead)
            with pytest.raises(AssertionError):
                await test_a_loss_at_every_moment(new_stage, name, replayed_at_once=True)


async def test_what_was_journaled_after_a_replay_had_passed_is_marked_again(new_stage: NewStage) -> None:
    """The data is lost twice. The replay that saw no entry yet must not count as the replay after the second loss."""
    stage = new_stage()
    await stage.process()
    moments = 0
    while True:
        steps = Steps({moments: losing_all(stage, replayed_at_once=True), moments + 2: _flush(stage)})
        await stage.delete("1-1", steps)
        assert await is_deleted(stage), steps.names
        if moments >= steps.count:
            return
        moments += 1


def _flush(stage: Stage) -> Act:
    async def flush() -> None:
        stage.client.flushall()

    return flush


async def test_another_server_process_has_lost_no_more_than_the_last_writes(new_stage: NewStage) -> None:
    """Only the latest entries of the journal are read again, and they change nothing that Redis still has."""
    stage = new_stage()
    await stage.process()
    await stage.delete("1-1")
    old = Steps()
    for key in list(stage.journaled):  # written long before
        *folders, _year, _month, _day, entry = key.split("/")
        stage.journaled["/".join([*folders, "1970/01/01", "0" * 10 + entry[10:]])] = stage.journaled.pop(key)
    await stage.replay().note_time()
    stage.client.hset(f"media_deletions_complete:{{{str(stage.media_id)[-2:]}}}", "process", "another")
    assert await stage.undelete() is None
    await stage.delete("9999999999999-1")
    due_now(stage)
    records = DeletionRecords(stage.redis)
    record = await records.get(str(stage.media_id))
    assert record is not None
    assert (await records.begin_removal(str(stage.media_id), record.generation)).may_go
    stage.client.hset(f"media_deletions_complete:{{{str(stage.media_id)[-2:]}}}", "process", "another")
    assert await stage.replay(old).ensure_complete()
    again = await records.get(str(stage.media_id))
    assert again is not None
    assert (again.state, again.generation) == (DeletionState.REMOVING, record.generation)
    assert sum(name.startswith("before read") for name in old.names) == len(stage.journaled) - 1


@pytest.mark.parametrize("history", ["du", "dud", "dudu", "ddud"])
async def test_the_entries_of_the_journal_need_no_order(new_stage: NewStage, history: str) -> None:
    """Deletions and undeletes of one media item are restored in every order, always to the last of them."""
    stage = new_stage()
    await stage.process()
    position = 1
    for number, each in enumerate(history):
        if each == "u":
            assert await stage.undelete() is None
            position = 9_999_999_999_999  # later notices have a later position
        else:
            await stage.delete(f"{position}-{number + 1}")
    records, media_id = DeletionRecords(stage.redis), str(stage.media_id)
    expected = await records.get(media_id)
    assert expected is not None
    entries = [entry async for _, batch in stage.journal().entries() for entry in batch]
    assert len(entries) == len(history)
    for order in permutations(entries):
        stage.client.flushall()
        current: set[int] = set()
        for entry in order:
            current |= {mark.generation for mark in await records.restore_marks(entry.marks)}
            if entry.issued is not None:
                await records.restore_undeletes(entry.undeleted, entry.issued)
        record = await records.get(media_id)
        assert record is not None, order
        assert (record.state, record.generation) == (expected.state, expected.generation), order
        assert record.generation in current or not record.is_deleted, f"its removal is not queued: {order}"


async def lose_an_overdue_deletion_and_its_undelete(stage: Stage) -> None:
    """The replay reads the deletion in an earlier batch than the undelete, and the deletion is long due."""
    await stage.delete("1-1")
    (key,) = stage.journaled
    mark = stage.journaled.pop(key)
    document = json.loads(mark.data)
    document["media"][0][2] = 1
    for number in range(17):  # more than one batch
        overdue = replace(mark, data=json.dumps(document).encode())
        stage.journaled[f"{key.rpartition('/')[0]}/{number:026}.json"] = overdue
    assert await stage.undelete() is None
    stage.client.flushall()


async def test_no_removal_begins_during_a_replay(new_stage: NewStage) -> None:
    """The undelete may be among the entries that are still to come."""
    moment, steps = 0, Steps()
    while moment <= steps.count:
        stage = new_stage()
        await stage.process()
        await lose_an_overdue_deletion_and_its_undelete(stage)
        async with trio.open_nursery() as remover:

            async def remove(stage: Stage = stage, remover: trio.Nursery = remover) -> None:
                steps, has_ended = Steps(), trio.Event()

                async def run() -> None:
                    await stage.remove(steps)
                    has_ended.set()

                remover.start_soon(run)
                with trio.fail_after(20):  # until it has ended, or waits for the lease of this replay
                    while not has_ended.is_set() and "after redis SET" not in steps.names:
                        await trio.lowlevel.checkpoint()

            steps = Steps({moment: remove})
            await stage.replay(steps).ensure_complete()
        assert await state_of(stage) is DeletionState.UNDELETED, (moment, steps.names)
        assert stage.served(), (moment, steps.names)
        moment += 5  # each one waits for a poll of the lease
    assert steps.names.count("after redis restore") > 1


async def test_an_attempt_during_a_replay_takes_nothing_away(new_stage: NewStage) -> None:
    """It may read the record of a deletion whose undelete is still to come."""
    moment, steps = 0, Steps()
    while moment <= steps.count:
        stage = new_stage()

        async def replay_half(stage: Stage = stage) -> None:
            await lose_an_overdue_deletion_and_its_undelete(stage)
            entries = [entry async for _, batch in stage.journal().entries() for entry in batch]
            await DeletionRecords(stage.redis).restore_marks(entries[0].marks)

        steps = Steps({moment: replay_half})
        await stage.process(steps)
        if moment < steps.count:
            await stage.replay().ensure_complete()
            assert await state_of(stage) is DeletionState.UNDELETED, (moment, steps.names)
        await stage.process()  # the sweep queues it again
        assert len(stage.served()) == SERVED, (moment, steps.names)
        moment += 1


async def test_a_deletion_that_is_due_when_it_is_restored_cannot_be_undone(new_stage: NewStage) -> None:
    """Its removal may have begun before the loss."""
    stage = new_stage()
    await stage.process()
    await lose_an_overdue_deletion_and_its_undelete(stage)
    stage.journaled.pop(max(stage.journaled))  # of the undelete
    await stage.replay().ensure_complete()
    assert str(await stage.undelete()).startswith("too late")
    await stage.remove()
    assert not stage.served()
    assert await state_of(stage) is DeletionState.REMOVED


async def test_a_replay_waits_for_that_of_another_replica(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.delete("1-1")
    stage.client.flushall()
    entered, go_on = trio.Event(), trio.Event()

    async def pause() -> None:
        entered.set()
        await go_on.wait()

    mine, theirs = Steps({4: pause}), Steps()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.replay(mine).ensure_complete)
        await entered.wait()
        nursery.start_soon(stage.replay(theirs).ensure_complete)
        with trio.fail_after(20):
            while "after redis SET" not in theirs.names:  # noqa: ASYNC110 - the other replica is refused the lease
                await trio.sleep(0.01)
        go_on.set()
    assert any(name.startswith("before read") for name in mine.names)
    assert not any(name.startswith("before read") for name in theirs.names)


async def test_a_replay_that_failed_leaves_no_lease_behind(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.delete("1-1")
    stage.client.flushall()

    async def fail() -> None:
        raise Unavailable(Dependency.STORE, "a test")

    steps = Steps({6: fail})
    with pytest.raises(Unavailable):
        await stage.replay(steps).ensure_complete()
    assert steps.names[6].startswith("before list"), steps.names
    assert not stage.client.exists("media_deletion_replay")
    assert await is_deleted(stage)


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S], ids=["writer's clock behind", "reader's clock ahead"])
@pytest.mark.parametrize("undone", [False, True], ids=["deletion", "undelete"])
async def test_a_failover_loses_nothing_however_wrong_a_clock_is(
    new_stage: NewStage, monkeypatch: pytest.MonkeyPatch, ahead_s: float, undone: bool
) -> None:
    def set_clock(ahead_s: float) -> None:
        monkeypatch.setattr("time.time_ns", lambda: round((time.time() + ahead_s) * 1e9))

    stage = new_stage()
    await stage.process()
    if undone:
        await stage.delete("1-1")
    set_clock(max(0, ahead_s))
    await stage.replay().ensure_complete()
    await stage.replay().note_time()
    set_clock(min(0, ahead_s))
    with fail_over(stage):
        await (stage.undelete() if undone else stage.delete("1-1"))
    await stage.replay().ensure_complete()
    assert await state_of(stage) is (DeletionState.UNDELETED if undone else DeletionState.MARKED)


@contextmanager
def fail_over(stage: Stage) -> Iterator[None]:
    """Another server process takes over, without the changes of the block to the record of the deletion."""
    media_id, client = str(stage.media_id), stage.client
    record = key_of("media_deletion", media_id)
    before = client.hgetall(record)
    yield
    client.delete(record)
    if before:
        client.hset(record, mapping=before)
    client.hset(f"media_deletions_complete:{{{media_id[-2:]}}}", "process", "another")


def age(stage: Stage) -> None:
    """Let the entries of the journal grow old."""
    for key in list(stage.journaled):
        make_older(stage, key)


def make_older(stage: Stage, key: str) -> None:
    """Let one object of the journal be some days older, by its key and by the store."""
    stored, name = stage.journaled.pop(key), key.rpartition("/")[2]
    time = datetime.fromtimestamp(unix_ms_of(name) / 1000, UTC) - DAYS_AGO
    stage.journaled[f"{key_at(time)}{name[10:]}"] = replace(stored, written=stored.written - DAYS_AGO)


async def test_entries_are_pruned_once_they_cannot_matter(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    await stage.delete("1-1")
    assert await stage.replay().prune() == 0
    assert len(stage.journaled) == 1
    due_now(stage)
    await stage.remove()
    age(stage)
    assert await stage.replay().prune() == 1
    assert not stage.journaled


async def test_a_deletion_stays_in_the_journal_until_its_removal_has_ended(new_stage: NewStage) -> None:
    """Its queue is paused for long, and then Redis is lost. A prune may die at any moment."""
    moment, steps = 0, Steps()
    while moment <= steps.count:
        stage = new_stage()
        await stage.process()
        await stage.delete("1-1")
        for _ in range(2):
            age(stage)
            steps = Steps({moment: die})
            await until_it_dies(stage.replay(steps).prune())
        stage.client.flushall()
        assert await is_deleted(stage), steps.names
        due_now(stage)
        await stage.remove()
        assert not stage.served(), steps.names
        moment += 1
    assert "after put" in " ".join(steps.names)


async def test_a_deletion_that_is_undone_during_a_prune_stays_undone(new_stage: NewStage) -> None:
    moment, steps = 0, Steps()
    while moment <= steps.count:
        stage = new_stage()
        await stage.process()
        await stage.delete("1-1")
        age(stage)
        steps = Steps({moment: stage.undelete})
        await stage.replay(steps).prune()
        if moment >= steps.count:
            assert await stage.undelete() is None
        # A prune that comes when only the first of them is old.
        first = min(stage.journaled, key=lambda key: stage.journaled[key].written)
        make_older(stage, first)
        await stage.replay().prune()
        stage.client.flushall()
        assert not await is_deleted(stage), (moment, steps.names)
        moment += 1


async def read_channel(stage: Stage, steps: Steps) -> None:
    """Handle the messages of the channel, as a reader that takes over what dead ones have."""
    stream = NoticeStream(stepped(stage.redis, steps), claim_after_s=0)
    for notice in await stream.take("reader", block_s=0.01):
        await NoticeHandler(stage.replay(steps), HOUR_S).handle(notice)
        await stream.done(notice)


async def test_a_message_of_the_channel_is_handled_whenever_its_first_reader_dies(new_stage: NewStage) -> None:
    moment, steps = 0, Steps()
    while moment <= steps.count:
        stage = new_stage()
        await stage.replay().ensure_complete()
        await NoticeStream(stage.redis).ensure_group()
        await write_heard(stage.redis, [(json.dumps({"media_ids": [str(stage.media_id)]}).encode(), 0)])
        steps = Steps({moment: die})
        await until_it_dies(read_channel(stage, steps))
        await read_channel(stage, Steps())
        assert stage.client.xlen(HEARD) == stage.client.xpending(HEARD, NOTICES_GROUP)["pending"] == 0, steps.names
        stage.client.flushall()
        assert await is_deleted(stage), steps.names
        moment += 1
    assert {"after redis mark", "before redis XDEL", "before redis XACK"} <= set(steps.names)


@pytest.mark.parametrize("body", [b'{"v":2,"kind":"marked","media":[]}', b'{"kind":"moved","media":[]}', b"", b"{\xff"])
async def test_an_unreadable_entry_is_set_aside_and_the_replay_completes(new_stage: NewStage, body: bytes) -> None:
    """It is restored as soon as a version that can read it becomes the leader of the sweep."""
    stage = new_stage()
    await stage.process()
    await stage.delete("1-1")
    (key,) = stage.journaled
    mark = stage.journaled[key]
    later = new_stage()  # another media item, whose deletion a later version wrote
    await later.process()
    await later.delete("2-1")
    unreadable = f"{key.rpartition('/')[0]}/{'Z' * 26}.json"
    stage.journaled[unreadable] = replace(mark, data=body)
    stage.client.flushall()
    assert await stage.replay().ensure_complete()
    assert await state_of(stage) is DeletionState.MARKED
    aside = unreadable.replace("deletions", "unreadable")
    assert sorted(stage.journaled) == [key, aside]
    await stage.replay().note_time()  # this version still cannot read it
    assert stage.journaled[aside].data == body
    (written,) = later.journaled.values()
    stage.journaled[aside] = replace(mark, data=written.data)
    assert await state_of(later) is None
    await stage.replay().note_time()
    assert await state_of(later) is DeletionState.MARKED
    assert sorted(stage.journaled) == [key, unreadable]  # for the next loss of Redis
