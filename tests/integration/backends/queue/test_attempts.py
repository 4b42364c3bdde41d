"""The last attempts on a real Redis: found by their media item, bounded, with the spans of their worker as steps."""

from __future__ import annotations

from avion_media.backends.queue import TaskQueue
from avion_media.backends.queue.attempts import ATTEMPTS_STREAM, KEPT, Attempt, attempts_at, outcomes
from avion_media.backends.redis import Redis
from avion_media.common.tasks import CACHE_QUEUE, PROCESSING_QUEUE, Task
from tests.integration.backends.queue.conftest import Client
from tests.remote_ids import known_remote_ids, remote_id_for
from trio_telemetry import Steps, Tracer

MEDIA_ID = "01M88C0SJ305C5J3D3BYCKGC00"
URL = "https://heron.example/a.png"


async def test_attempts_are_found_by_their_media_item_and_bounded(redis: Redis, other: Client) -> None:
    processing, cache = TaskQueue(redis, PROCESSING_QUEUE), TaskQueue(redis, CACHE_QUEUE, remote_ids=known_remote_ids())
    for number in (1, 2):
        task = Task("t", {"media_id": MEDIA_ID})
        attempt = Attempt(number=number, worker="w", began_at=5.5, duration_s=0.25, outcome="done", steps="GET\t0\t9")
        await processing.record_attempt(task, attempt)
    await cache.record_attempt(Task("r", {"remote_url": URL}), Attempt(number=7))
    await processing.record_attempt(Task("x", {"media_id": "no id"}), Attempt(number=9))  # which has no page
    found = await attempts_at(redis, MEDIA_ID)
    assert [(each.number, each.task_id, each.queue) for each in found] == [
        (1, "t", PROCESSING_QUEUE),
        (2, "t", PROCESSING_QUEUE),
    ]
    assert (found[0].began_at, found[0].duration_s, found[0].steps) == (5.5, 0.25, "GET\t0\t9")
    assert [each.number for each in await attempts_at(redis, str(remote_id_for(URL)))] == [7]
    with other.pipeline() as pipeline:
        for _ in range(KEPT + 200):
            pipeline.xadd(ATTEMPTS_STREAM, {"subject": "x"})
        pipeline.execute()
    await processing.record_attempt(Task("t", {"media_id": MEDIA_ID}), Attempt(number=3))
    assert other.xlen(ATTEMPTS_STREAM) < KEPT + 200


async def test_times_to_ready_and_rejected_files_are_counted(redis: Redis, other: Client) -> None:
    processing, cache = TaskQueue(redis, PROCESSING_QUEUE), TaskQueue(redis, CACHE_QUEUE, remote_ids=known_remote_ids())
    assert await outcomes(redis) == {}
    for age_s, outcome in ((0.4, "done"), (2.0, "done"), (2.1, "done"), (9999.0, "done"), (1.0, "retried")):
        await processing.record_attempt(Task("t", {"media_id": MEDIA_ID}), Attempt(age_s=age_s, outcome=outcome))
    for queue, fields in ((processing, {"media_id": MEDIA_ID}), (cache, {"remote_url": URL})):
        await queue.record_attempt(Task("t", fields), Attempt(outcome="rejected"))
    await cache.record_attempt(Task("r", {"remote_url": URL}), Attempt(outcome="done"))  # nobody waits for it
    assert await outcomes(redis) == {"ready:0.5": 1, "ready:2": 1, "ready:3": 1, "ready:inf": 1, "rejected": 2}


def test_steps_are_collected_also_if_no_span_is_recorded() -> None:
    tracer = Tracer(lambda _trace_id, _parent: False)
    with Steps() as steps:
        for name in ("S3.GetObject", "sandbox picture_job"):
            with tracer.start(name, "internal", "", "", "", {}):
                pass
    with tracer.start("afterwards", "internal", "", "", "", {}):
        pass
    rows = [line.split("\t") for line in steps.describe().splitlines()]
    assert [name for name, _, _ in rows] == ["S3.GetObject", "sandbox picture_job"]
    assert all(at.isdigit() and took.isdigit() for _, at, took in rows)
