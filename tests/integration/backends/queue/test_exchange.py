"""The end of a task takes the next one in the same step."""

from __future__ import annotations

import pytest
import trio

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.common.errors import LeaseLost
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE
from tests.integration.backends.queue.conftest import Client

FIELDS = {"media_id": "01HZX", "owner": "ada"}


async def taken(queue: TaskQueue) -> Lease:
    lease = await queue.take("a", block_s=0)
    assert lease is not None
    return lease


def pending(other: Client) -> int:
    return int(other.xpending(PROCESSING_QUEUE, CONSUMER_GROUP)["pending"])


async def test_the_next_task_comes_with_the_end_of_the_last(queue: TaskQueue, other: Client) -> None:
    first, second = await queue.enqueue(FIELDS, dedup_key="one"), await queue.enqueue(FIELDS)
    lease = await taken(queue)
    following = await queue.exchange(lease, "a")
    assert lease.ended
    assert following is not None
    assert (lease.task.task_id, following.task.task_id) == (first, second)
    assert (following.attempt, following.deaths, following.ended) == (1, 0, False)
    assert (pending(other), other.xlen(PROCESSING_QUEUE)) == (1, 1)
    await following.renew()
    assert await queue.exchange(following, "a") is None
    assert (pending(other), other.xlen(PROCESSING_QUEUE)) == (0, 0)


async def test_a_lost_lease_takes_nothing(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    second = await queue.enqueue(FIELDS)
    lease = await taken(queue)
    other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, "b", 0, [lease.entry_id])
    with pytest.raises(LeaseLost):
        await queue.exchange(lease, "a")
    assert (await taken(queue)).task.task_id == second


async def test_a_task_that_has_no_turn_waits(queue: TaskQueue, other: Client) -> None:
    await queue.settle(tenant_cap=1, slots=4, idle_s=60)
    await queue.enqueue(FIELDS)
    await queue.enqueue({**FIELDS, "owner": "bob"})
    bobs, adas = [await taken(queue), await taken(queue)][::-1]
    other.xadd(PROCESSING_QUEUE, FIELDS)
    assert await queue.exchange(bobs, "a") is None
    assert (await queue.stats()).waiting == 1
    assert await queue.exchange(adas, "a") is not None


async def test_a_malformed_task_is_a_dead_letter_and_nobody_gets_it(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    other.xadd(PROCESSING_QUEUE, {"owner": "ada"})
    assert await queue.exchange(await taken(queue), "a") is None
    assert (await queue.stats()).dead_letters == 1
    assert pending(other) == 0


async def test_a_cancel_loses_nothing(queue: TaskQueue) -> None:
    await queue.enqueue(FIELDS)
    await queue.enqueue(FIELDS)
    lease, following = await taken(queue), None
    with trio.CancelScope() as scope:
        scope.cancel()
        following = await queue.exchange(lease, "a")
    assert following is not None
    await following.complete()
    assert (await queue.stats()).depth == 0
