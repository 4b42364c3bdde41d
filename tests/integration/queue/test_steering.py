"""What operators do to a queue: cancel a task, replay many dead letters at a rate. Pauses: test_dispatch.py."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis as redis_py
import structlog
from starlette.applications import Starlette

from avion_media.admin import OperatorGate
from avion_media.console.actions import actions_of
from avion_media.console.steering import steering_routes
from avion_media.credentials import fingerprint
from avion_media.domain.errors import Reason
from avion_media.domain.tasks import DELETE_QUEUE, PROCESSING_QUEUE
from avion_media.queue import QueueKeys, TaskQueue
from avion_media.redis import Redis, open_redis
from tests.crash.test_consumer_outages import Work, consumer_of, settled, until, working
from tests.integration.queue.conftest import Client

KEYS = QueueKeys(PROCESSING_QUEUE)
TOKEN = "a-token-of-some-length"


async def test_a_cancelled_task_ends_as_a_dead_letter_that_can_be_replayed(redis_of_process: str) -> None:
    with redis_py.Redis.from_url(redis_of_process) as client:
        client.flushall()
    work = Work()
    async with open_redis(redis_of_process) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        task_id = await queue.enqueue({"media_id": "m"})
        await queue.cancel(task_id, "ada@desk")
        async with working(consumer_of(redis, work, "only")):
            stats = await settled(queue)
            assert (stats.dead_letters, work.begun, work.given_up) == (1, [], [Reason.CANCELLED])
            (dead_letter,) = await queue.dead_letters.list()
            assert dead_letter.error == "cancelled: by ada@desk"
            assert await queue.dead_letters.replay(dead_letter.entry_id)
            await until(lambda: work.begun)  # it was cancelled once
            await settled(queue)


async def test_a_task_that_a_worker_has_is_cancelled_at_its_next_renewal(redis_of_process: str) -> None:
    with redis_py.Redis.from_url(redis_of_process) as client:
        client.flushall()
    work = Work()
    work.hold = type(work.hold)()
    async with open_redis(redis_of_process) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        task_id = await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "only")):
            await until(lambda: work.begun)
            await queue.cancel(task_id, "ada@desk")
            assert (await settled(queue)).dead_letters == 1
    assert work.given_up == [Reason.CANCELLED]


async def given_up(queue: TaskQueue, error: str) -> None:
    await queue.enqueue({"media_id": "m"})
    lease = await queue.take("a", block_s=0)
    assert lease is not None
    await lease.dead_letter(error)


async def test_a_bulk_replay_goes_on_at_its_rate_with_what_was_there(redis: Redis, other: Client) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    for number in range(10):
        await given_up(queue, "internal: boom" if number % 2 else "poison: 3")
    assert await queue.replay_all(error="INTERNAL", rate=1.0, by="ada@desk") == 10
    assert await queue.replay_all(rate=1.0, by="bob@desk") is None  # one at a time
    await given_up(queue, "internal: later")
    assert await queue.replay_some() == 0  # not a second has gone by
    later = f"{time.time() - 3.5:.3f}"
    other.hset(KEYS.bulk_replay, "at", later)
    assert await queue.replay_some() == 3
    assert (await queue.stats()).replayed == 3
    other.hset(KEYS.bulk_replay, "at", "0")
    while (await queue.stats()).replayed >= 0:
        await queue.replay_some()
        if other.exists(KEYS.bulk_replay):
            other.hset(KEYS.bulk_replay, "at", "0")
    stats = await queue.stats()
    assert (stats.depth, stats.dead_letters) == (5, 6)


@pytest.mark.parametrize("rate", [5.0])
async def test_a_bulk_replay_of_nothing_is_no_job(redis: Redis, rate: float) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    assert await queue.replay_all(rate=rate, by="ada@desk") == 0
    assert await queue.replay_all(rate=rate, by="ada@desk") == 0


async def test_the_admin_port_steers_for_operators_and_logs_who(redis: Redis) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    gate = OperatorGate(lambda: [fingerprint(TOKEN)])
    app = Starlette(routes=steering_routes({queue.name: queue, DELETE_QUEUE: TaskQueue(redis, DELETE_QUEUE)}, gate))
    statuses = {
        f"/{PROCESSING_QUEUE}/pause": 200,
        f"/{PROCESSING_QUEUE}/replay?rate=5": 200,
        f"/{PROCESSING_QUEUE}/replay?rate=nan": 400,
        f"/{PROCESSING_QUEUE}/cancel?task_id=t": 200,
        f"/{PROCESSING_QUEUE}/cancel": 400,
        f"/{DELETE_QUEUE}/cancel?task_id=t": 409,
        "/nonsense/pause": 404,
    }
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        assert (await client.post(f"/queues/{PROCESSING_QUEUE}/pause")).status_code == 401
        assert not (await queue.stats()).paused_since
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        with structlog.testing.capture_logs() as logged:
            assert {path: (await client.post(f"/queues{path}")).status_code for path in statuses} == statuses
            assert (await queue.stats()).paused_since
            assert (await client.post(f"/queues/{PROCESSING_QUEUE}/resume")).json()["was_paused"]
    assert [each["event"] for each in logged] == [
        "operator.queue_paused", "operator.bulk_replay_begun", "operator.task_cancelled", "operator.queue_resumed",
    ]  # fmt: skip
    assert {each["by"] for each in logged} == {f"token {fingerprint(TOKEN).hex()[:8]}"}


async def test_the_console_pauses_and_resumes(redis: Redis) -> None:
    queue = TaskQueue(redis, PROCESSING_QUEUE)
    service: Any = SimpleNamespace(runtime=SimpleNamespace(queues={PROCESSING_QUEUE: queue}))
    actions = actions_of(60.0, evidence_ttl_s=1.0)
    outcome = await actions["pause"].perform(service, [PROCESSING_QUEUE, "nonsense"])
    assert (outcome.done, outcome.problems) == (1, ("there is no queue nonsense",))
    assert (await queue.stats()).paused_since
    assert (await actions["resume"].perform(service, [PROCESSING_QUEUE])).done == 1
    assert not (await queue.stats()).paused_since
