"""The reconciliation on a real Redis and a real Ceph. The clock is moved, not waited for."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import trio
from structlog.testing import capture_logs

from avion_media.backends.queue import QueueKeys, TaskQueue
from avion_media.backends.queue.task_scan import Visit, scan_tasks
from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.settings import RedisConfig, RemoteConfig
from avion_media.backends.store import ObjectInfo, ObjectStore, open_store
from avion_media.common import keys
from avion_media.common.errors import Dependency, ObjectMissing, Reason, Unavailable
from avion_media.common.formats import JPEG
from avion_media.common.ids import AnyId, MediaId, RemoteId, new_media_id
from avion_media.common.media import owner_metadata
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE, PURGE_QUEUE, State, Status
from avion_media.config import Config
from avion_media.items.deletion import DeletionJournal, DeletionRecords, JournalReplay, RemoveDeleted
from avion_media.items.item import Items
from avion_media.items.moderation import Moderation, Unwanted
from avion_media.items.moderation.blocking import claim_of
from avion_media.items.moderation.records import HELD, Held, moment
from avion_media.items.state import RemoteStateStore, RemoteUse, StatusStore
from avion_media.items.state.sweep_state import Cursor, SweepPart, SweepRecord, SweepState
from avion_media.workers.settings import SweepConfig
from avion_media.workers.sweep import Reconciliation, Report, SweepDecision, SweepReason
from avion_media.workers.sweep.checks import IndexCheck
from tests.conftest import S3Bucket
from tests.remote_ids import knowing, remote_id_for
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.service.published import key_of

Client = Any  # redis-py's types allow for options that no test here uses
HOUR = 3600.0


def an_upload() -> MediaId:
    return new_media_id(JPEG, int(datetime.now(UTC).timestamp() * 1000))


def a_remote() -> RemoteId:
    return remote_id_for(f"https://remote.example/{secrets.token_hex(8)}.jpg")


@dataclass
class World:
    """Store and Redis as the reconciliation sees them, and as an independent client does."""

    bucket: S3Bucket
    other: Client
    store: ResourceSlot[ObjectStore]
    redis: Redis
    config: Config
    statuses: StatusStore
    hours: float = 0.0
    seen: list[SweepDecision] = field(default_factory=list)

    def put(self, key: str, body: bytes = b"x") -> None:
        """An object, written now; an original with its index object."""
        written = {key: body}
        if key.startswith((keys.ORIGINAL_PREFIX, keys.CACHED_REMOTE_PREFIX)):
            name = key.rpartition("/")[2].partition(".")[0]
            written = {f"{keys.SIZE_PREFIX}{len(body)}/{name}": b"", **written}
        for each, data in written.items():
            self.bucket.client.put_object(Bucket=self.bucket.bucket, Key=each, Body=data)

    def put_medium(self, any_id: AnyId, *, size: int = 1) -> None:
        """Original and two thumbnails."""
        self.put(keys.original(any_id), b"o" * size)
        self.put(keys.thumbnail(any_id, "small"))
        self.put(keys.thumbnail(any_id, "large"))

    def keys(self) -> set[str]:
        """All that is in the bucket, without the index of copies and the audit log."""
        listing = self.bucket.client.list_objects_v2(Bucket=self.bucket.bucket)
        found = {each["Key"] for each in listing.get("Contents", ())}
        return {key for key in found if not key.startswith("audit/")} - self.indexed()

    def indexed(self) -> set[str]:
        """The index of copies."""
        prefixes = (keys.SHA256_PREFIX, keys.SIZE_PREFIX)
        listings = [self.bucket.client.list_objects_v2(Bucket=self.bucket.bucket, Prefix=each) for each in prefixes]
        return {each["Key"] for listing in listings for each in listing.get("Contents", ())}

    def clock(self) -> datetime:
        """Now, moved by ``hours``."""
        return datetime.now(UTC) + timedelta(hours=self.hours)

    def replay(self) -> JournalReplay:
        items = knowing(Items(self.store, self.redis, self.config.thumbnails.sizes))
        return JournalReplay(items, DeletionJournal(self.store, self.config.delete.delay))

    def reconciliation(self, **options: Any) -> Reconciliation:
        return Reconciliation(self.replay(), self.config, clock=self.clock, **options)

    async def sweep(self, *, hours: float, **options: Any) -> Report:
        """One pass, ``hours`` from now."""
        self.hours = hours
        return await self.reconciliation().run(observe=self.seen.append, **options)

    def queued(self, queue: str = PROCESSING_QUEUE) -> list[dict[str, str]]:
        """The tasks in a stream."""
        return [fields for _, fields in self.other.xrange(queue)]


@pytest.fixture
async def world(s3: S3Bucket, redis_url: str) -> AsyncIterator[World]:
    """An empty store, and a Redis that has never lost data."""
    config = Config(
        s3=s3.config(),
        redis=RedisConfig(url=redis_url),
        sweep=SweepConfig(rate=1000.0),
        remote=RemoteConfig(ttl=7 * 24 * HOUR),
    )
    store_slot: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as other:
        other.hset("media_sweep", "complete_since", "0")
        async with open_store(config.s3) as store, open_redis(redis_url) as redis:
            with store_slot.filled(store):
                yield World(s3, other, store_slot, redis, config, StatusStore(redis))


async def test_an_upload_that_was_never_completed_goes_once_nobody_can_complete_it(world: World) -> None:
    upload = an_upload()
    world.put(keys.incoming(upload))
    assert (await world.sweep(hours=1.1)).done == {}
    report = await world.sweep(hours=1.5)
    assert report.done[SweepReason.ABANDONED].objects == 1
    assert world.keys() == set()


async def test_a_completed_upload_whose_task_is_lost_is_queued_again_once(world: World) -> None:
    upload = an_upload()
    world.put(keys.incoming(upload))
    await world.statuses.put(Status(str(upload), State.PROCESSING), ttl_s=HOUR)
    assert (await world.sweep(hours=0.9)).done == {}
    assert (await world.sweep(hours=1.5)).done[SweepReason.LOST_TASK].media == 1
    assert (await world.sweep(hours=1.5)).done == {}
    (task,) = world.queued()
    assert task["media_id"] == str(upload)
    assert task["type"] == "thumbnail"
    assert world.keys() == {keys.incoming(upload)}


async def test_a_completion_that_comes_between_decision_and_action_makes_no_second_task(world: World) -> None:
    upload = an_upload()
    world.put(keys.incoming(upload))
    await world.statuses.put(Status(str(upload), State.PROCESSING), ttl_s=HOUR)
    world.hours = 2
    decisions: list[SweepDecision] = []
    reconciliation = world.reconciliation()
    looked_at = reconciliation.clock()
    await reconciliation.run(dry_run=True, observe=decisions.append)
    await TaskQueue(world.redis, PROCESSING_QUEUE).enqueue(
        {"media_id": str(upload), "type": "thumbnail"}, task_id="of the client", dedup_key=str(upload)
    )
    await reconciliation.actions.requeue(decisions[0], looked_at)
    assert [task["task_id"] for task in world.queued()] == ["of the client"]


@pytest.mark.parametrize("location", ["waiting", "running", "delayed", "given up"])
async def test_an_upload_that_a_task_names_is_left_alone_though_the_queue_never_had_a_janitor(
    world: World, location: str
) -> None:
    upload = an_upload()
    world.put(keys.incoming(upload))
    await world.statuses.put(Status(str(upload), State.FAILED, Reason.INTERNAL), ttl_s=HOUR)
    # As another service writes it, without any marker of ours.
    world.other.xadd(PROCESSING_QUEUE, {"task_id": "t", "media_id": str(upload), "type": "thumbnail"})
    queue = TaskQueue(world.redis, PROCESSING_QUEUE)
    await queue.ensure_group()
    if location != "waiting":
        lease = await queue.take("worker", block_s=1)
        assert lease is not None
        if location == "delayed":
            await lease.retry(HOUR, "boom")
        elif location == "given up":
            await lease.dead_letter("boom")
    assert world.other.hget(QueueKeys(PROCESSING_QUEUE).state, "last") is None
    assert (await world.sweep(hours=100)).done == {}
    assert world.keys() == {keys.incoming(upload)}


async def test_what_was_processed_loses_its_upload_and_nothing_else(world: World) -> None:
    upload = an_upload()
    world.put_medium(upload)
    before = world.keys()
    world.put(keys.incoming(upload))
    await world.statuses.put(Status(str(upload), State.READY), ttl_s=HOUR)
    assert (await world.sweep(hours=0.5)).done == {}
    assert (await world.sweep(hours=2)).done[SweepReason.LEFTOVER].objects == 1
    assert world.keys() == before


async def test_when_redis_has_lost_its_memory_uploads_are_processed_at_once(world: World) -> None:
    upload = an_upload()
    world.put(keys.incoming(upload))
    world.other.flushall()
    assert (await world.sweep(hours=0.01)).done[SweepReason.LOST_TASK].media == 1
    assert [task["media_id"] for task in world.queued()] == [str(upload)]
    status = await world.statuses.get(str(upload))
    assert status is not None
    assert status.state is State.PROCESSING
    # What comes after that is remembered.
    later = an_upload()
    world.other.hset("media_sweep", "complete_since", str(datetime.now(UTC).timestamp() - 600))
    world.put(keys.incoming(later))
    assert (await world.sweep(hours=2)).done[SweepReason.ABANDONED].media == 1


async def test_lost_uploads_are_queued_before_anything_else_is_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (an_upload(), new_media_id(JPEG, 1_700_000_000_000)):
        world.put(keys.incoming(each))
    world.other.flushall()
    store, queued = world.store.get(), dict[str, int]()
    listed = store.list

    def note(prefix: str, *args: Any, **options: Any) -> Any:
        queued.setdefault(prefix, world.other.xlen(PROCESSING_QUEUE))
        return listed(prefix, *args, **options)

    monkeypatch.setattr(store, "list", note)
    await world.sweep(hours=0.01)
    assert queued[keys.INCOMING_PREFIX] == 0
    assert {queued[each] for each in (keys.ORIGINAL_PREFIX, keys.THUMBNAIL_PREFIX, keys.CACHED_REMOTE_PREFIX)} == {2}


async def test_newer_uploads_come_before_older_ones(world: World) -> None:
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    by_age = [new_media_id(JPEG, now_ms - days * 86_400_000) for days in (0, 2, 10, 40, 200, 1000)]
    for each in by_age:
        world.put(keys.thumbnail(each, "small"))
    report = await world.sweep(hours=2)
    assert [each.medium.name for each in world.seen] == [str(each) for each in by_age]
    assert report.listed == len(by_age)


def fail_over(world: World) -> None:
    """As if another server had come to be in charge of the queue, without what was acknowledged last."""
    world.other.hset(QueueKeys(PROCESSING_QUEUE).state, "run_id", "another")


async def test_after_a_failover_an_upload_that_may_have_been_completed_is_processed(world: World) -> None:
    """Its task and its status were acknowledged, and not replicated; the stream, its group and the rest are there."""
    upload = an_upload()
    await world.sweep(hours=0)
    world.put(keys.incoming(upload))
    fail_over(world)
    assert (await world.sweep(hours=0.01, dry_run=True)).done[SweepReason.LOST_TASK].media == 1
    assert (await world.sweep(hours=0.01)).done[SweepReason.LOST_TASK].media == 1
    assert [task["media_id"] for task in world.queued()] == [str(upload)]
    assert world.keys() == {keys.incoming(upload)}


async def test_an_upload_as_old_as_the_loss_is_processed_however_the_clocks_differ(world: World) -> None:
    upload = an_upload()
    world.other.hset("media_sweep", "complete_since", str(datetime.now(UTC).timestamp() - 60))
    world.put(keys.incoming(upload))
    assert (await world.sweep(hours=0.5)).done == {}
    assert (await world.sweep(hours=2)).done[SweepReason.LOST_TASK].media == 1
    assert world.keys() == {keys.incoming(upload)}


async def test_a_failover_during_a_pass_ends_it_before_anything_is_removed(world: World) -> None:
    world.put(keys.incoming(an_upload()))
    before = world.keys()
    world.hours = 2
    reconciliation = world.reconciliation()
    listing = reconciliation.limiter.acquire

    async def fail_over_then_list() -> None:
        fail_over(world)
        await listing()

    queue = TaskQueue(world.redis, PROCESSING_QUEUE)
    await SweepState(world.redis).history_complete_since(queue, world.clock(), remember=True)
    reconciliation.limiter.acquire = fail_over_then_list  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="lost data"):
        await reconciliation.run()
    assert world.keys() == before
    assert (await world.sweep(hours=2)).done[SweepReason.LOST_TASK].media == 1


async def test_a_new_redis_is_not_called_a_loss(world: World) -> None:
    queue, state = TaskQueue(world.redis, PROCESSING_QUEUE), SweepState(world.redis)
    world.other.flushdb()
    with capture_logs() as logged:
        await queue.take("a", 0)  # makes its group
        await state.history_complete_since(queue, world.clock(), remember=True)
        fail_over(world)
        await state.history_complete_since(queue, world.clock(), remember=True)
    assert [each["event"] for each in logged] == ["sweep.redis_found_empty", "sweep.redis_data_lost"]


async def test_the_loss_of_another_queue_is_none_of_uploads(world: World) -> None:
    world.put(keys.incoming(an_upload()))
    await TaskQueue(world.redis, PURGE_QUEUE).take("a", 0)  # makes its group
    assert (await world.sweep(hours=0.5)).done == {}
    assert (await world.sweep(hours=2)).done[SweepReason.ABANDONED].media == 1


async def test_a_dry_run_does_nothing_and_remembers_nothing(world: World) -> None:
    world.other.flushall()
    world.put(keys.incoming(an_upload()))
    world.put(keys.thumbnail(an_upload(), "small"))
    before = world.keys()
    report = await world.sweep(hours=30, dry_run=True)
    assert {reason: counts.media for reason, counts in report.done.items()} == {
        SweepReason.LOST_TASK: 1,
        SweepReason.ORPHAN: 1,
    }
    assert world.keys() == before
    assert world.other.keys() == []


async def test_thumbnails_and_credentials_without_original_go_those_of_former_sizes_too(world: World) -> None:
    upload, remote, whole = an_upload(), a_remote(), an_upload()
    world.put_medium(whole)
    world.put(keys.thumbnail(whole, "formersize"))
    world.put(keys.credentials(whole))
    before = world.keys()
    for any_id in (upload, remote):
        for size in ("small", "formersize"):
            world.put(keys.thumbnail(any_id, size))
        world.put(keys.credentials(any_id))
    assert (await world.sweep(hours=0.5)).done == {}
    report = await world.sweep(hours=1.5)
    assert (report.done[SweepReason.ORPHAN].media, report.done[SweepReason.ORPHAN].objects) == (2, 6)
    assert world.keys() == before


async def test_remote_media_go_when_their_time_is_over(world: World) -> None:
    remote, refreshed = a_remote(), a_remote()
    world.put_medium(remote)
    world.put_medium(refreshed)
    world.put(keys.credentials(remote))
    await world.statuses.put(Status(str(remote), State.READY), ttl_s=HOUR)
    assert (await world.sweep(hours=24 * 6)).done == {}
    report = await world.sweep(hours=24 * 8)
    assert (report.done[SweepReason.EXPIRED].media, report.done[SweepReason.EXPIRED].objects) == (2, 7)
    assert world.keys() == set()
    assert await world.statuses.get(str(remote)) is None


async def test_remote_media_that_are_asked_for_stay(world: World) -> None:
    used, unused = a_remote(), a_remote()
    for each in (used, unused):
        world.put_medium(each)
    await RemoteStateStore(world.redis).mark_used(used, RemoteUse(datetime.now(UTC) + timedelta(days=3), 7 * 24 * HOUR))
    assert (await world.sweep(hours=24 * 8)).done[SweepReason.EXPIRED].media == 1
    assert {keys.original(used)} <= world.keys()
    assert (await world.sweep(hours=24 * 9.9)).done == {}
    assert (await world.sweep(hours=24 * 10.1)).done[SweepReason.EXPIRED].media == 1
    assert world.keys() == set()


async def test_a_use_after_the_decision_spares_it(world: World) -> None:
    remote = a_remote()
    world.put_medium(remote)
    before = world.keys()
    await world.sweep(hours=24 * 8, dry_run=True)
    (decision,) = world.seen
    assert decision.reason is SweepReason.EXPIRED
    await RemoteStateStore(world.redis).mark_used(remote, RemoteUse(world.clock(), HOUR))
    assert not await world.reconciliation().actions.remove(decision)
    assert world.keys() == before


async def test_a_remote_medium_that_is_being_fetched_again_stays(world: World) -> None:
    url = "https://remote.example/picture.jpg"
    world.put_medium(remote_id_for(url))
    task = {"task_id": "t", "remote_url": "HTTPS://Remote.example:443/picture.jpg"}
    entry_id = world.other.xadd(CACHE_QUEUE, task)
    assert (await world.sweep(hours=24 * 8)).done == {}
    world.config = world.config.model_copy(update={"remote": RemoteConfig(budget=1, max_bytes=1)})
    assert (await world.sweep(hours=1)).done == {}
    # A fetch that was given up keeps nothing alive.
    world.other.xdel(CACHE_QUEUE, entry_id)
    world.other.xadd(f"{{{CACHE_QUEUE}}}:dlq", task)
    assert set((await world.sweep(hours=24 * 8)).done) == {SweepReason.EXPIRED}


async def test_a_cache_over_its_budget_loses_its_oldest(world: World) -> None:
    media = [a_remote() for _ in range(3)]
    for each in media:
        world.put_medium(each, size=998)  # 1000 bytes with its thumbnails
    world.config = world.config.model_copy(update={"remote": RemoteConfig(budget=2500, max_bytes=2500)})
    report = await world.sweep(hours=0.1)
    assert report.done[SweepReason.OVER_BUDGET].size_bytes == 1000
    left = world.keys()
    assert keys.original(media[0]) not in left
    assert len(left) == 6
    assert (await world.sweep(hours=0.1)).done == {}


async def test_a_deletion_whose_task_is_lost_is_queued_again(world: World) -> None:
    upload = an_upload()
    world.put_medium(upload)
    await DeletionRecords(world.redis).mark([str(upload)], delay_s=24 * HOUR, position="1-0")
    assert (await world.sweep(hours=24.5)).done == {}
    assert (await world.sweep(hours=25.5)).done[SweepReason.OVERDUE_DELETION].media == 1
    assert (await world.sweep(hours=25.5)).done == {}
    ((member, due),) = world.other.zrange(f"{{{DELETE_QUEUE}}}:delayed", 0, -1, withscores=True)
    assert str(upload) in member
    assert due <= world.clock().timestamp()
    assert len(world.keys()) == 3


@pytest.mark.parametrize("original", [True, False], ids=["whole", "without its original"])
async def test_a_deletion_that_is_queued_again_takes_all_that_is_left(world: World, original: bool) -> None:
    """Those of sizes that are not configured any more too: else it would be queued again by each pass."""
    upload = an_upload()
    world.put_medium(upload)
    world.put(keys.thumbnail(upload, "former"))
    if not original:
        world.bucket.client.delete_object(Bucket=world.bucket.bucket, Key=keys.original(upload))
    await DeletionRecords(world.redis).mark([str(upload)], delay_s=24 * HOUR, position="1-0")
    assert (await world.sweep(hours=25.5)).done[SweepReason.OVERDUE_DELETION].media == 1
    await remove_what_is_due(world)
    assert world.keys() == set()
    assert (await world.sweep(hours=25.5)).done == {}


async def test_what_lies_elsewhere_under_the_name_of_a_deleted_medium_is_foreign(world: World) -> None:
    upload = an_upload()
    world.put(f"thumbnail/small/elsewhere/{upload}.png")
    await DeletionRecords(world.redis).mark([str(upload)], delay_s=24 * HOUR, position="1-0")
    report = await world.sweep(hours=25.5)
    assert (report.done, report.unrecognized) == ({}, 1)


async def remove_what_is_due(world: World) -> None:
    """The tasks that remove media, as if their time had come."""
    for key in world.other.scan_iter("media_deletion:*"):
        world.other.hset(key, "due", 0)
    delayed = f"{{{DELETE_QUEUE}}}:delayed"
    world.other.zadd(delayed, dict.fromkeys(world.other.zrange(delayed, 0, -1), 0.0))
    queue = TaskQueue(world.redis, DELETE_QUEUE)
    handler = RemoveDeleted(world.replay(), removed_ttl_s=HOUR)
    await queue.promote()
    while (lease := await queue.take("remover", block_s=0)) is not None:
        await handler.run(lease.task, lease.renew)
        await lease.complete()


async def test_a_medium_that_is_well_is_not_touched_and_foreign_objects_never(world: World) -> None:
    world.put_medium(an_upload())
    world.put_medium(a_remote())
    unknown_format = "0" * 12 + "Z" * 14
    for key in ("incoming/readme.txt", f"incoming/{unknown_format}", "original/2026/01/01/notes", "cached_remote/ab",
                "thumbnail/small/odd.jpg", "thumbnail/loose", "backup/2026.tar"):  # fmt: skip
        world.put(key)
    before = world.keys()
    report = await world.sweep(hours=24 * 6)
    assert (report.done, report.skipped) == ({}, 0)
    assert report.unrecognized >= 5
    assert world.keys() == before


async def test_more_than_a_fraction_is_refused_without_force(world: World) -> None:
    world.config = world.config.model_copy(
        update={"sweep": SweepConfig(rate=1000.0, max_fraction=0.5, always_allowed=2)}
    )
    lost = an_upload()
    world.put(keys.incoming(lost))
    await world.statuses.put(Status(str(lost), State.PROCESSING), ttl_s=HOUR)
    for _ in range(3):
        world.put(keys.thumbnail(an_upload(), "small"))
    before = world.keys()

    would_be = await world.sweep(hours=2, dry_run=True)
    assert would_be.done[SweepReason.ORPHAN].objects == 3
    assert len(would_be.refusals) == 1

    report = await world.sweep(hours=2)
    (refusal,) = report.refusals
    assert (refusal.part, refusal.wanted, refusal.allowed, refusal.listed) == (SweepPart.UPLOADS, 3, 2, 4)
    assert world.keys() == before
    assert set(report.done) == {SweepReason.LOST_TASK}  # which cannot do harm

    assert not (await world.sweep(hours=2, force=True)).refusals
    assert world.keys() == {keys.incoming(lost)}


async def test_small_pages_and_batches_come_to_the_same_end(world: World) -> None:
    well = [an_upload() for _ in range(3)] + [a_remote() for _ in range(2)]
    for each in well:
        world.put_medium(each)
    before = world.keys()
    orphans: list[AnyId] = [*(an_upload() for _ in range(4)), *(a_remote() for _ in range(3))]
    for each in orphans:
        world.put(keys.thumbnail(each, "small"))
    world.hours = 1.5
    report = await world.reconciliation(batch=2, page_size=2).run()
    assert report.done[SweepReason.ORPHAN].media == len(orphans)
    assert report.listed == len(before) + len(orphans)
    assert world.keys() == before


async def test_a_pass_that_was_interrupted_goes_on_where_it_was(world: World) -> None:
    orphans: list[AnyId] = [*(an_upload() for _ in range(5)), *(a_remote() for _ in range(5))]
    for each in orphans:
        world.put(keys.thumbnail(each, "small"))
    world.hours = 1.5
    state = SweepState(world.redis)
    ended: list[str] = []
    passes = 0

    async def interrupted(cursor: Cursor) -> None:
        await state.save(cursor)
        raise Unavailable(Dependency.STORE)

    while len(ended) < len(orphans):
        passes += 1
        start = (await state.read()).cursor or Cursor()
        with pytest.raises(Unavailable) if passes < 4 else trio.fail_after(60):
            await world.reconciliation(batch=2).run(
                start=start,
                checkpoint=interrupted if passes < 4 else state.save,
                observe=lambda decision: ended.append(decision.medium.name),
            )
    assert passes == 4
    assert sorted(ended) == sorted(map(str, orphans))  # each once
    assert world.keys() == set()


async def test_a_cursor_passes_over_what_lies_before(world: World) -> None:
    uploads = sorted((an_upload() for _ in range(3)), key=str)
    media: list[AnyId] = [*uploads, a_remote()]
    for each in media:
        world.put_medium(each)
    assert (await world.sweep(hours=0)).listed == 12
    assert (await world.sweep(hours=0, start=Cursor(SweepPart.UPLOADS, uploads[1]))).listed == 6
    assert (await world.sweep(hours=0, start=Cursor(SweepPart.REMOTE))).listed == 3


async def test_a_cursor_that_nobody_can_read_begins_anew(world: World) -> None:
    state = SweepState(world.redis)
    assert (await state.read()).cursor is None
    world.other.hset("media_sweep", mapping={"part": "uploads", "after": "nonsense"})
    assert (await state.read()).cursor == Cursor()
    world.other.hset("media_sweep", mapping={"part": "of a later version", "finished_at": time.time()})
    assert await state.read() == SweepRecord()
    queue = TaskQueue(world.redis, PROCESSING_QUEUE)
    await state.history_complete_since(queue, datetime.now(UTC), remember=True)
    assert world.other.hkeys("media_sweep") == ["complete_since"]  # a sweep is due, once
    await state.save(Cursor(SweepPart.REMOTE, a_remote()))
    await state.finish(datetime.now(UTC))
    assert (await state.read()).cursor is None


async def test_media_with_a_task_key_need_no_walk_over_the_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[str] = []

    async def walk(redis: Redis, queue: str, visit: Visit) -> bool:
        walks.append(queue)
        return await scan_tasks(redis, queue, visit)

    monkeypatch.setattr("avion_media.backends.queue.task_scan.scan_tasks", walk)
    waiting, abandoned, deleted = an_upload(), an_upload(), an_upload()
    world.put(keys.incoming(waiting))
    await world.statuses.put(Status(str(waiting), State.PROCESSING), ttl_s=HOUR)
    await TaskQueue(world.redis, PROCESSING_QUEUE).enqueue({"media_id": str(waiting)}, dedup_key=str(waiting))
    assert (await world.sweep(hours=30)).done == {}
    assert walks == []
    world.put(keys.incoming(abandoned))
    world.put(keys.original(deleted))
    await DeletionRecords(world.redis).mark([str(deleted)], delay_s=24 * HOUR, position="1-0")
    report = await world.sweep(hours=30)
    assert {reason: counts.media for reason, counts in report.done.items()} == {
        SweepReason.ABANDONED: 1,
        SweepReason.OVERDUE_DELETION: 1,
    }
    assert walks == [PROCESSING_QUEUE, PROCESSING_QUEUE]  # the last after the claim


async def test_the_key_of_a_task_that_was_lost_does_not_count(world: World) -> None:
    upload = an_upload()
    world.put(keys.incoming(upload))
    await world.statuses.put(Status(str(upload), State.PROCESSING), ttl_s=HOUR)
    await TaskQueue(world.redis, PROCESSING_QUEUE).enqueue({"media_id": str(upload)}, dedup_key=str(upload))
    world.other.delete(PROCESSING_QUEUE)
    fail_over(world)
    assert (await world.sweep(hours=2)).done[SweepReason.LOST_TASK].media == 1
    assert [task["media_id"] for task in world.queued()] == [str(upload)]


def _processing_again(world: World, any_id: AnyId) -> None:
    world.other.set(key_of("media_status", any_id), "P")


def _published_after_all(world: World, any_id: AnyId) -> None:
    world.put(keys.original(any_id))


def _fetched_again(world: World, any_id: AnyId) -> None:
    world.put(keys.original(any_id), b"newer")


@pytest.mark.parametrize(
    ("any_id", "prepare", "hours", "meanwhile"),
    [
        (an_upload(), lambda world, each: world.put(keys.incoming(each)), 2, _processing_again),
        (an_upload(), lambda world, each: world.put(keys.thumbnail(each, "small")), 2, _published_after_all),
        (an_upload(), lambda world, each: world.put(keys.thumbnail(each, "small")), 2, _processing_again),
        (a_remote(), lambda world, each: world.put_medium(each), 24 * 8, _fetched_again),
    ],
    ids=["completed", "published", "being published", "fetched"],
)
@pytest.mark.parametrize("when", ["before its turn", "while it waits for its turn"])
async def test_what_changes_between_decision_and_removal_is_spared(
    world: World,
    any_id: AnyId,
    prepare: Callable[[World, AnyId], None],
    hours: float,
    meanwhile: Callable[[World, AnyId], None],
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait() -> None:
        meanwhile(world, any_id)

    prepare(world, any_id)
    before = world.keys()
    world.hours = hours
    decisions: list[SweepDecision] = []
    reconciliation = world.reconciliation()
    await reconciliation.run(dry_run=True, observe=decisions.append)
    (decision,) = decisions
    if when == "before its turn":
        meanwhile(world, any_id)
    else:
        monkeypatch.setattr(reconciliation.limiter, "acquire", wait)
    assert not await reconciliation.actions.remove(decision)
    assert before <= world.keys()


async def test_a_remote_medium_that_is_found_a_moment_before_it_goes_is_not_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = a_remote()
    world.put_medium(remote)
    store = world.store.get()
    delete = store.delete

    async def say_and_delete(to_delete: list[str]) -> None:
        await world.statuses.put(Status(str(remote), State.READY), ttl_s=HOUR)
        await delete(to_delete)

    monkeypatch.setattr(store, "delete", say_and_delete)
    assert (await world.sweep(hours=24 * 8)).done[SweepReason.EXPIRED].media == 1
    assert await world.statuses.get(str(remote)) is None


def _unreadable(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, bad: str) -> None:
    """Let the store fail for one key."""
    head = store.head

    async def fail_for_one(key: str) -> ObjectInfo:
        if key == bad:
            raise Unavailable(Dependency.OBJECT, f"{key}: 500")
        return await head(key)

    monkeypatch.setattr(store, "head", fail_for_one)


async def test_a_sweep_passes_over_what_the_store_cannot_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, *others = sorted((a_remote() for _ in range(3)), key=str)
    for each in (bad, *others):
        world.put_medium(each)
    with monkeypatch.context() as patch:
        _unreadable(patch, world.store.get(), keys.original(bad))
        report = await world.sweep(hours=24 * 8)
    assert (report.done[SweepReason.EXPIRED].media, report.skipped) == (2, 1)
    assert report.warnings == [
        f"objects that cannot be read or removed were skipped, the first: {keys.original(bad)}: 500"
    ]
    assert (await world.sweep(hours=24 * 8)).done[SweepReason.EXPIRED].media == 1


async def test_an_index_object_whose_original_cannot_be_read_is_checked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = new_media_id(JPEG, 1_700_000_000_000)
    world.put(keys.owned("dave", owned, 5), b"")
    with monkeypatch.context() as patch:
        _unreadable(patch, world.store.get(), keys.original(owned))
        report = await world.sweep(hours=2)
    assert (SweepReason.DISOWNED in report.done, report.skipped) == (False, 1)
    assert {keys.owned("dave", owned, 5)} <= world.keys()
    assert (await world.sweep(hours=4)).done[SweepReason.DISOWNED].objects == 1
    assert world.keys() == set()


async def test_an_index_object_stays_while_a_task_may_publish_its_media_item(world: World) -> None:
    owned = new_media_id(JPEG, 1_700_000_000_000)
    world.put(keys.owned("dave", owned, 5), b"")
    entry_id = world.other.xadd(PROCESSING_QUEUE, {"task_id": "t", "media_id": str(owned), "type": "thumbnail"})
    assert (await world.sweep(hours=2)).skipped == 1
    assert {keys.owned("dave", owned, 5)} <= world.keys()
    world.other.xdel(PROCESSING_QUEUE, entry_id)
    assert (await world.sweep(hours=4)).done[SweepReason.DISOWNED].objects == 1


async def test_an_index_object_whose_media_item_becomes_public_meanwhile_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = new_media_id(JPEG, 1_700_000_000_000)
    world.put(keys.owned("dave", owned, 5), b"")
    store = world.store.get()
    head = store.head

    async def publish_after(key: str) -> ObjectInfo:
        try:
            return await head(key)
        except ObjectMissing:
            await store.put(key, b"o", content_type="image/jpeg", metadata=owner_metadata("dave"))
            raise

    monkeypatch.setattr(store, "head", publish_after)
    assert (await world.sweep(hours=2)).skipped == 1
    assert world.keys() == {keys.owned("dave", owned, 5), keys.original(owned)}


def _hashed(number: int, any_id: AnyId | str = "") -> str:
    return keys.same_file(f"{number:064x}", 0, any_id)


async def _put_original(world: World, any_id: AnyId, number: int) -> None:
    metadata = {"sha256": f"{number:064x}"}
    await world.store.get().put(keys.original(any_id), b"o", content_type="image/jpeg", metadata=metadata)


async def test_the_index_of_copies_has_all_originals_and_no_others_after_a_sweep(world: World) -> None:
    right, missing, replaced, removed, unhashed = an_upload(), an_upload(), a_remote(), a_remote(), an_upload()
    await _put_original(world, right, 0)
    await _put_original(world, missing, 1)
    await _put_original(world, replaced, 2)
    world.put(keys.original(unhashed), b"12345")
    for key in (
        _hashed(0, right),
        _hashed(7, replaced),
        _hashed(2, replaced),
        _hashed(3, removed),
        _hashed(4, "strange"),
    ):
        world.put(key, b"")
    before = world.indexed()
    assert (await world.sweep(hours=0.5)).done == {}
    dry = await world.sweep(hours=2, dry_run=True)
    assert world.indexed() == before
    report = await world.sweep(hours=2)
    assert report.done == dry.done
    assert (report.done[SweepReason.DISOWNED].objects, report.done[SweepReason.UNINDEXED].objects) == (2, 1)
    right_ones = {_hashed(0, right), _hashed(1, missing), _hashed(2, replaced), keys.same_file("", 5, unhashed)}
    assert world.indexed() == {*right_ones, _hashed(4, "strange")}
    assert (await world.sweep(hours=2)).done == {}


async def test_the_index_of_hosts_names_only_copies_and_each_once(world: World) -> None:
    kept, removed = a_remote(), a_remote()
    metadata = {"host": "a.example", "sha256": "0" * 64}
    await world.store.get().put(keys.original(kept), b"o", content_type="image/jpeg", metadata=metadata)
    world.put(_hashed(0, kept), b"")
    right = keys.hosted("a.example", kept, 5, "avatar")
    wrong = [keys.hosted(host, each, 5, "avatar") for host, each in (("a.example", removed), ("b.example", kept))]
    for key in (*wrong, right):
        world.put(key, b"")
    assert (await world.sweep(hours=2)).done[SweepReason.DISOWNED].objects == 2
    found = world.keys()
    assert {key for key in found if key.startswith("host/")} == {right}


async def test_the_index_of_copies_is_compared_part_by_part(world: World) -> None:
    media: list[AnyId] = [*(an_upload() for _ in range(3)), *(a_remote() for _ in range(3))]
    for number, each in enumerate(media):
        await _put_original(world, each, number)
        world.put(_hashed(9, a_remote() if isinstance(each, RemoteId) else an_upload()), b"")
    world.hours = 2
    indexes = IndexCheck(
        knowing(Items(world.store, world.redis)),
        world.reconciliation().limiter,
        world.config.sweep,
        world.clock,
        window=2,
    )
    repaired = []
    for _ in range(4):
        report = Report(dry_run=False)
        await indexes.run(report, datetime.now(UTC), dry_run=False, force=False)
        repaired.append(sum(each.objects for each in report.done.values()))
    assert world.indexed() == {_hashed(number, each) for number, each in enumerate(media)}
    assert (sum(repaired), max(repaired) < sum(repaired)) == (12, True)


async def test_two_index_objects_of_one_media_item_are_left_to_their_attempts_before_the_margin(world: World) -> None:
    owned = new_media_id(JPEG, 1_700_000_000_000)
    await world.store.get().put(keys.original(owned), b"o", content_type="image/jpeg", metadata=owner_metadata("dave"))
    both = {keys.owned("dave", owned, size) for size in (5, 7)}
    for key in sorted(both):
        world.put(key, b"")
    assert (await world.sweep(hours=0)).done == {}
    assert both <= world.keys()
    assert (await world.sweep(hours=2)).done[SweepReason.DISOWNED].objects == 1
    assert len(both & world.keys()) == 1


async def test_an_outage_is_said_and_leaves_things_to_the_next_pass(world: World) -> None:
    await world.sweep(hours=0)  # the first one replays the journal
    world.put(keys.thumbnail(an_upload(), "small"))
    store = world.store.get()
    world.store.empty()
    with pytest.raises(Unavailable):
        await world.sweep(hours=2)
    world.store.fill(store)
    assert (await world.sweep(hours=2)).done[SweepReason.ORPHAN].media == 1


@pytest.fixture
def environment(s3: S3Bucket, redis_url: str) -> dict[str, str]:
    """Of a service that sweeps all the time, and finds nothing too young that is older than a second."""
    return service_environment(
        redis_url,
        s3.address.endpoint_url,
        s3.bucket,
        SWEEP__INTERVAL="100ms",
        SWEEP__MARGIN="0",
        SWEEP__RATE="1000",
        UPLOAD__URL_TTL="1",
        REDIS__TIMEOUT="1s",
        DRAIN__GRACE="1s",
    )


def sweeping(environment: dict[str, str], roles: str = "sweeper") -> AbstractContextManager[Service]:
    return running(environment, roles=roles, first="tests.service.quick_sweeper")


def leads(service: Service) -> bool:
    return any(each["event"] == "sweep.leadership_acquired" for each in json_lines(service.log()))


def with_other_ports(environment: dict[str, str]) -> dict[str, str]:
    ports = service_environment("", "", "")
    return environment | {name: value for name, value in ports.items() if name.endswith("__BIND")}


def test_the_role_leads_on_one_replica_and_moves_to_the_next(
    environment: dict[str, str], s3: S3Bucket, redis_url: str
) -> None:
    def put_garbage() -> str:
        key = keys.thumbnail(an_upload(), "small")
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"x")
        return key

    def is_gone(key: str) -> bool:
        return not s3.client.list_objects_v2(Bucket=s3.bucket, Prefix=key).get("Contents")

    with sweeping(environment) as first:
        eventually(lambda: leads(first), "the first replica to lead")
        with sweeping(with_other_ports(environment)) as second:
            garbage = put_garbage()
            eventually(lambda: is_gone(garbage), "the leader to sweep")
            assert not leads(second)
            assert first.stop() == 0
            eventually(lambda: leads(second), "the second replica to lead")
            garbage = put_garbage()
            eventually(lambda: is_gone(garbage), "the new leader to sweep")


def test_the_role_outlives_an_outage_and_notices_that_redis_has_lost_its_memory(
    environment: dict[str, str], s3: S3Bucket, redis_url: str
) -> None:
    with (
        redis_py.Redis.from_url(redis_url, decode_responses=True) as other,
        sweeping(environment) as service,
    ):
        eventually(lambda: other.hexists("media_sweep", "finished_at"), "a first pass")
        other.client_pause(60_000, all=False)  # no write is answered
        eventually(lambda: "sweep.backed_off" in service.log(), "the outage to be noticed")
        other.client_unpause()
        forgotten = an_upload()
        other.xadd(PROCESSING_QUEUE, {"task_id": "t", "media_id": str(forgotten), "type": "thumbnail"})
        s3.client.put_object(Bucket=s3.bucket, Key=keys.incoming(forgotten), Body=b"x")
        other.flushall()
        eventually(lambda: other.xlen(PROCESSING_QUEUE), "the forgotten upload to be queued")
        ((_, task),) = other.xrange(PROCESSING_QUEUE)
        assert task["media_id"] == str(forgotten)
        assert task["task_id"] != "t"
        assert not any("sweep.failed" in line for line in service.log().splitlines())


def test_the_role_notices_that_one_queue_was_removed(environment: dict[str, str], s3: S3Bucket, redis_url: str) -> None:
    upload = an_upload()

    async def complete_and_lose() -> str:
        async with open_redis(redis_url) as redis:
            queue = TaskQueue(redis, PROCESSING_QUEUE)
            fields = {"media_id": str(upload), "type": "thumbnail"}
            task_id = await queue.enqueue(fields, dedup_key=str(upload))
            await StatusStore(redis).put(Status(str(upload), State.PROCESSING), ttl_s=HOUR)
            await redis.execute("DEL", PROCESSING_QUEUE)
            assert await queue.take("a", 0) is None  # as every reader does, which makes the group anew
            return task_id

    with (
        redis_py.Redis.from_url(redis_url, decode_responses=True) as other,
        sweeping(environment),
    ):
        eventually(lambda: other.hexists("media_sweep", "finished_at"), "a first pass")
        s3.client.put_object(Bucket=s3.bucket, Key=keys.incoming(upload), Body=b"x")
        lost = trio.run(complete_and_lose)
        eventually(lambda: other.xlen(PROCESSING_QUEUE), "the lost task to be queued again")
        ((_, task),) = other.xrange(PROCESSING_QUEUE)
        assert task["media_id"] == str(upload)
        assert task["task_id"] != lost
        assert not other.hexists(QueueKeys(PROCESSING_QUEUE).state, "lost")


def test_what_was_lost_comes_to_its_end(
    environment: dict[str, str], s3: S3Bucket, redis_url: str, data_directory: Path
) -> None:
    """A completed upload whose task vanished becomes READY; a deletion whose task vanished is carried out."""
    upload, deleted = an_upload(), an_upload()
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    settings = {"AVION_MEDIA_DELETE__DELAY": "0"}

    def objects_of(any_id: MediaId) -> set[str]:
        listing = s3.client.list_objects_v2(Bucket=s3.bucket)
        return {each["Key"] for each in listing.get("Contents", ()) if str(any_id) in each["Key"]}

    def events() -> set[tuple[str, str]]:
        found = [json.loads(fields["event"]) for _, fields in other.xrange("media_events")]
        return {(each["type"], each["media_id"]) for each in found}

    with redis_py.Redis.from_url(redis_url, decode_responses=True) as other:
        other.set(key_of("media_status", upload), "P")
        ago_ms = round((datetime.now(UTC).timestamp() - 60) * 1000)
        record = {"state": "marked", "generation": ago_ms, "due": ago_ms, "absorbed": ""}
        other.hset(key_of("media_deletion", deleted), mapping=record)
        s3.client.put_object(Bucket=s3.bucket, Key=keys.incoming(upload), Body=picture, ContentType="image/jpeg")
        for key in (keys.original(deleted), keys.thumbnail(deleted, "small")):
            s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"x")
        with sweeping(environment | settings, roles="sweeper,processing,delete"):
            expected = {("media.ready", str(upload)), ("media.deleted", str(deleted))}
            eventually(lambda: events() == expected, "both to end")
            eventually(lambda: keys.incoming(upload) not in objects_of(upload), "the upload to be tidied away")
    assert keys.original(upload) in objects_of(upload)
    assert len(objects_of(upload)) == 5  # original, three thumbnails, index object
    assert objects_of(deleted) == set()


def moved(monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    """Let blocks and reports be dated ``at``."""
    monkeypatch.setattr("avion_media.items.moderation.records.utc_now", lambda: at)
    monkeypatch.setattr("avion_media.items.moderation.blocking.utc_now", lambda: at)


def quarantined(world: World, media_id: MediaId) -> set[str]:
    prefix = f"{keys.QUARANTINE_PREFIX}{media_id}/"
    return {each.removeprefix(prefix) for each in filter(lambda key: key.startswith(prefix), world.keys())}


async def test_a_hold_of_60_days_before_the_block_leaves_400_days(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = an_upload()
    held = Held(str(upload), datetime.now(UTC).isoformat(), "pdq", PROCESSING_QUEUE, {"media_id": str(upload)})
    world.put(keys.evidence(upload, keys.KEPT_UPLOAD), b"the held file")
    world.put(f"{keys.HELD_PREFIX}{upload}", HELD.write(held))
    await world.sweep(hours=1000 * 24)
    assert quarantined(world, upload) == {"incoming"}  # nobody has decided

    moderation = Moderation(Items(world.store, world.redis, world.config.thumbnails.sizes), world.config)
    blocked_at = datetime.now(UTC) + timedelta(days=60)
    moved(monkeypatch, blocked_at)
    await moderation.blocking.block(upload, Unwanted(by="ada"))
    record = await moderation.evidence.record(upload)
    assert record is not None
    assert datetime.fromisoformat(record.kept_until) - blocked_at >= timedelta(days=400, seconds=-1)

    assert SweepReason.EVIDENCE not in (await world.sweep(hours=459.9 * 24)).done
    assert quarantined(world, upload) == {"incoming", "record.json"}
    assert (await world.sweep(hours=460.1 * 24, dry_run=True)).done[SweepReason.EVIDENCE].objects == 2
    assert quarantined(world, upload) == {"incoming", "record.json"}
    assert (await world.sweep(hours=460.1 * 24)).done[SweepReason.EVIDENCE].objects == 2
    assert quarantined(world, upload) == set()


async def test_no_block_brings_the_end_of_a_hold_forward(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, now = an_upload(), datetime.now(UTC)
    world.put_medium(upload)
    moderation = Moderation(Items(world.store, world.redis, world.config.thumbnails.sizes), world.config)
    await moderation.evidence.keep(upload, ("small",))
    await moderation.evidence.hold(upload, now, now + timedelta(days=900), "case 7", "eve")
    for again in range(2):
        moved(monkeypatch, now + timedelta(days=again))
        await moderation.blocking.block(upload, Unwanted(by="ada"))
        await moderation.blocking.unblock(upload, "ada")
    await moderation.blocking.block(upload, Unwanted(by="ada", discard_evidence=True))
    record = await moderation.evidence.record(upload)
    assert record is not None
    assert (record.kept_until, record.report) == (moment(now + timedelta(days=900)), "case 7")
    await world.sweep(hours=899 * 24)
    assert quarantined(world, upload) >= {"original", "record.json"}


async def test_files_without_a_record_end_after_the_same_time(world: World) -> None:
    """A crash between the copy and the record leaves them, and so does a hold that was never recorded."""
    upload = an_upload()
    world.put(keys.evidence(upload, keys.KEPT_UPLOAD))
    await world.sweep(hours=399 * 24)
    assert quarantined(world, upload) == {"incoming"}
    await world.sweep(hours=401 * 24)
    assert quarantined(world, upload) == set()


async def test_evidence_stays_whose_record_cannot_be_read_or_whose_block_is_being_changed(world: World) -> None:
    unreadable, claimed = an_upload(), an_upload()
    for each in (unreadable, claimed):
        world.put(keys.evidence(each, "original"))
    world.put(keys.evidence(unreadable, "record.json"), b'{"v":2}')
    claim = claim_of(world.redis, str(claimed), 60.0)
    assert await claim.acquire()
    report = await world.sweep(hours=500 * 24)
    assert (report.skipped, SweepReason.EVIDENCE in report.done) == (1, False)
    assert quarantined(world, unreadable) == {"original", "record.json"}
    assert quarantined(world, claimed) == {"original"}
