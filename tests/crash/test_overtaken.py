"""An attempt stands still, its upload is replaced, and another one comes to its end: one file is served, not two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from avion_media.domain import keys
from avion_media.domain.errors import LeaseLost
from avion_media.domain.tasks import State
from avion_media.queue import StatusBoard
from tests.crash.stage import SIZES, Stage, Steps, open_stages, thumbnail_of

NewStage = Callable[..., Stage]


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    """An upload that nobody has worked on, each time."""
    async with open_stages(redis_url) as new:
        yield new


class Overtaken:
    """What happens to an attempt while it stands still at one moment."""

    def __init__(self, stage: Stage, *, deleted: bool = False) -> None:
        self._stage = stage
        self._deleted = deleted
        self.happened = False

    async def happen(self) -> None:
        self._stage.upload(b"2")
        self.happened = True
        await self._stage.process()
        if self._deleted:
            await self._stage.drop()
            await self._stage.remove()

    async def confirm(self) -> None:
        """The fence of the attempt that stood still."""
        if self.happened:
            raise LeaseLost


async def test_thumbnails_are_of_the_original_that_is_served(new_stage: NewStage) -> None:
    steps = Steps()
    await new_stage().process(steps)
    served: set[bytes] = set()
    for moment in range(steps.count):
        stage = new_stage()
        other = Overtaken(stage)
        await stage.process(Steps({moment: other.happen}), other.confirm)
        assert other.happened
        original = stage.objects[keys.original(stage.media_id)].data
        served.add(original[-1:])
        for size in SIZES:
            thumbnail = stage.objects[keys.thumbnail(stage.media_id, size.name)].data
            assert thumbnail == thumbnail_of(original), steps.names[moment]
        status = await StatusBoard(stage.redis).get(str(stage.media_id))
        assert status is not None
        assert status.state is State.READY
        assert status.facts is not None
        assert status.facts.sha256 == stage.objects[keys.original(stage.media_id)].metadata["sha256"]
        assert stage.events() == ["media.ready"]
    assert served == {b"1", b"2"}


async def test_an_attempt_that_was_overtaken_before_it_published_writes_nothing(new_stage: NewStage) -> None:
    undisturbed = Steps()
    await new_stage().process(undisturbed)
    writes = [moment for moment, name in enumerate(undisturbed.names) if name.startswith("before put")]
    looks_for_a_tombstone = 2  # moments: before that look and after it
    for moment in range(writes[0] - looks_for_a_tombstone):
        stage = new_stage()
        other = Overtaken(stage)
        steps = Steps({moment: other.happen})
        await stage.process(steps, other.confirm)
        assert not [name for name in steps.names if name.startswith("before put")], undisturbed.names[moment]


async def test_a_deletion_takes_also_what_an_overtaken_attempt_makes_again(new_stage: NewStage) -> None:
    steps = Steps()
    await new_stage().process(steps)
    for moment in range(steps.count):
        stage = new_stage()
        other = Overtaken(stage, deleted=True)
        await stage.process(Steps({moment: other.happen}), other.confirm)
        assert not stage.served(), steps.names[moment]
