"""An upload that the sweep would remove is completed at the same moment: it is refused, or it is processed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.formats import PNG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import PROCESSING_QUEUE, State
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import Config
from avion_media.items.item import Items
from avion_media.items.moderation import ModerationStatus
from avion_media.items.state import StatusStore
from avion_media.servers.api.media_service import MediaService, NothingUploaded
from avion_media.servers.api.statuses import UnknownMedium
from avion_media.workers.settings import SweepConfig
from avion_media.workers.sweep import Reconciliation
from tests.crash.stage import SERVED, Act, MemoryStore, Stage, Steps, open_stages, slot_of, stepped
from tests.crash.test_deletion_wins import die, until_it_dies
from tests.remote_ids import knowing
from trio_telemetry import NO_TELEMETRY

NewStage = Callable[[], Awaitable[Stage]]
AGE = timedelta(hours=3)  # more than `UPLOAD__URL_TTL` and `SWEEP__MARGIN`: nobody is expected to complete it
REFUSED = (UnknownMedium, NothingUploaded)


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    async with open_stages(redis_url) as new:

        async def abandoned() -> Stage:
            """Return a stage with an old upload that nobody completed, on a Redis that has lost nothing since."""
            stage = new()
            stage.client.flushall()
            stage.objects.clear()
            stage.media_id = new_media_id(PNG, round((time.time() - AGE.total_seconds()) * 1000))
            stage.upload()
            stage.client.hset("media_sweep", "complete_since", "0")
            await stage.replay().ensure_complete()
            return stage

        yield abandoned


async def sweep(stage: Stage, steps: Steps | None = None) -> dict[str, int]:
    """Run a sweep at the time when the upload is old. Return what it did, by reason."""
    steps = steps or Steps()
    slot = slot_of(Dependency.STORE, _Store(stage.objects, steps))
    config = Config(sweep=SweepConfig(rate=10_000.0))
    replay = stage.replay(steps)  # which is complete at once
    replay.items.store = slot
    reconciliation = Reconciliation(replay, config, clock=lambda: datetime.now(UTC) + AGE, batch=10)
    report = await reconciliation.run()
    assert report.warnings == []
    return {str(reason): each.media for reason, each in report.done.items()}


class _Store(MemoryStore):
    """A store without uploads in parts."""

    @property
    def multipart(self) -> Any:
        return self

    async def unfinished(self, _prefix: str) -> AsyncIterator[Sequence[object]]:
        return
        yield

    async def is_unfinished(self, _key: str) -> bool:
        return False


async def complete(stage: Stage, steps: Steps | None = None) -> bool:
    """Call CompleteMediaUpload. Return whether it was accepted."""
    steps = steps or Steps()
    redis = stepped(stage.redis, steps)
    store = slot_of(Dependency.STORE, cast("ObjectStore", _Store(stage.objects, steps)))
    items = knowing(Items(store, redis))
    moderation = SimpleNamespace(status=ModerationStatus(store), hosts=None)
    replay = stage.replay(steps)
    replay.items.store = store
    shared = {"items": items, "replay": replay, "moderation": moderation, "telemetry": NO_TELEMETRY}
    runtime = SimpleNamespace(config=Config(), store=store, **shared)
    service = MediaService(cast("Any", runtime))
    request = wire.CompleteMediaUploadRequest(media_id=str(stage.media_id))
    try:
        await service.CompleteMediaUpload(request, cast("Any", SimpleNamespace(caller="web")))
    except REFUSED:
        return False
    return True


async def queue_as_another_service(stage: Stage) -> None:
    """Queue the upload with the fields of the contract only, without a dedup marker."""
    fields = {"task_id": "foreign", "media_id": str(stage.media_id), "type": "thumbnail"}
    stage.client.xadd(PROCESSING_QUEUE, fields)


async def state_of(stage: Stage) -> State | None:
    """Return the state after all queued tasks."""
    await stage.process_queued()
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    return None if status is None else status.state


async def assert_refused_or_ready(stage: Stage, accepted: bool, what: object) -> None:
    """Assert that an accepted upload becomes READY, and that nothing is left of a refused one."""
    if accepted:
        assert await state_of(stage) is State.READY, what
        assert len(stage.served()) == SERVED, what
    else:
        assert await state_of(stage) is None, what
        assert stage.objects == {}, what


async def steps_of(new_stage: NewStage, act: Callable[[Stage, Steps], Awaitable[object]]) -> Steps:
    """Return the steps of an undisturbed act."""
    stage, steps = await new_stage(), Steps()
    await act(stage, steps)
    return steps


def completing(stage: Stage, accepted: list[bool]) -> Act:
    async def act() -> None:
        accepted.append(await complete(stage))

    return act


async def test_completed_at_every_moment_of_a_sweep(new_stage: NewStage) -> None:
    seen = set()
    steps = await steps_of(new_stage, sweep)
    for moment in steps.before_calls:
        stage, accepted = await new_stage(), list[bool]()
        await sweep(stage, Steps({moment: completing(stage, accepted)}))
        await assert_refused_or_ready(stage, accepted[0], (moment, steps.names[moment]))
        seen.add(accepted[0])
    assert seen == {True, False}


async def test_swept_at_every_moment_of_a_completion(new_stage: NewStage) -> None:
    seen = set()
    steps = await steps_of(new_stage, complete)
    for moment in steps.before_calls:
        stage = await new_stage()
        accepted = await complete(stage, Steps({moment: partial(sweep, stage)}))
        await assert_refused_or_ready(stage, accepted, (moment, steps.names[moment]))
        seen.add(accepted)
    assert seen == {True, False}


@pytest.mark.parametrize("claim_ended", [False, True], ids=["at once", "a day later"])
async def test_completed_after_a_sweep_that_died(new_stage: NewStage, claim_ended: bool) -> None:
    steps = await steps_of(new_stage, sweep)
    for moment in steps.before_calls:
        stage = await new_stage()
        await until_it_dies(sweep(stage, Steps({moment: die})))
        if claim_ended:
            end_claims(stage)
        accepted = await complete(stage)
        end_claims(stage)
        await sweep(stage)
        await assert_refused_or_ready(stage, accepted, (moment, steps.names[moment]))


def end_claims(stage: Stage) -> None:
    """Let claims end, but not the markers of tasks."""
    for marker in stage.client.scan_iter(f"{{{PROCESSING_QUEUE}}}:once:*"):
        if stage.client.get(marker) == "":
            stage.client.delete(marker)


async def test_queued_by_another_service_at_every_moment_of_a_sweep(new_stage: NewStage) -> None:
    steps = await steps_of(new_stage, sweep)
    claimed_at = steps.names.index("after redis claim")
    for moment in steps.before_calls:
        stage = await new_stage()
        await sweep(stage, Steps({moment: partial(queue_as_another_service, stage)}))
        state = await state_of(stage)
        assert state is State.READY or (moment > claimed_at and state is State.FAILED), (moment, steps.names[moment])
        assert keys.incoming(stage.media_id) not in stage.objects, (moment, steps.names[moment])


async def test_completed_before_or_after_a_loss_of_redis_during_a_removal(new_stage: NewStage) -> None:
    names = (await steps_of(new_stage, sweep)).names
    first, removal = names.index("before redis claim"), names.index("before redis read_statuses")
    delete = names.index("before delete", removal)
    losses = (first, first + 2, names.index("before redis find_indexed", first), removal, delete - 2, delete)
    cases = [(lost_at, completed_at, False) for lost_at in losses for completed_at in range(first, delete + 2, 2)]
    cases.remove((delete, delete, False))  # after the last look at Redis, which cannot be repeated without end
    for lost_at, completed_at, completed_first in [*cases, *((lost_at, lost_at, True) for lost_at in losses)]:
        stage, accepted = await new_stage(), list[bool]()
        lose, complete_it = partial(lose_all, stage), completing(stage, accepted)
        acts: dict[int, Act] = {lost_at: lose, completed_at: complete_it}
        if completed_at == lost_at:
            both = (complete_it, lose) if completed_first else (lose, complete_it)
            acts = {lost_at: partial(in_order, *both)}
        with suppress(Unavailable):
            await sweep(stage, Steps(acts))
        if accepted == [True]:
            await sweep(stage)
            assert await state_of(stage) is State.READY, (names[completed_at], names[lost_at], completed_first)


async def lose_all(stage: Stage) -> None:
    stage.client.flushall()
    await stage.replay().ensure_complete()


async def in_order(*acts: Act) -> None:
    for act in acts:
        await act()
