"""An attempt is suspended, its upload is replaced, and another attempt ends: one file is served, not a mix of two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

from avion_media.common import keys
from avion_media.common.errors import LeaseLost, Reason
from avion_media.common.tasks import State, Status
from avion_media.items.state import StatusStore
from tests.crash.stage import SERVED, SIZES, Stage, Steps, manifest_of, open_stages, thumbnail_of
from tests.service.published import key_of

NewStage = Callable[..., Stage]


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    """Yield a function that makes stages with an unprocessed upload."""
    async with open_stages(redis_url) as new:
        yield new


class Overtaken:
    """The events while an attempt is suspended at one moment. After that, another worker owns its task."""

    def __init__(self, happens: Callable[[], Awaitable[None]]) -> None:
        self._happens = happens
        self.happened = False

    async def happen(self) -> None:
        self.happened = True
        await self._happens()

    async def ensure_lease(self) -> None:
        """Fence the suspended attempt."""
        if self.happened:
            raise LeaseLost


async def swapped_and_published(stage: Stage) -> None:
    stage.upload(b"2")
    await stage.process()


async def swapped_and_refused(stage: Stage) -> None:
    stage.upload(head=b"<!DOCTYPE html>")
    await stage.process()


async def poisoned(stage: Stage) -> None:
    await stage.record_failure(Reason.POISON)


async def overtaken_everywhere(
    new_stage: NewStage, happens: Callable[[Stage], Awaitable[None]]
) -> AsyncIterator[tuple[Stage, str]]:
    """Yield the stage of each moment at its end, and the moment."""
    undisturbed = Steps()
    await new_stage().process(undisturbed)
    for moment, name in enumerate(undisturbed.names):
        stage = new_stage()
        other = Overtaken(partial(happens, stage))
        await stage.process(Steps({moment: other.happen}), other.ensure_lease)
        assert other.happened
        yield stage, name


async def state_of(stage: Stage) -> Status:
    status = await StatusStore(stage.redis).get(str(stage.media_id))
    assert status is not None
    return status


async def test_thumbnails_are_of_the_original_that_is_served(new_stage: NewStage) -> None:
    served: set[bytes] = set()
    async for stage, moment in overtaken_everywhere(new_stage, swapped_and_published):
        await stage.process_queued()
        original = stage.objects[keys.original(stage.media_id)]
        served.add(original.data[-1:])
        for size in SIZES:
            thumbnail = stage.objects[keys.thumbnail(stage.media_id, size.name)].data
            assert thumbnail == thumbnail_of(original.data), moment
        credentials = stage.objects.get(keys.credentials(stage.media_id))
        assert credentials is None or credentials.data == manifest_of(original.data), moment
        status = await state_of(stage)
        assert status.state is State.READY
        assert status.facts is not None
        assert status.facts.sha256 == original.metadata["sha256"]
        assert stage.events() == ["media.ready"]
    assert served == {b"1", b"2"}


@pytest.mark.parametrize(("happens", "reason"), [(swapped_and_refused, "unsupported_type"), (poisoned, "poison")])
async def test_nothing_is_served_of_what_was_said_to_have_failed(
    new_stage: NewStage, happens: Callable[[Stage], Awaitable[None]], reason: str
) -> None:
    states: set[State] = set()
    async for stage, moment in overtaken_everywhere(new_stage, happens):
        status = await state_of(stage)
        states.add(status.state)
        if status.state is State.FAILED:
            assert status.reason == reason, moment
            assert not stage.served(), moment
            assert stage.events() == ["media.failed"], moment
        else:
            assert status.state is State.READY, moment
            assert len(stage.served()) == SERVED, moment
            assert stage.events() == ["media.ready"], moment
    assert states == {State.FAILED, State.READY}


async def test_a_poisonous_upload_that_is_replayed_is_served(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.record_failure(Reason.POISON)
    await stage.process()
    assert (await state_of(stage)).state is State.READY
    assert len(stage.served()) == SERVED


@pytest.mark.parametrize("is_file_suspect", [True, False])
async def test_a_client_may_repeat_a_poisonous_upload_if_its_file_is_not_suspect(
    new_stage: NewStage, is_file_suspect: bool
) -> None:
    stage = new_stage()
    await stage.record_failure(Reason.POISON, is_file_suspect=is_file_suspect)
    assert (await state_of(stage)).retryable is not is_file_suspect


async def test_a_poisonous_upload_that_is_published_is_served(new_stage: NewStage) -> None:
    """Three processes died during its task, the last one after its last write."""
    stage = new_stage()
    await stage.process()
    stage.client.delete(key_of("media_status", stage.media_id))
    await stage.record_failure(Reason.POISON)
    assert (await state_of(stage)).state is State.READY
    assert len(stage.served()) == SERVED


async def test_an_attempt_that_was_overtaken_before_it_published_writes_nothing(new_stage: NewStage) -> None:
    undisturbed = Steps()
    await new_stage().process(undisturbed)
    writes = [moment for moment, name in enumerate(undisturbed.names) if name.startswith("before put")]
    looks_for_a_deletion = 2  # moments: before that check and after it
    for moment in range(writes[0] - looks_for_a_deletion):
        stage = new_stage()
        other = Overtaken(partial(swapped_and_published, stage))
        steps = Steps({moment: other.happen})
        await stage.process(steps, other.ensure_lease)
        assert not [name for name in steps.names if name.startswith("before put")], undisturbed.names[moment]


async def test_a_deletion_takes_also_what_is_made_anew(new_stage: NewStage) -> None:
    async def deleted(stage: Stage) -> None:
        await swapped_and_published(stage)
        await stage.delete()
        await stage.remove()

    async for stage, moment in overtaken_everywhere(new_stage, deleted):
        await stage.process_queued()
        assert not stage.served(), moment
