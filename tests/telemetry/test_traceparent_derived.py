"""Tasks that no call queues carry a ``traceparent`` all the same: that of what they are about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import redis as redis_py

from avion_media.backends.queue import QueueKeys, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.store import ObjectStore
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import Dependency
from avion_media.common.ids import MediaId, parse_any_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE, PURGE_QUEUE
from avion_media.common.telemetry.traces import trace_of_medium
from avion_media.items.deletion import (
    DeletionJournal,
    DeletionRecords,
    JournalReplay,
    Notice,
    NoticeHandler,
    undelete,
)
from avion_media.items.item import Items
from avion_media.workers.observed_attempt import observed_attempt
from avion_media.workers.sweep.actions import SweepActions
from avion_media.workers.sweep.policy import Medium, SweepDecision, SweepReason
from trio_telemetry import RecordedSpan, Telemetry, Tracer, sampler_from

UPLOAD = "01HF7YAT0005JWZKGXWQT731A6"
REMOTE = "7a" * 32
DERIVED = {
    UPLOAD: "00-018bcfe568000165cfce1de5f4718546-cfce1de5f4718546-00",
    REMOTE: f"00-{REMOTE[:32]}-{REMOTE[:16]}-00",
}
THEIRS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HOUR_S = 3600.0


class Recorded(Telemetry):
    """Real spans, kept."""

    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []
        super().__init__(Tracer(sampler_from({}), self.spans.append, trace_of_medium))


class UploadOnly:
    """A store that has what was uploaded, and nothing else."""

    async def exists(self, key: str) -> bool:
        return key.startswith("incoming/")

    async def put(self, _key: str, _body: bytes, **_headers: object) -> str:
        return "etag"

    async def list(self, _prefix: str, _after: str | None = None) -> AsyncIterator[tuple[()]]:
        yield ()

    list_keys = list


def _replay(redis: Redis) -> JournalReplay:
    store: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
    store.fill(cast("ObjectStore", UploadOnly()))
    return JournalReplay(
        Items(store, redis, cdn=True), DeletionJournal(store, HOUR_S), buckets=[UPLOAD[-2:], REMOTE[-2:]]
    )


class World:
    """The producers, and what they queued."""

    def __init__(self, redis: Redis, client: Any) -> None:
        self.redis = redis
        self._client = client

    async def delete(self, media_id: str, delay_s: float = HOUR_S) -> None:
        handler = NoticeHandler(_replay(self.redis), delay_s)
        await handler.handle(Notice((media_id,), "1-0"))

    async def sweep(self, media_id: str, why: SweepReason) -> None:
        actions = SweepActions(_replay(self.redis), cast("RateLimiter", None), lambda: datetime.now(UTC))
        await actions.requeue(SweepDecision(Medium(media_id), why), datetime.now(UTC))

    def delayed(self) -> list[dict[str, str]]:
        members = self._client.zrange(QueueKeys(DELETE_QUEUE).delayed, 0, -1)
        tasks = [json.loads(member) for member in members]  # names and values in turn
        return [dict(zip(each[::2], each[1::2], strict=True)) for each in tasks]

    def queued(self, queue: str) -> list[dict[str, str]]:
        return [fields for _, fields in self._client.xrange(queue)]


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        async with open_redis(redis_url) as redis:
            yield World(redis, client)


@pytest.mark.parametrize("media_id", [UPLOAD, REMOTE])
async def test_a_notice_received_by_all_and_the_sweepers_repetition_are_one_task(world: World, media_id: str) -> None:
    for _ in range(2):
        await world.delete(media_id)
    await world.sweep(media_id, SweepReason.OVERDUE_DELETION)
    (task,) = world.delayed()
    record = await DeletionRecords(world.redis).get(media_id)
    assert record is not None
    task_id = f"delete-{media_id}.{record.generation}"
    assert task == {"task_id": task_id, "media_id": media_id, "traceparent": DERIVED[media_id]}
    (purge,) = world.queued(PURGE_QUEUE)
    assert purge["traceparent"] == DERIVED[media_id]


async def test_the_sweeper_queues_a_lost_task_with_it(world: World) -> None:
    await world.sweep(UPLOAD, SweepReason.LOST_TASK)
    (task,) = world.queued(PROCESSING_QUEUE)
    assert task["traceparent"] == DERIVED[UPLOAD]


async def test_an_undoing_queues_the_upload_with_it(world: World) -> None:
    await world.delete(UPLOAD)
    upload = parse_any_id(UPLOAD)
    assert isinstance(upload, MediaId)
    outcome = await undelete(_replay(world.redis), [upload])
    assert outcome == {str(upload): None}
    (task,) = world.queued(PROCESSING_QUEUE)
    assert task["traceparent"] == DERIVED[UPLOAD]


async def attempted(redis: Redis, queue_name: str) -> RecordedSpan:
    """The span of one attempt at the next task."""
    telemetry = Recorded()
    queue = TaskQueue(redis, queue_name)
    await queue.promote()
    lease = await queue.take("worker", block_s=5)
    assert lease is not None
    with observed_attempt(telemetry, "path", queue_name, lease):
        pass
    (span,) = telemetry.spans
    return span


async def test_the_attempt_at_an_upload_is_of_its_trace_and_sampled_by_its_id(world: World) -> None:
    await world.sweep(UPLOAD, SweepReason.LOST_TASK)
    span = await attempted(world.redis, PROCESSING_QUEUE)
    medium = trace_of_medium(UPLOAD)
    assert medium is not None
    assert (span.context.trace_id, span.parent_id) == (medium.trace_id, medium.span_id)


async def test_a_deletion_and_a_purge_have_traces_of_their_own_linked_to_the_mediums(world: World) -> None:
    await world.delete(UPLOAD, delay_s=0)
    medium = trace_of_medium(UPLOAD)
    for queue_name in (DELETE_QUEUE, PURGE_QUEUE):
        span = await attempted(world.redis, queue_name)
        assert (span.parent_id, span.links) == (0, (medium,))
    await world.delete(REMOTE, delay_s=0)
    span = await attempted(world.redis, DELETE_QUEUE)
    assert (span.parent_id, span.links) == (0, ())
    assert f"{span.context.trace_id:032x}" != REMOTE[:32]


async def test_a_purge_that_a_task_queued_is_of_that_tasks_trace(world: World) -> None:
    await TaskQueue(world.redis, PURGE_QUEUE).enqueue({"media_id": UPLOAD}, traceparent=THEIRS)
    span = await attempted(world.redis, PURGE_QUEUE)
    assert span.context.traceparent[:36] == THEIRS[:36]
