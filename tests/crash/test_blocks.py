"""A block is effective, wherever its process is killed, whatever Redis loses, and whatever a worker does meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import chain, count, pairwise, repeat

import pytest
import trio

from avion_media.backends.settings import TasksConfig
from avion_media.common import keys
from avion_media.common.errors import Dependency, Reason, Unavailable
from avion_media.common.formats import PNG
from avion_media.common.ids import new_media_id
from avion_media.common.records import UnreadableRecord
from avion_media.common.tasks import PROCESSING_QUEUE, State, Status
from avion_media.config import Config
from avion_media.items.moderation import Changes, NotBlocked
from avion_media.items.moderation.records import BLOCK, HELD, BlockState, Held
from avion_media.items.state import StatusStore
from avion_media.process.runtime import Observed
from tests.crash.stage import SERVED, SIZES, Act, Killed, Stage, Steps, Stored, open_stages

NewStage = Callable[[], Stage]


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        def moderated() -> Stage:
            stage = new()
            stage.moderated = True
            return stage

        yield moderated


async def published(new_stage: NewStage) -> tuple[Stage, Stage]:
    """Publish a media item, and another one of the same file."""
    stage = new_stage()
    await stage.process()
    copy = await stage.publish_copy()
    assert len(stage.served()) == len(copy.served()) == SERVED
    return stage, copy


def at_every_moment(stage: Stage) -> Iterator[Steps]:
    """Yield steps that are killed one call later each time, up to the last call. All begin with the present bucket."""
    objects = dict(stage.objects)
    for moment in count(step=2):  # before each call, which is the same as after the previous one
        steps = Steps({moment: kill})
        stage.objects.clear()
        stage.objects.update(objects)
        stage.client.flushall()
        yield steps
        if steps.count <= moment:
            assert moment > 40
            return


async def kill() -> None:
    raise Killed


async def attempt(new_stage: NewStage) -> Steps:
    """Return the steps of an attempt that nothing disturbs."""
    stage, steps = new_stage(), Steps()
    await Changes(stage.redis).note()
    await accept(stage)
    await stage.process(steps)
    return steps


async def accept(stage: Stage) -> None:
    """Write the status of an upload whose task is queued, as CompleteMediaUpload does."""
    await StatusStore(stage.redis).put(Status(str(stage.media_id), State.PROCESSING), ttl_s=600)


async def block(stage: Stage, *, heard_by: Stage | None) -> None:
    """Block the media item. The process of another one's attempt may hear of it."""
    await stage.block()
    if heard_by is not None:
        await heard_by.hear()


def names(stage: Stage, prefix: str) -> set[str]:
    return {key.rpartition("/")[2] for key in stage.objects if key.startswith(prefix)}


def evidence(stage: Stage) -> set[str]:
    return names(stage, f"{keys.QUARANTINE_PREFIX}{stage.media_id}/")


def in_state(stage: Stage, *states: BlockState) -> set[str]:
    """Return the media items whose blocks are in one of these states."""
    records = {key: stored.data for key, stored in stage.objects.items() if key.startswith(keys.BLOCK_PREFIX)}
    return {block.media_id for key, raw in records.items() if (block := BLOCK.read(raw, key)).state in states}


def in_force(stage: Stage) -> set[str]:
    return in_state(stage, *(each for each in BlockState if each is not BlockState.LIFTED))


def unfinished(stage: Stage) -> set[str]:
    """Return the media items whose blocks are not settled. All of them are watched."""
    found = in_state(stage, BlockState.REMOVING, BlockState.RESTORING)
    assert found <= names(stage, keys.WATCHED_PREFIX)
    return found


def own_entries(stage: Stage) -> list[str]:
    pages = [stored.data for key, stored in stage.objects.items() if key.startswith(keys.OWN_ENTRY_PREFIX)]
    return [line for page in pages for line in page.decode().splitlines()]


def blocked(*stages: Stage) -> bool:
    """Return whether exactly these are blocked, and nothing is left to do."""
    ids = {str(each.media_id) for each in stages}
    return in_force(stages[0]) == ids and not unfinished(stages[0]) and not any(each.served() for each in stages)


