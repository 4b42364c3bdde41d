"""Block lists and the hook decide what happens to an upload. A moderator's decision ends a hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256

import pytest

from avion_media.backends.queue import TaskQueue
from avion_media.common import keys
from avion_media.common.errors import Reason
from avion_media.common.tasks import PROCESSING_QUEUE, State, Status, processing_fields
from avion_media.config import Config
from avion_media.items.moderation import Entry, HashType
from avion_media.items.moderation.entries import page_of
from avion_media.items.state import StatusStore
from tests.crash.stage import PNG_HEAD, SERVED, Killed, Stage, Steps, open_stages
from tests.integration.items.test_moderation_hook import server

NewStage = Callable[..., Stage]
PDQ = bytes(range(32))


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        def moderated(**settings: object) -> Stage:
            stage = new()
            stage.moderated, stage.pdq = True, PDQ
            stage.config = Config.model_validate({"moderation": settings})
            return stage

        yield moderated


async def status_of(stage: Stage) -> tuple[State, Reason | None] | None:
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    return None if status is None else (status.state, status.reason)


def resemble(stage: Stage) -> None:
    """Add a hash that differs by one bit to the own list."""
    near = bytes([PDQ[0] ^ 1, *PDQ[1:]])
    entry = Entry(HashType.PDQ, near, "seen before")
    stage.write(page_of(entry), f"{entry}\n".encode())


@pytest.mark.parametrize(
    ("likeness", "state"), [("hold", State.PROCESSING), ("ignore,own:refuse", State.FAILED), ("ignore", State.READY)]
)
async def test_likeness_means_what_the_setting_says(new_stage: NewStage, likeness: str, state: State) -> None:
    stage = new_stage(likeness=likeness)
    resemble(stage)
    await stage.process()
    reasons = {State.PROCESSING: Reason.HELD, State.FAILED: Reason.BLOCKED, State.READY: None}
    assert await status_of(stage) == (state, reasons[state])
    assert len(stage.served()) == (SERVED if state is State.READY else 0)
    kept = f"{keys.QUARANTINE_PREFIX}{stage.media_id}/incoming" in stage.objects
    assert kept == (state is not State.READY)


@pytest.mark.parametrize("action", ["publish", "hold", "refuse"])
async def test_the_hooks_answer_counts_and_a_release_asks_nobody_again(new_stage: NewStage, action: str) -> None:
    asked: list[str] = []

    def answer(_path: str, body: bytes) -> tuple[int, object]:
        asked.append(json.loads(body)["hashes"]["pdq"])
        return 200, {"action": action, "label": "a reason"}

    with server(answer) as url:
        stage = new_stage(hook_url=url)
        await stage.process()
        found = await status_of(stage)
        if action == "hold":
            assert found == (State.PROCESSING, Reason.HELD)
            assert (stage.served(), stage.events()) == (set(), ["media.held"])
            await stage.release()
            await stage.process_queued()
            found = await status_of(stage)
    assert asked[0] == PDQ.hex()
    assert found == ((State.FAILED, Reason.BLOCKED) if action == "refuse" else (State.READY, None))
    left = {key for key in stage.objects if key.startswith((keys.QUARANTINE_PREFIX, keys.HELD_PREFIX))}
    assert bool(left) == (action == "refuse")


def refuse(stage: Stage, mark: bytes) -> None:
    """Put the file with this mark on a list."""
    digest = sha256(PNG_HEAD + mark).hexdigest()
    stage.write(f"{keys.BLOCKLIST_PREFIX}others.csv", f"type,hash,label\nsha256,{digest},\n".encode())


def kept(stage: Stage) -> set[str]:
    """Return the keys of what moderation keeps of it, apart from blocks."""
    places = f"{keys.QUARANTINE_PREFIX}{stage.media_id}/", f"{keys.HELD_PREFIX}{stage.media_id}"
    return {key for key in stage.objects if key.startswith(places)}


@pytest.mark.parametrize("released_first", [False, True], ids=["replaced before the release", "replaced after it"])
async def test_a_release_does_not_cover_a_file_that_replaced_the_held_one(
    new_stage: NewStage, *, released_first: bool
) -> None:
    stage = new_stage()
    resemble(stage)
    await stage.process()
    refuse(stage, b"F")
    for step in (stage.release, partial(put, stage))[:: 1 if released_first else -1]:
        await step()
    await stage.process_queued()
    listed = PNG_HEAD + b"F"
    assert [key for key in stage.served() if stage.objects[key].data == listed] == []
    assert await status_of(stage) == ((State.FAILED, Reason.BLOCKED) if released_first else (State.READY, None))


async def put(stage: Stage) -> None:
    stage.upload(b"F")


@pytest.mark.parametrize("known", [True, False], ids=["status on Redis", "status lost"])
async def test_a_held_upload_stays_held_although_its_client_uploads_another_file(
    new_stage: NewStage, *, known: bool
) -> None:
    stage = new_stage()
    resemble(stage)
    await stage.process()
    before = kept(stage)
    stage.pdq = None  # the other file resembles nothing
    stage.upload(b"F")
    if not known:
        await StatusStore(stage.redis).forget(str(stage.media_id))
    await stage.process()
    assert await status_of(stage) == (State.PROCESSING, Reason.HELD)
    assert (stage.served(), kept(stage)) == (set(), before)


async def test_a_release_does_not_cover_a_file_that_resembles_an_entry_as_well(new_stage: NewStage) -> None:
    stage = new_stage()
    resemble(stage)
    await stage.process()
    await stage.release()
    stage.upload(b"F")
    await stage.process_queued()
    assert (stage.served(), await status_of(stage)) == (set(), (State.PROCESSING, Reason.HELD))
    assert stage.objects[f"{keys.QUARANTINE_PREFIX}{stage.media_id}/incoming"].data == PNG_HEAD + b"F"  # to be seen
    await stage.release()
    await stage.process_queued()
    assert stage.objects[keys.original(stage.media_id)].data == PNG_HEAD + b"F"
    assert kept(stage) == set()


@pytest.mark.parametrize("listed", [False, True])
async def test_an_upload_that_is_unblocked_before_it_was_published_is_processed_without_lists(
    new_stage: NewStage, *, listed: bool
) -> None:
    stage = new_stage()
    if listed:
        refuse(stage, b"1")
        media_id = str(stage.media_id)
        await TaskQueue(stage.redis, PROCESSING_QUEUE).enqueue(processing_fields(media_id), dedup_key=media_id)
        await stage.process_queued()
    else:
        await stage.block()
    await stage.unblock()
    await stage.process_queued()
    assert await status_of(stage) == (State.READY, None)
    assert f"{keys.QUARANTINE_PREFIX}{stage.media_id}/incoming" in kept(stage)  # until the lifecycle rule removes it


async def test_a_released_media_item_that_its_owner_deleted_leaves_no_evidence(new_stage: NewStage) -> None:
    stage = new_stage()
    resemble(stage)
    await stage.process()
    await stage.replay().ensure_complete()
    await stage.delete("1-1")
    await stage.release()
    await stage.process_queued()
    assert (stage.served(), kept(stage)) == (set(), set())


async def test_a_release_killed_at_every_moment_leaves_the_media_item_waiting_or_publishes_it(
    new_stage: NewStage,
) -> None:
    async def kill() -> None:
        raise Killed

    moment, waited = 0, 0
    while True:
        stage, steps = new_stage(), Steps({moment: kill})
        resemble(stage)
        await stage.process()
        with suppress(Killed):
            await stage.release(steps)
        if moment >= steps.count:
            break
        await stage.process_queued()
        if await status_of(stage) != (State.READY, None):
            waited += 1
            assert str(stage.media_id) in await stage.waiting(), steps.names[-1]
            await stage.release()
            await stage.process_queued()
        assert (await status_of(stage), kept(stage)) == ((State.READY, None), set()), steps.names[-1]
        moment += 1
    assert moment >= 8
    assert waited


async def test_an_attempt_killed_while_it_holds_is_repeated_to_the_same_end(new_stage: NewStage) -> None:
    async def kill() -> None:
        raise Killed

    moment = 0
    while True:
        stage, steps = new_stage(), Steps({moment: kill})
        resemble(stage)
        await StatusStore(stage.redis).put(Status(str(stage.media_id), State.PROCESSING), ttl_s=600)
        try:
            await stage.process(steps)
        except (Killed, BaseExceptionGroup):  # several calls at once can be killed
            await stage.process()
        else:
            break
        assert await status_of(stage) == (State.PROCESSING, Reason.HELD), steps.names[-1]
        assert f"{keys.QUARANTINE_PREFIX}{stage.media_id}/incoming" in stage.objects, steps.names[-1]
        assert (stage.served(), stage.events()) == (set(), ["media.held"]), steps.names[-1]
        moment += 1
    assert moment > 10
