"""The fence: only the present owner decides about a task, and an abandoned task finds a new owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from avion_media.backends.queue import MAX_DEATHS, Lease, TaskQueue
from avion_media.backends.queue.entries import UNCONFIRMED
from avion_media.backends.queue.scripts import ADMIT
from avion_media.backends.redis import Redis, Script
from avion_media.common.errors import LeaseLost
from avion_media.common.tasks import CONSUMER_GROUP, DELETE_QUEUE, PROCESSING_QUEUE
from tests.integration.backends.queue.conftest import Client, blocked, info, taken_over

FIELDS = {"media_id": "01HZX", "type": "thumbnail"}
DELAYED = f"{{{PROCESSING_QUEUE}}}:delayed"
DEAD = f"{{{PROCESSING_QUEUE}}}:dlq"

Ending = Callable[[Lease], Awaitable[None]]
ENDINGS: dict[str, Ending] = {
    "renew": lambda lease: lease.renew(),
    "complete": lambda lease: lease.complete(),
    "retry": lambda lease: lease.retry(0.0, "failed"),
    "release": lambda lease: lease.release(),
    "dead_letter": lambda lease: lease.dead_letter("failed"),
}


async def taken(queue: TaskQueue, consumer: str = "a") -> Lease:
    with trio.fail_after(10):
        while (lease := await queue.take(consumer, block_s=5)) is None:
            pass  # the group was removed: the next `take` creates it again
        return lease


def state(other: Client) -> dict[str, Any]:
    """Everything that an ending could change."""
    return {
        "entries": other.xrange(PROCESSING_QUEUE),
        "pending": [
            (row["message_id"], row["consumer"], row["times_delivered"])
            for row in other.xpending_range(PROCESSING_QUEUE, CONSUMER_GROUP, "-", "+", 10)
        ],
        "delayed": other.zrange(DELAYED, 0, -1, withscores=True),
        "dead": other.xrange(DEAD),
    }


async def test_a_task_is_taken_as_it_was_queued(queue: TaskQueue, other: Client) -> None:
    task_id = await queue.enqueue(FIELDS, traceparent="00-abc-def-01")
    assert other.xrange(PROCESSING_QUEUE)[0][1] == {"task_id": task_id, **FIELDS, "traceparent": "00-abc-def-01"}
    lease = await taken(queue)
    assert (lease.task.task_id, lease.task.fields, lease.task.traceparent) == (task_id, FIELDS, "00-abc-def-01")
    assert (lease.attempt, lease.deaths) == (1, 0)
    assert lease.first_seen == pytest.approx(int(lease.entry_id.partition("-")[0]) / 1000)


async def test_completing_removes_the_entry(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    await (await taken(queue)).complete()
    assert state(other) == {"entries": [], "pending": [], "delayed": [], "dead": []}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_who_lost_the_task_to_another_changes_nothing(queue: TaskQueue, other: Client, ending: str) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "a")
    other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, "b", 0, [lease.entry_id])
    before = state(other)
    with pytest.raises(LeaseLost):
        await ENDINGS[ending](lease)
    assert state(other) == before


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_earlier_delivery_to_the_same_consumer_is_fenced_too(
    redis: Redis, queue: TaskQueue, other: Client, ending: str
) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "a")
    for consumer in ("b", "a"):  # stolen, and won back by another lease of ours
        other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, consumer, 0, [lease.entry_id])
    before = state(other)
    with pytest.raises(LeaseLost):
        await ENDINGS[ending](lease)
    assert state(other) == before


@pytest.mark.parametrize("loss", ["FLUSHALL", "XGROUP DESTROY", "XDEL"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_lease_ends_with_its_group_or_entry(queue: TaskQueue, other: Client, loss: str, ending: str) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue)
    match loss:
        case "FLUSHALL":
            other.flushall()
        case "XGROUP DESTROY":
            other.xgroup_destroy(PROCESSING_QUEUE, CONSUMER_GROUP)
        case "XDEL":
            other.xdel(PROCESSING_QUEUE, lease.entry_id)
            if ending in ("complete", "retry", "dead_letter"):  # still ours, and ends as it would have
                await ENDINGS[ending](lease)
                return
    with pytest.raises(LeaseLost):
        await ENDINGS[ending](lease)


async def test_an_ended_lease_decides_nothing_more(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "a")
    await lease.release()
    again = await taken(queue, "a")
    assert again.task == lease.task
    before = state(other)
    for end in ENDINGS.values():
        with pytest.raises(LeaseLost):
            await end(lease)
    assert state(other) == before
    await again.complete()


async def test_a_new_lease_on_an_entry_voids_the_old_one_of_this_process(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    old = await taken(queue, "a")
    other.xgroup_destroy(PROCESSING_QUEUE, CONSUMER_GROUP)  # so that its deliveries are counted anew
    new = await taken(queue, "a")
    assert (new.entry_id, new.deaths) == (old.entry_id, old.deaths)
    with pytest.raises(LeaseLost):
        await old.complete()
    await new.complete()


async def test_renewing_resets_idle_time_and_counts_no_delivery(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue)
    other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, "a", 0, [lease.entry_id], idle=50_000, justid=True)
    await lease.renew()
    (row,) = other.xpending_range(PROCESSING_QUEUE, CONSUMER_GROUP, "-", "+", 10)
    assert row["times_delivered"] == 1
    assert row["time_since_delivered"] < 10_000


def abandon(other: Client, lease: Lease, consumer: str, idle_ms: int = 90_000) -> None:
    """Let a lease look as if its owner had died a while ago."""
    other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, consumer, 0, [lease.entry_id], idle=idle_ms, justid=True)


async def test_a_dead_owners_task_is_reclaimed_and_the_dead_comes_too_late(
    redis: Redis, queue: TaskQueue, other: Client
) -> None:
    await queue.enqueue(FIELDS)
    dead = await taken(queue, "a")
    assert await queue.reclaim("b", idle_s=60) == 0  # still alive
    abandon(other, dead, "a")
    replica = TaskQueue(redis, PROCESSING_QUEUE)
    lease = await taken_over(replica, "b", idle_s=60, silent_s=0)
    assert lease is not None
    assert lease.task == dead.task
    assert (lease.attempt, lease.deaths) == (2, 1)
    with pytest.raises(LeaseLost):
        await dead.complete()
    await lease.complete()
    assert state(other)["entries"] == []


async def test_reclaim_leaves_what_is_in_living_hands_of_this_process(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "a")
    abandon(other, lease, "a")  # Redis was away for so long that nothing could be renewed
    assert await queue.reclaim("a", idle_s=60) == 0
    await lease.complete()


async def test_a_task_whose_delivery_was_lost_on_the_wire_costs_no_life(queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    await queue.ensure_group()
    other.xreadgroup(CONSUMER_GROUP, "a", {PROCESSING_QUEUE: ">"}, count=1)  # given to "a", who never heard of it
    (row,) = other.xpending_range(PROCESSING_QUEUE, CONSUMER_GROUP, "-", "+", 10)
    other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, "a", 0, [row["message_id"]], idle=90_000, justid=True)
    lease = await taken_over(queue, "a", idle_s=60)
    assert lease is not None
    assert (lease.attempt, lease.deaths) == (1, 0)


async def test_reclaim_looks_past_entries_that_are_gone(redis: Redis, queue: TaskQueue, other: Client) -> None:
    for _ in range(3):
        await queue.enqueue(FIELDS)
    leases = [await taken(queue, "a") for _ in range(3)]
    for lease in leases:
        abandon(other, lease, "a")
    other.xdel(PROCESSING_QUEUE, leases[0].entry_id, leases[1].entry_id)
    found = await taken_over(TaskQueue(redis, PROCESSING_QUEUE), "b", idle_s=60)
    assert found is not None
    assert found.task == leases[2].task
    assert len(state(other)["pending"]) == 1


async def test_deaths_are_counted_from_worker_to_worker(redis: Redis, queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "p0")
    for number in (1, 2, 3):
        await lease.begin()
        abandon(other, lease, f"p{number - 1}")
        survivor = await taken_over(TaskQueue(redis, PROCESSING_QUEUE), f"p{number}", idle_s=60, silent_s=0)
        assert survivor is not None
        assert (survivor.deaths, survivor.task) == (number, lease.task)
        crashed = [each.rpartition("@")[0] for each in survivor.crashed_workers.split()]
        assert crashed == [f"p{each}" for each in range(number)]
        assert survivor.first_seen == pytest.approx(lease.first_seen, abs=0.001)
        lease = survivor


async def test_an_owner_that_lost_its_lease_but_lives_does_not_count_as_a_death(
    redis: Redis, queue: TaskQueue, other: Client
) -> None:
    """It has just talked to Redis, as the renewal of another lease or a read would."""
    await queue.enqueue(FIELDS)
    lease = await taken(queue, "p0")
    for number in range(1, 6):
        abandon(other, lease, f"p{number - 1}")
        next_owner = await taken_over(TaskQueue(redis, PROCESSING_QUEUE), f"p{number}", idle_s=60)
        assert next_owner is not None
        assert (next_owner.attempt, next_owner.deaths) == (1, 0)
        with pytest.raises(LeaseLost):
            await lease.complete()
        lease = next_owner
    await lease.complete()
    assert state(other)["entries"] == []


async def test_a_heartbeat_takes_no_task(queue: TaskQueue, other: Client) -> None:
    await queue.send_heartbeat("a")  # there is no group yet
    await queue.enqueue(FIELDS)
    await queue.ensure_group()
    await queue.send_heartbeat("a")
    assert [row["name"] for row in other.xinfo_consumers(PROCESSING_QUEUE, CONSUMER_GROUP)] == ["a"]
    assert (await queue.stats()).pending == 0
    await (await taken(queue, "b")).complete()


async def test_a_worker_that_has_only_stood_still_is_not_dead_wherever_its_task_is(
    queue: TaskQueue, other: Client
) -> None:
    noticed = other.time()[0] - 5
    both = f"stopped@{noticed} dead@{noticed}"
    await queue.enqueue(FIELDS | {"crashed_workers": both})
    lease = await taken(queue, "b")
    assert lease.deaths == 2
    await queue.send_heartbeat("stopped")  # it goes on
    await lease.release()
    assert other.xrange(PROCESSING_QUEUE)[0][1]["crashed_workers"] == f"dead@{noticed}"
    await queue.enqueue(FIELDS | {"crashed_workers": both})
    for _ in range(2):
        lease = await taken(queue, "b")
        assert (lease.attempt, lease.deaths, lease.crashed_workers) == (2, 1, f"dead@{noticed}")


async def test_who_waits_to_run_alone_has_not_begun_and_does_not_die_of_it(
    redis: Redis, queue: TaskQueue, other: Client
) -> None:
    await queue.enqueue(FIELDS | {"crashed_workers": "p0@1 p1@2"})
    lease = await taken(queue, "p2")
    await lease.renew()
    abandon(other, lease, "p2")
    found = await taken_over(TaskQueue(redis, PROCESSING_QUEUE), "p3", idle_s=60, silent_s=0)
    assert found is not None
    assert found.deaths == MAX_DEATHS - 1
    await found.begin()
    await found.renew()
    abandon(other, found, "p3")
    found = await taken_over(TaskQueue(redis, PROCESSING_QUEUE), "p4", idle_s=60, silent_s=0)
    assert found is not None
    assert found.deaths == MAX_DEATHS


class StandsStill(TaskQueue):
    """Its process stands still after each delivery, before it confirms."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, PROCESSING_QUEUE)
        self.goes_on = trio.Event()

    async def _begin(self, script: Script, consumer: str, arg: Any) -> Any:
        if script is ADMIT:
            await self.goes_on.wait()
        return await super()._begin(script, consumer, arg)