async def test_a_block_killed_at_every_moment_is_carried_out_when_redis_is_lost_as_well(new_stage: NewStage) -> None:
    """With its copy and its evidence. With Redis intact: `python -m tests.crash --kind block`."""
    stage, copy = await published(new_stage)
    original, was_recorded = stage.objects[keys.original(stage.media_id)].data, 0
    for steps in at_every_moment(stage):
        with suppress(Killed):
            await stage.block(steps)
        stage.client.flushall()
        await stage.resume_blocks()
        if in_force(stage):
            was_recorded += 1
        else:  # killed before it was recorded: nothing has happened, and the caller got no success
            assert len(stage.served()) == SERVED, steps.names[-1]
            await stage.block()
        assert blocked(stage, copy), steps.names[-1]
        for each in (stage, copy):
            assert evidence(each) >= {"original", *(f"thumbnail-{size.name}" for size in SIZES)}, steps.names[-1]
            assert each.objects[f"{keys.QUARANTINE_PREFIX}{each.media_id}/original"].data == original
        record = json.loads(stage.objects[f"{keys.BLOCK_PREFIX}{stage.media_id}"].data)
        assert record["copies"] == [str(copy.media_id)], steps.names[-1]  # an unblock restores these
    assert was_recorded > 30


async def _unblocked_at_every_moment(stage: Stage, other: Stage) -> AsyncIterator[Steps]:
    """Kill an unblock at each moment, and complete it. Nothing is half unblocked before that is noted."""
    for steps in at_every_moment(stage):
        with suppress(Killed):
            await stage.unblock(steps)
        await stage.resume_blocks()
        if in_force(stage):  # killed before it was noted that the block is lifted
            assert blocked(stage, other), steps.names[-1]
            await stage.unblock()
        yield steps


async def test_a_lifted_block_killed_at_every_moment_restores_the_medium_and_its_copy(new_stage: NewStage) -> None:
    stage, copy = await published(new_stage)
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}
    await stage.block()
    async for steps in _unblocked_at_every_moment(stage, copy):
        left = {key: stage.objects[key].data for key in stage.served() | copy.served()}
        assert left == served, steps.names[-1]
        assert stage.events() == copy.events() == ["media.ready"], steps.names[-1]
        assert not unfinished(stage) | in_force(stage), steps.names[-1]
        assert "original" in evidence(stage) & evidence(copy), steps.names[-1]
        assert own_entries(stage) == [], steps.names[-1]


