"""A change of the thumbnail sizes: a media item keeps the sizes that were made of it, and its removal deletes all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import cast

import pytest

from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Dependency
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import PURGE_QUEUE, State, Status
from avion_media.items.moderation import ModerationStatus
from avion_media.items.settings import CdnConfig
from avion_media.items.state import StatusStore
from avion_media.media.settings import UploadConfig
from avion_media.servers.api.statuses import StatusResolver
from mediathumbs import ThumbnailSize
from tests.crash.stage import MemoryStore, Stage, Steps, open_stages

NewStage = Callable[..., Stage]
SMALL, LARGE, HUGE = ThumbnailSize("small", 400), ThumbnailSize("large", 1600), ThumbnailSize("huge", 3200)
BEFORE, AFTER = (SMALL, LARGE), (SMALL, HUGE)


@pytest.fixture
async def new_stage(redis_url: str) -> AsyncIterator[NewStage]:
    """Yield a function that makes stages with an unprocessed upload."""
    async with open_stages(redis_url) as new:
        yield new


async def status_of(stage: Stage) -> Status:
    """Return the status of a client now. It must be the same after Redis has lost it."""
    store: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    store.fill(cast("ObjectStore", MemoryStore(stage.objects, Steps())))
    items = stage.items()
    status_store, moderation = items.statuses, ModerationStatus(store)
    await stage.replay().ensure_complete()
    statuses = StatusResolver(stage.replay(), moderation, UploadConfig())
    now = await statuses.resolve(stage.media_id)
    await status_store.forget(str(stage.media_id))
    assert await statuses.resolve(stage.media_id) == now
    return now


def there(stage: Stage) -> set[str]:
    """Return the sizes of the thumbnails in the store."""
    found = {key.split("/")[1] for key in stage.objects if key.startswith(keys.THUMBNAIL_PREFIX)}
    assert {keys.thumbnail(stage.media_id, size) for size in found} <= set(stage.objects)
    return found


def forget_sizes(stage: Stage) -> None:
    """Remove the names of sizes from the original, as if an earlier version had made it."""
    key = keys.original(stage.media_id)
    stored = stage.objects[key]
    metadata = {name: value for name, value in stored.metadata.items() if name != "thumbnails"}
    stage.objects[key] = replace(stored, metadata=metadata)


async def test_a_status_names_the_sizes_that_were_made(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.sizes = BEFORE
    await stage.process()
    stage.sizes = AFTER
    assert (await status_of(stage)).thumbnails.keys() == {"small", "large"} == there(stage)
    await stage.process()  # the task comes again, and announces what an earlier attempt has published
    assert (await status_of(stage)).thumbnails.keys() == {"small", "large"}


async def test_the_configured_sizes_are_told_of_an_original_that_names_none(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    forget_sizes(stage)
    await StatusStore(stage.redis).forget(str(stage.media_id))
    assert (await status_of(stage)).thumbnails.keys() == {size.name for size in stage.sizes}


@pytest.mark.parametrize("left", ["all", "no names of sizes", "no original"])
async def test_a_removal_takes_thumbnails_of_sizes_that_are_not_configured_any_more(
    new_stage: NewStage, left: str
) -> None:
    stage = new_stage()
    stage.sizes = BEFORE
    await stage.process()
    stage.sizes = AFTER
    if left == "no names of sizes":
        forget_sizes(stage)
    elif left == "no original":  # the removal ended between one object and the next
        del stage.objects[keys.original(stage.media_id)]
    await stage.delete()
    await stage.remove()
    assert not stage.left_after_a_death()


async def test_a_removal_asks_the_store_twice(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.process()
    await stage.delete()
    steps = Steps()
    await stage.remove(steps)
    calls = [name for name in steps.names if name.startswith("before") and "redis" not in name]
    assert calls == [f"before head {keys.original(stage.media_id)}", "before delete"]


async def test_a_removal_says_which_sizes_to_purge(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.cdn = CdnConfig(purge_urls=("http://cdn.example",))
    stage.sizes = BEFORE
    await stage.process()
    stage.sizes = AFTER
    await stage.delete()
    await stage.remove()
    named = [fields.get("sizes") for _, fields in stage.client.xrange(PURGE_QUEUE)]
    # The first names none, while its original is there to ask. The second adds what today's settings might have made.
    assert named == [None, "small,large,small.webp,huge,huge.webp,full,full.webp"]


async def test_attempts_of_two_configurations_leave_what_the_status_names(new_stage: NewStage) -> None:
    steps = Steps()
    await new_stage().process(steps)
    for moment in range(steps.count):
        stage = new_stage()

        async def overtake(stage: Stage = stage) -> None:
            stage.sizes = AFTER
            await stage.process()

        stage.sizes = BEFORE
        await stage.process(Steps({moment: overtake}))
        status = await status_of(stage)
        assert status.state is State.READY
        assert status.thumbnails.keys() == there(stage), steps.names[moment]
        await stage.delete()
        await stage.remove()
        assert not stage.objects, steps.names[moment]


async def test_a_deletion_at_every_moment_of_an_attempt_of_another_configuration(new_stage: NewStage) -> None:
    steps = Steps()
    await new_stage().process(steps)
    for moment in range(steps.count):
        stage = new_stage()

        async def delete(stage: Stage = stage) -> None:
            stage.sizes = AFTER
            await stage.delete()
            await stage.remove()

        stage.sizes = BEFORE
        await stage.process(Steps({moment: delete}))
        assert not stage.objects, steps.names[moment]