async def unconfirmed(other: Client) -> str:
    """Return the id of the entry that was delivered and not confirmed."""
    with trio.fail_after(10):
        while not (rows := other.xpending_range(PROCESSING_QUEUE, CONSUMER_GROUP, "-", "+", 1, UNCONFIRMED)):
            await trio.lowlevel.checkpoint()
    return str(rows[0]["message_id"])


async def test_a_delivery_that_nobody_confirms_goes_to_who_looks_next(
    redis: Redis, queue: TaskQueue, other: Client
) -> None:
    stopped = StandsStill(redis)
    late: list[Lease | None] = []

    async def read() -> None:
        late.append(await stopped.take("stopped", block_s=5))

    await queue.ensure_group()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await blocked(other)
        await queue.enqueue(FIELDS)
        entry_id = await unconfirmed(other)
        other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, UNCONFIRMED, 0, [entry_id], idle=1000, justid=True)
        lease = await queue.take("b", block_s=0)
        assert lease is not None
        assert (lease.entry_id, lease.attempt, lease.deaths) == (entry_id, 1, 0)
        await lease.complete()
        await queue.enqueue(FIELDS, task_id="the next one")
        stopped.goes_on.set()
    assert [lease and lease.task.task_id for lease in late] == ["the next one"]


async def test_an_unconfirmed_delivery_that_nobody_looks_for_is_reclaimed_and_costs_no_life(
    redis: Redis, queue: TaskQueue, other: Client
) -> None:
    await queue.enqueue(FIELDS)
    await queue.ensure_group()
    other.xreadgroup(CONSUMER_GROUP, UNCONFIRMED, {PROCESSING_QUEUE: ">"}, count=1)
    other.xclaim(PROCESSING_QUEUE, CONSUMER_GROUP, UNCONFIRMED, 0, [await unconfirmed(other)], idle=90_000, justid=True)
    assert await queue.reclaim("b", idle_s=60, silent_s=0) == 1
    lease = await taken(queue, "b")
    assert (lease.attempt, lease.deaths) == (1, 0)