@pytest.mark.parametrize("first", [0, 1], ids=["smaller id", "larger id"])
async def test_a_block_is_complete_only_with_its_copy_whose_claim_a_killed_process_has(
    new_stage: NewStage, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a lifted block likewise. Redis keeps what it has."""
    monkeypatch.setattr("trio_redis.lock._POLL_S", 0.01)
    stage, copy = sorted(await published(new_stage), key=lambda each: str(each.media_id), reverse=bool(first))
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}

    async def resume() -> None:
        stage.end_claims()
        stage.client.set(f"media_block_claim:{copy.media_id}", "a killed process", px=50)
        with trio.fail_after(20):
            while unfinished(stage):
                with suppress(Unavailable):
                    await stage.resume_with_claims()

    for steps in at_every_moment(stage):
        with suppress(Killed):
            await stage.block(steps)
        await resume()
        if in_force(stage):
            assert blocked(stage, copy), steps.names[-1]
    with suppress(NotBlocked):
        await stage.block()
    for steps in at_every_moment(stage):
        with suppress(Killed):
            await stage.unblock(steps)
        await resume()
        if not in_force(stage):
            left = {key: stage.objects[key].data for key in stage.served() | copy.served()}
            assert left == served, steps.names[-1]


def fails(error: Exception) -> Act:
    async def fail() -> None:
        raise error

    return fail


def abandon(stage: Stage) -> None:
    """Let the unfinished blocks look as if their process had died long ago."""
    for key in [key for key in stage.objects if key.startswith(keys.WATCHED_PREFIX)]:
        stage.objects[key] = replace(stage.objects[key], written=datetime.min.replace(tzinfo=UTC))


DAMAGED = Unavailable(Dependency.OBJECT, "it is damaged")


@pytest.mark.parametrize("error", [DAMAGED, ValueError("the code has a bug")])
async def test_an_unfinished_block_that_fails_stops_nothing_else(new_stage: NewStage, error: Exception) -> None:
    """Neither the other blocks nor the lists, nor those who ask which media wait."""
    one, two = new_stage(), new_stage()
    two.upload(b"of another size")  # so the two are not compared
    two.objects = one.objects = {**one.objects, **two.objects}
    first, second = sorted((one, two), key=lambda each: str(each.media_id))
    for each in (first, second):
        await each.process()
        with suppress(Killed):
            await each.block(Steps({"before delete": kill}))
        assert len(each.served()) == SERVED
    abandon(first)
    first.client.flushall()
    held = Held("another", "2026-11-27", "an entry", PROCESSING_QUEUE, {})
    first.write(f"{keys.HELD_PREFIX}another", HELD.write(held))

    observed = Observed()
    steps = Steps({f"before head {keys.original(first.media_id)}": fails(error)})
    assert not await first.look(observed, steps)

    assert unfinished(first) == {str(first.media_id)}
    assert not second.served()
    assert "original" in evidence(second)
    assert f"after list {keys.BLOCKLIST_PREFIX}" in steps.names
    assert observed.held == (held.at,)
    assert await first.look(observed, Steps())
    assert blocked(first, second)


async def test_a_copy_whose_block_fails_does_not_stop_the_other_copies(new_stage: NewStage) -> None:
    """Nor those that are unblocked."""
    stage, copy = await published(new_stage)
    other = await stage.publish_copy()
    copy, other = sorted((copy, other), key=lambda each: str(each.media_id))
    with pytest.raises(Unavailable, match=str(copy.media_id)):
        await stage.block(Steps({f"before head {keys.original(copy.media_id)}": fails(DAMAGED)}))
    assert not other.served()
    await stage.resume_blocks()
    assert blocked(stage, copy, other)

    kept = f"{keys.QUARANTINE_PREFIX}{copy.media_id}/original"
    with pytest.raises(Unavailable, match=str(copy.media_id)):
        await stage.unblock(Steps({f"before head {kept}": fails(DAMAGED)}))
    assert len(other.served()) == SERVED
    await stage.resume_blocks()
    assert len(stage.served()) == len(copy.served()) == SERVED


async def test_a_copy_without_a_hash_is_found_by_its_size_and_etag(new_stage: NewStage) -> None:
    """As of a large video, of which only some ranges are read."""
    stage, copy = await published(new_stage)
    other = await stage.publish_copy()
    for each in (stage, copy, other):
        key = keys.original(each.media_id)
        original = stage.objects[key]
        data = original.data[::-1] if each is other else original.data  # of the same size
        metadata = {name: value for name, value in original.metadata.items() if name != "sha256"}
        (indexed,) = each.indexed()
        index_object = stage.objects.pop(indexed)
        stage.objects[keys.same_file("", len(data), each.media_id)] = index_object
        stage.objects[key] = replace(original, data=data, metadata=metadata)
    await stage.block()
    assert blocked(stage, copy)
    assert len(other.served()) == SERVED
    await stage.unblock()
    assert len(stage.served()) == len(copy.served()) == SERVED


@pytest.mark.parametrize("again", [1, 1000])
async def test_a_client_that_uploads_again_while_its_upload_is_blocked_stops_nothing(
    new_stage: NewStage, again: int
) -> None:
    """Once in between, the block goes on at once. Always in between, it goes on when the client stops."""
    stage = new_stage()
    marks = count()

    async def upload_again() -> None:
        if next(marks) < again:
            stage.upload(f"again {next(marks)}".encode())

    steps = {f"before copy {keys.incoming(stage.media_id)}": upload_again}
    if again == 1:
        await stage.block(Steps(steps))
    else:
        with pytest.raises(Unavailable):
            await stage.block(Steps(steps))
        abandon(stage)
        stage.client.flushall()
        assert not await stage.look(Observed(), Steps(steps))
        await stage.resume_blocks()
    assert blocked(stage)
    assert evidence(stage) == {"incoming", "record.json"}


async def test_an_object_that_is_no_medium_is_no_copy(new_stage: NewStage) -> None:
    stage, copy = await published(new_stage)
    stage.objects[f"{keys.ORIGINAL_PREFIX}notes.txt"] = stage.objects[keys.original(stage.media_id)]
    await stage.block()
    assert blocked(stage, copy)


async def test_a_block_stays_claimed_however_long_each_of_its_steps_takes(new_stage: NewStage) -> None:
    stage, copy = await published(new_stage)
    stage.config = Config(tasks=TasksConfig.model_construct(claim_after=0.01))

    async def until_claimed_again() -> None:
        if steps.names[-1].endswith(("redis SET", "redis renew_lock")):  # perhaps the renewal itself
            return
        in_progress = [f"media_block_claim:{each}" for each in unfinished(stage)]
        claims = [each for each in in_progress if stage.client.delete(each)]
        with trio.fail_after(10):
            while not all(stage.client.exists(each) for each in claims):
                await trio.lowlevel.checkpoint()

    for work in (stage.block, stage.unblock):
        steps = Steps(dict.fromkeys(range(1000), until_claimed_again))
        await work(steps)
        assert steps.count > 40
    with suppress(Killed):
        await stage.block(Steps({"before delete": kill}))
    steps = Steps(dict.fromkeys(range(1000), until_claimed_again))
    await stage.resume_blocks(steps)
    assert steps.count > 40
    assert blocked(stage, copy)


@dataclass
class Race:
    """An unblock that another moderator begins during something else."""

    stage: Stage
    nursery: trio.Nursery
    ended: bool = False
    refused: bool = False
    waits: bool = False

    async def begin_to_unblock(self) -> None:
        """Return once it waits for the end of the other, or has ended."""
        steps = Steps()
        self.nursery.start_soon(self._unblock, steps)
        while not self.ended and not self.waits:
            await trio.lowlevel.checkpoint()
            self.waits = ("after redis SET", "before redis SET") in pairwise(steps.names)

    async def _unblock(self, steps: Steps) -> None:
        try:
            await self.stage.unblock(steps)
        except NotBlocked:
            self.refused = True
        self.ended = True


def restored(served: dict[str, bytes], *stages: Stage) -> bool:
    """Return whether exactly this is served, and nothing is left of a block."""
    first = stages[0]
    left = in_force(first) | unfinished(first) | set(own_entries(first))
    return not left and served == {key: first.objects[key].data for each in stages for key in each.served()}


async def test_an_unblock_at_every_moment_of_a_block_waits_for_its_end(
    new_stage: NewStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the block would remove what the unblock has restored, and with it the evidence."""
    monkeypatch.setattr("trio_redis.lock._POLL_S", 0.001)
    stage, copy = await published(new_stage)
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}
    steps = Steps()
    await stage.block(steps)
    await stage.unblock()
    assert steps.count > 40
    waited = 0
    for moment in steps.before_calls:
        async with trio.open_nursery() as nursery:
            race = Race(stage, nursery)
            with trio.fail_after(20):
                await stage.block(Steps({moment: race.begin_to_unblock}))
        waited += race.waits
        if race.refused:  # before the block was recorded
            assert blocked(stage, copy), steps.names[moment]
            await stage.unblock()
        assert restored(served, stage, copy), steps.names[moment]
    assert waited > 20