async def test_a_deletion_is_never_poison(redis: Redis, other: Client) -> None:
    """Processes die with it in hand by chance: it is done all the same."""
    queue = TaskQueue(redis, DELETE_QUEUE)
    await queue.enqueue({"media_id": "m"})
    lease = await queue.take("p0", block_s=0)
    for number in range(1, MAX_DEATHS + 2):
        assert lease is not None
        other.xclaim(DELETE_QUEUE, CONSUMER_GROUP, f"p{number - 1}", 0, [lease.entry_id], idle=90_000, justid=True)
        lease = await taken_over(TaskQueue(redis, DELETE_QUEUE), f"p{number}", idle_s=60, silent_s=0)
    assert lease is not None
    assert queue.max_deaths > lease.deaths > MAX_DEATHS
    assert await queue.dead_letters.list() == []


async def test_deaths_are_remembered_over_a_retry(redis: Redis, queue: TaskQueue, other: Client) -> None:
    await queue.enqueue(FIELDS)
    abandon(other, await taken(queue, "a"), "a")
    lease = await taken_over(TaskQueue(redis, PROCESSING_QUEUE), "b", idle_s=60, silent_s=0)
    assert lease is not None
    await lease.retry(0.0, "store away", count=False)
    assert await queue.promote() == 1
    again = await taken(queue, "b")
    assert (again.attempt, again.deaths) == (2, 1)


async def test_handing_back_costs_nothing_and_wakes_the_next_reader(
    redis: Redis, queue: TaskQueue, other: Client
) -> None:
    first = await queue.enqueue(FIELDS)
    for _ in range(5):
        lease = await taken(queue, "draining")
        await lease.release()
    lease = await taken(queue, "draining")
    found: list[Lease] = []

    async def read() -> None:
        found.append(await taken(TaskQueue(redis, PROCESSING_QUEUE), "b"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.fail_after(20):
            while info(other, "clients", "blocked_clients") == 0:
                await trio.lowlevel.checkpoint()
        await lease.release()
    assert found[0].task.task_id == first
    assert (found[0].attempt, found[0].deaths) == (1, 0)
    assert found[0].first_seen == pytest.approx(lease.first_seen, abs=0.001)