async def test_an_unblock_at_every_moment_of_a_worker_that_enforces_the_block_loses_nothing(
    new_stage: NewStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the worker stood still before it continued."""
    monkeypatch.setattr("trio_redis.lock._POLL_S", 0.001)
    stage, copy = await published(new_stage)
    objects = {key: stage.objects[key] for key in stage.served() | copy.served()}
    written = {key: objects[key] for key in stage.served()}
    served = {key: stored.data for key, stored in objects.items()}
    await stage.block()
    steps = Steps()
    stage.objects.update(written)
    await stage.enforce(steps)
    assert steps.count > 25
    waited = 0
    for moment in steps.before_calls:
        stage.objects.update(written)
        async with trio.open_nursery() as nursery:
            race = Race(stage, nursery)
            with trio.fail_after(20):
                await stage.enforce(Steps({moment: race.begin_to_unblock}))
        waited += race.waits
        assert restored(served, stage, copy), steps.names[moment]
        assert await StatusStore(stage.redis).get(str(stage.media_id)) is None, steps.names[moment]
        await stage.block()
    assert waited > 10


async def test_what_a_worker_writes_at_any_moment_of_a_block_is_removed(new_stage: NewStage) -> None:
    """By the block, or by the next attempt of the worker."""
    stage, copy = await published(new_stage)
    objects = dict(stage.objects)
    late = {key: objects[key] for key in stage.served()}

    async def write() -> None:
        stage.objects.update(late)
        await stage.enforce()

    steps = Steps()
    await stage.block(steps)
    listed = f"after list {keys.SHA256_PREFIX}"
    copies = max(number for number, name in enumerate(steps.names) if name.startswith(listed))
    assert steps.count > copies > 40
    for moment in steps.before_calls:
        stage.objects.clear()
        stage.objects.update(objects)
        await stage.block(Steps({moment: write}))
        if moment <= copies + 1:  # before the next call
            assert not stage.served(), steps.names[moment]
        await stage.enforce()
        assert blocked(stage, copy), steps.names[moment]


async def test_who_has_seen_another_at_work_does_not_begin_without_the_claim(new_stage: NewStage) -> None:
    """Not even if Redis stops to respond while it waits."""
    stage, copy = await published(new_stage)
    claim, sets = f"media_block_claim:{stage.media_id}", count()

    async def lose_redis() -> None:
        if next(sets):
            raise Unavailable(Dependency.REDIS)

    for work, is_blocked in ((stage.block, False), (stage.unblock, True)):
        stage.client.set(claim, "another task")
        sets = count()
        with pytest.raises(Unavailable):
            await work(Steps({"before redis SET": lose_redis}))
        assert bool(in_force(stage)) is is_blocked
        assert not unfinished(stage)
        stage.client.delete(claim)
        await stage.block()
    assert blocked(stage, copy)


@pytest.mark.parametrize("act", [Stage.enforce, Stage.process_once])
async def test_a_worker_at_every_moment_of_an_unblock_removes_nothing_that_is_restored(
    new_stage: NewStage, act: Callable[[Stage], Awaitable[None]]
) -> None:
    stage, copy = await published(new_stage)
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}
    await stage.block()
    blocked_objects = dict(stage.objects)
    steps = Steps()
    await stage.unblock(steps)
    assert steps.count > 40
    for moment in steps.before_calls:
        stage.objects.clear()
        stage.objects.update(blocked_objects)
        await stage.unblock(Steps({moment: partial(act, stage)}))
        left = {key: stage.objects[key].data for key in stage.served() | copy.served()}
        assert left == served, steps.names[moment]


async def test_a_medium_that_was_marked_as_deleted_is_unblocked_and_can_be_undeleted(new_stage: NewStage) -> None:
    """With its copy, which another owner has deleted."""
    stage, copy = await published(new_stage)
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}
    await stage.replay().ensure_complete()
    await copy.replay().ensure_complete()
    await stage.block()
    for each in (stage, copy):
        each.delay_s = 3600.0
        await each.delete()
    await stage.unblock()
    assert restored(served, stage, copy)
    for each in (stage, copy):
        assert await each.undelete() is None
        assert await StatusStore(stage.redis).get(str(each.media_id)) is None


async def test_an_upload_that_was_marked_as_deleted_is_unblocked_and_can_be_undeleted(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.replay().ensure_complete()
    await stage.block()
    stage.delay_s = 3600.0
    await stage.delete()
    await stage.unblock()
    await stage.process_queued()
    assert not stage.served()
    assert await stage.undelete() is None
    await stage.process_queued()
    assert len(stage.served()) == SERVED


async def test_a_lifted_block_killed_at_every_moment_also_lifts_those_of_refused_copies(new_stage: NewStage) -> None:
    """The same file was uploaded again while it was blocked."""
    stage = new_stage()
    await stage.process()
    await stage.block()
    again = await refused_copy(stage)
    assert blocked(stage, again)
    async for steps in _unblocked_at_every_moment(stage, again):
        await again.process_queued()
        assert len(stage.served()) == len(again.served()) == SERVED, steps.names[-1]
        assert in_force(stage) | unfinished(stage) == set(), steps.names[-1]


async def test_an_unblock_at_every_moment_of_an_attempt_with_the_same_file_leaves_nothing_blocked(
    new_stage: NewStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_redis.lock._POLL_S", 0.001)
    stage = new_stage()
    await stage.process()
    await stage.block()
    objects, steps = dict(stage.objects), Steps()
    await refused_copy(stage, steps)
    assert steps.count > 40
    for moment in steps.before_calls:
        stage.objects.clear()
        stage.objects.update(objects)
        stage.client.flushall()
        async with trio.open_nursery() as nursery:
            race = Race(stage, nursery)
            with trio.fail_after(20):
                again = await refused_copy(stage, Steps({moment: race.begin_to_unblock}))
        await again.process_queued()
        assert in_force(stage) == set(), steps.names[moment]
        assert len(stage.served()) == len(again.served()) == SERVED, steps.names[moment]


async def refused_copy(stage: Stage, steps: Steps | None = None) -> Stage:
    """Upload the file of a blocked media item again, as another one, and process it."""
    again = replace(stage, media_id=new_media_id(PNG, int(datetime.now(UTC).timestamp() * 1000)))
    again.upload()
    await accept(again)
    await again.process(steps)
    return again


async def test_a_removal_at_every_moment_of_an_unblock_leaves_nothing(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    await stage.block()
    objects = dict(stage.objects)

    async def delete() -> None:
        await stage.delete()
        await stage.remove()

    steps = Steps()
    await stage.unblock(steps)
    for moment in steps.before_calls:
        stage.objects.clear()
        stage.objects.update(objects)
        stage.client.flushall()
        await stage.replay().ensure_complete()
        steps = Steps({moment: delete})
        await stage.unblock(steps)
        assert restored({}, stage), steps.names[moment]


async def test_a_block_after_an_interrupted_unblock_is_carried_out_anew(new_stage: NewStage) -> None:
    stage, copy = await published(new_stage)
    await stage.block()
    for steps in at_every_moment(stage):
        with suppress(Killed):
            await stage.unblock(steps)
        stage.client.flushall()
        await stage.block()
        await stage.resume_blocks()
        assert blocked(stage, copy), steps.names[-1]
        for each in (stage, copy):
            assert "original" in evidence(each), steps.names[-1]


@pytest.mark.parametrize("heard", [False, True], ids=["not heard", "heard by the worker's process"])
async def test_a_block_at_every_moment_of_an_attempt_leaves_nothing_to_be_served(
    new_stage: NewStage, *, heard: bool
) -> None:
    steps = await attempt(new_stage)
    for moment in [*steps.before_calls, steps.count]:
        stage = new_stage()
        await accept(stage)
        steps = Steps({moment: partial(block, stage, heard_by=stage if heard else None)})
        await stage.process(steps)
        if moment == len(steps.names):
            await stage.block()
        assert blocked(stage), steps.names[moment : moment + 1]
        status = await StatusStore(stage.redis).get(str(stage.media_id))
        assert status == Status(str(stage.media_id), State.FAILED, reason=Reason.BLOCKED), moment
        assert stage.events().count("media.blocked") == 1, moment
        assert evidence(stage) & {"incoming", "original"}, moment
        assert keys.incoming(stage.media_id) not in stage.objects, moment


@pytest.mark.parametrize("heard", [False, True], ids=["not heard", "heard by the worker's process"])
async def test_a_block_at_every_moment_of_an_attempt_with_the_same_file_leaves_nothing_to_be_served(
    new_stage: NewStage, *, heard: bool
) -> None:
    steps = await attempt(new_stage)
    for moment in steps.before_calls:
        stage, copy = new_stage(), new_stage()
        copy.objects = stage.objects
        copy.upload()
        await stage.process()
        await accept(copy)
        await copy.process(Steps({moment: partial(block, stage, heard_by=copy if heard else None)}))
        await copy.process_queued()
        assert blocked(stage, copy), steps.names[moment]
        status = await StatusStore(copy.redis).get(str(copy.media_id))
        assert status == Status(str(copy.media_id), State.FAILED, reason=Reason.BLOCKED), steps.names[moment]


async def outage() -> None:
    raise Unavailable(Dependency.REDIS, "a short outage")


async def again(stage: Stage) -> None:
    await stage.process()
    await stage.process_queued()


async def again_without_redis(stage: Stage) -> None:
    stage.client.flushall()
    await again(stage)


async def given_up(stage: Stage) -> None:
    await stage.record_failure(Reason.EXPIRED)


@pytest.mark.parametrize("by_file", [False, True], ids=["blocked itself", "the same file blocked"])
@pytest.mark.parametrize("ends", [again, again_without_redis, given_up])
@pytest.mark.parametrize("accident", [kill, outage])
async def test_an_attempt_that_ends_at_every_moment_after_a_block_leaves_nothing_to_be_served(
    new_stage: NewStage, accident: Act, ends: Callable[[Stage], Awaitable[None]], *, by_file: bool
) -> None:
    steps = await attempt(new_stage)
    written = next(moment for moment, name in enumerate(steps.names) if name.startswith("before put original/"))
    for moment in [each for each in steps.before_calls if each > written]:
        other, stage = new_stage(), new_stage()
        stage.objects = other.objects
        stage.upload()
        await other.process()
        await accept(stage)
        with suppress(Killed):
            await stage.process(Steps({written: (other if by_file else stage).block, moment: accident}))
        await ends(stage)
        assert stage.served() == set(), steps.names[moment]
        assert str(stage.media_id) in in_force(stage), steps.names[moment]
        status = await StatusStore(stage.redis).get(str(stage.media_id))
        assert status == Status(str(stage.media_id), State.FAILED, reason=Reason.BLOCKED), steps.names[moment]


async def test_a_task_after_an_unblock_does_not_compare_the_same_file_with_lists_again(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    served = stage.served()
    digest = sha256(stage.objects[keys.original(stage.media_id)].data).hexdigest()
    await stage.block()
    stage.write(f"{keys.BLOCKLIST_PREFIX}others.csv", f"type,hash,label\nsha256,{digest},\n".encode())
    await stage.unblock()
    await stage.process()
    assert stage.served() == served


@pytest.mark.parametrize("lost", [False, True], ids=["Redis keeps", "Redis loses"])
async def test_no_two_changes_leave_the_same_generation(new_stage: NewStage, *, lost: bool) -> None:
    stage = new_stage()
    changes, seen = Changes(stage.redis), list[bytes]()
    for _ in range(3):
        seen.append(await changes.generation())
        assert await changes.generation() == seen[-1]
        if lost:
            stage.client.flushall()
        else:
            await changes.note()
    assert len(set(seen)) == 3


async def stands_still(stage: Stage, moment: str, meanwhile: Callable[[], Awaitable[object]]) -> Steps:
    """Return steps of a process that stands still at a moment for longer than its claim."""

    async def others() -> None:
        stage.end_claims()
        await meanwhile()

    acts: Iterator[Act] = chain([others], repeat(nothing))
    return Steps({moment: lambda: next(acts)()})


async def nothing() -> None:
    """Do nothing."""


async def test_what_a_process_removes_that_stood_still_until_the_block_was_lifted_is_restored(
    new_stage: NewStage,
) -> None:
    stage, copy = await published(new_stage)
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}

    async def others() -> None:
        await stage.resume_blocks()
        await stage.unblock()
        assert restored(served, stage, copy)

    with suppress(Unavailable):
        await stage.block(await stands_still(stage, "before delete", others))
    assert not stage.served()
    await stage.resume_blocks()
    assert restored(served, stage, copy)
    assert await StatusStore(stage.redis).get(str(stage.media_id)) is None


async def test_a_process_that_stood_still_before_it_confirmed_the_block_removes_nothing(new_stage: NewStage) -> None:
    stage, copy = await published(new_stage)
    served = {key: stage.objects[key].data for key in stage.served() | copy.served()}

    async def others() -> None:
        await stage.resume_blocks()
        await stage.unblock()

    with pytest.raises(Unavailable, match="another process has changed the block"):
        await stage.block(await stands_still(stage, f"before head {keys.block(str(stage.media_id))}", others))
    assert restored(served, stage, copy)


async def test_what_a_worker_wrote_that_stood_still_until_the_block_was_done_is_not_served(new_stage: NewStage) -> None:
    """Although it was killed before it looked again. A day later the sweep lets it be removed."""
    stage, original = new_stage(), ""
    original = keys.original(stage.media_id)
    with suppress(Killed):
        await stage.process(Steps({f"before put {original}": stage.block, f"after put {original}": kill}))
    assert original in stage.objects
    assert await stage.is_blocked_despite_objects()
    late = stage.objects[original]
    await stage.resume_blocks()
    assert blocked(stage)

    stage.objects[original] = late
    del stage.objects[f"{keys.WATCHED_PREFIX}{stage.media_id}"]
    await stage.resume_blocks()
    assert original in stage.objects
    await stage.sweep()
    assert await stage.is_blocked_despite_objects()
    await stage.resume_blocks()
    assert blocked(stage)


async def test_an_unblock_leaves_the_entries_of_another_block_with_the_same_hash(new_stage: NewStage) -> None:
    stage, other = new_stage(), new_stage()
    other.objects = stage.objects
    other.upload(b"2")  # another file, of which every picture has the same PDQ hash
    stage.pdq = other.pdq = bytes(32)
    for each in (stage, other):
        await each.process()
        await each.block()
    assert len(own_entries(stage)) == 4
    await other.unblock()
    left = own_entries(stage)
    assert [line.split(",")[0] for line in left] == ["sha256", "pdq"]
    assert all(line.endswith(f",{stage.media_id}") for line in left)


@pytest.mark.parametrize("record", [b'{"v":2}', b"{", b""])
async def test_a_media_item_with_an_unreadable_block_stays_blocked(new_stage: NewStage, record: bytes) -> None:
    stage = new_stage()
    stage.write(keys.block(str(stage.media_id)), record)
    stage.write(f"{keys.WATCHED_PREFIX}{stage.media_id}", b"")
    with suppress(Unavailable):
        await stage.process_once()
    assert not stage.served()
    assert await stage.is_blocked_despite_objects()
    for act in (stage.unblock, stage.block):
        with pytest.raises(UnreadableRecord):
            await act()
    other = new_stage()
    other.objects = stage.objects
    await other.process()
    await other.block()
    abandon(stage)
    assert await stage.look(Observed(), Steps())
    assert stage.objects[keys.block(str(stage.media_id))].data == record


async def test_a_field_of_a_later_version_stays_in_the_record(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.block()
    key = keys.block(str(stage.media_id))
    document = json.loads(stage.objects[key].data)
    stage.write(key, json.dumps({**document, "tomorrow": [1]}).encode())
    await stage.unblock()
    document = json.loads(stage.objects[key].data)
    assert (document["state"], document["tomorrow"]) == ("lifted", [1])


async def test_a_settled_block_is_looked_at_less_and_less_often_for_a_day(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.block()
    (key,) = [key for key in stage.objects if key.startswith(keys.WATCHED_PREFIX)]
    blocking = stage.moderation().blocking
    looks = []
    for age_s in (1, 30, 60, 110, 130, 400, 600, 86_000, 86_500):
        stage.objects[key] = replace(stage.objects[key], written=datetime.now(UTC) - timedelta(seconds=age_s))
        stage.objects[keys.original(stage.media_id)] = Stored(b"late", "image/png", {}, datetime.now(UTC))
        blocking._next_look = {
            each: (stage.objects[key].written, due) for each, (_, due) in blocking._next_look.items()
        }
        await blocking.resume()
        if not stage.served():
            looks.append(age_s)
    assert looks == [30, 130, 600, 86_000, 86_500]
    assert key not in stage.objects


async def test_a_block_of_a_media_item_that_a_late_process_has_removed_has_its_hashes(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    served = {key: stage.objects[key].data for key in stage.served()}
    await stage.block()
    entries = own_entries(stage)
    await stage.unblock()
    for key in served:
        del stage.objects[key]
    await stage.block()
    assert own_entries(stage) == entries != []
    await stage.unblock()
    assert restored(served, stage)
