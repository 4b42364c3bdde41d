"""An unavailable dependency costs tasks only time. A file that kills decoders repeatedly uses up its attempts."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis as redis_py
import trio

from avion_media.backends.queue import MAX_DEATHS, Lease, QueueKeys, QueueStats, TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.common.errors import DecoderKilled, Dependency, MediaError, Reason, Rejected, Unavailable
from avion_media.common.tasks import PROCESSING_QUEUE, EnsureLease, Task, TaskHandler
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from supervisors import Supervisor
from tests.service.faults import DurableRedis, durable_redis
from tests.service.published import fields_of
from trio_telemetry import NO_TELEMETRY

CLAIM_AFTER_S = 0.8
_LEASE_S = 3.0  # long enough that a busy machine sends heartbeats within half of it
_HARD_LIMIT_S = 60.0


class Work(TaskHandler):
    """A handler that records its tasks, and fails with the errors of ``failure``."""

    def __init__(self, failure: Callable[[], Exception | None] = lambda: None) -> None:
        self._failure = failure
        self.begun: list[float] = []
        self.given_up: list[Reason] = []
        self.suspected = False
        self.hold = trio.Event()
        self.hold.set()

    async def run(self, _task: Task, _ensure_lease: EnsureLease) -> None:
        self.begun.append(trio.current_time())
        await self.hold.wait()
        failure = self._failure()
        if failure is not None:
            raise failure

    async def renew_status(self, _task: Task) -> None:
        pass

    async def record_failure(self, _task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        self.given_up.append(reason)
        self.suspected = is_file_suspect


def consumer_of(redis: Redis, work: Work, name: str, queue: TaskQueue | None = None, **policy: Any) -> Supervisor:
    bounds = {"slots": 1, "max_attempts": 3, "claim_after_s": CLAIM_AFTER_S, "backoff_s": 0.05, "max_backoff_s": 0.05}
    consumer = Consumer(
        queue or TaskQueue(redis, PROCESSING_QUEUE),
        work,
        ConsumerPolicy(**(bounds | policy)),
        name=name,
        accepting_tasks=lambda: True,
        telemetry=NO_TELEMETRY,
    )
    return Supervisor(name, consumer.children)


@asynccontextmanager
async def working(*consumers: Supervisor) -> AsyncIterator[None]:
    with trio.fail_after(_HARD_LIMIT_S):
        async with trio.open_nursery() as nursery:
            for each in consumers:
                nursery.start_soon(each.run)
            yield
            for each in consumers:
                each.stop()


async def until(look: Callable[[], object]) -> None:
    while not look():  # noqa: ASYNC110 - what is looked at tells nobody
        await trio.sleep(0.02)


async def settled(queue: TaskQueue) -> QueueStats:
    """Wait until the queue has nothing left to do, and return its statistics."""
    while True:
        stats = await queue.stats()
        if not stats.depth and not stats.delayed:
            return stats
        await trio.sleep(0.02)


async def test_few_tasks_find_out_that_the_store_is_away(redis_url: str) -> None:
    away_for_s = 1.0

    def failure() -> MediaError | None:
        return Unavailable(Dependency.STORE) if trio.current_time() < work.begun[0] + away_for_s else None

    work = Work(failure)
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        for number in range(20):
            await queue.enqueue({"media_id": f"m{number}"})
        async with working(consumer_of(redis, work, "only")):
            stats = await settled(queue)
        failed = [at for at in work.begun if at < work.begun[0] + away_for_s]
        # The pauses are 0.2, 0.4 and 0.8 s, give or take a fifth; on a slow machine there are fewer.
        assert len(failed) <= 4
        assert len(work.begun) == 20 + len(failed)
        assert stats.dead_letters == 0


async def assert_cost_no_attempt(redis_url: str, failures: Sequence[Exception]) -> None:
    """Check that the failures used up no attempt of the only task."""
    left = [*failures, None]
    work = Work(lambda: left.pop(0))
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "only", max_attempts=1)):
            assert (await settled(queue)).dead_letters == 0
    assert len(work.begun) == len(failures) + 1
    assert work.given_up == []


class Unreadable(Work):
    """A handler for which some objects are unavailable until ``repaired`` is set."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names
        self.repaired = False
        self.done: list[str] = []
        self.failed: list[str] = []
        self.renewed: list[str] = []

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        name = task.fields["media_id"]
        if name in self._names and not self.repaired:
            self.failed.append(name)
            raise Unavailable(Dependency.OBJECT, "403")
        self.done.append(name)

    async def renew_status(self, task: Task) -> None:
        self.renewed.append(task.fields["media_id"])


async def test_objects_that_are_unavailable_hold_up_no_other_task(redis_url: str) -> None:
    """They are more than the slots, and the first in the queue. The consumer continues without a pause."""
    bad, good = [f"bad {number}" for number in range(30)], [f"good {number}" for number in range(20)]
    work = Unreadable(*bad)
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        for name in (*bad, *good):
            await queue.enqueue({"media_id": name})
        async with working(consumer_of(redis, work, "only", backoff_s=60.0)):
            await until(lambda: len(work.done) == 20)
            assert (await queue.stats()).delayed == 30
    assert work.done == good
    assert work.failed == work.renewed == bad  # each of them once: it has 30 s at least before it is tried again


async def add(redis: Redis, **fields: str) -> None:
    entry = {"task_id": "t", "media_id": "m"} | fields
    await redis.execute("XADD", PROCESSING_QUEUE, "*", *(part for field in entry.items() for part in field))


def ago(seconds: float) -> str:
    return f"{time.time() - seconds:.3f}"


@pytest.mark.parametrize(
    ("waited_s", "least_s", "most_s"), [(0, 5, 10), (100, 50, 110), (5 * 3600, 1800, 3600), (5.9 * 3600, 1800, 3600)]
)
async def test_an_unavailable_object_is_tried_less_and_less_often_for_free(
    redis_url: str, waited_s: float, least_s: float, most_s: float
) -> None:
    work = Unreadable("m")
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await add(redis, unavailable_since=ago(waited_s) if waited_s else "0", first_seen=ago(waited_s + 60))
        async with working(consumer_of(redis, work, "only", max_attempts=1, backoff_s=10.0)):
            await until(lambda: work.failed)
            stats = await put_off(queue)
        assert stats.next_due is not None
        assert least_s - 2 < stats.next_due - time.time() < most_s + 2
        (member,) = await delayed(redis)
        kept = fields_of(member)
    assert kept["attempts"] == "0"
    assert float(kept["unavailable_since"]) == pytest.approx(time.time() - waited_s, abs=5)
    assert work.given_up == []


async def put_off(queue: TaskQueue) -> QueueStats:
    """Wait until a task of the queue is delayed, and return the statistics."""
    while True:
        stats = await queue.stats()
        if stats.delayed:
            return stats
        await trio.sleep(0.02)


async def delayed(redis: Redis) -> list[bytes]:
    members: list[bytes] = await redis.execute("ZRANGE", QueueKeys(PROCESSING_QUEUE).delayed, 0, -1)
    return members


async def test_after_six_hours_an_unavailable_object_costs_attempts(redis_url: str) -> None:
    work = Unreadable("m")
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await add(redis, unavailable_since=ago(6.1 * 3600), attempts="1")
        async with working(consumer_of(redis, work, "only", max_attempts=3)):
            await until(lambda: work.failed)
            await put_off(queue)
            (member,) = await delayed(redis)
            assert fields_of(member)["attempts"] == "2"
            await redis.execute("ZADD", QueueKeys(PROCESSING_QUEUE).delayed, 0, member)  # an hour later
            await settled(queue)
        (dead_letter,) = await queue.dead_letters.list()
    assert work.given_up == [Reason.UNREADABLE]
    assert dead_letter.error == "unreadable: 403"
    assert dead_letter.attempts == 3


@pytest.mark.parametrize("what", [Dependency.STORE, Dependency.REDIS, Dependency.SANDBOX])
async def test_an_outage_in_between_gives_an_unavailable_object_no_new_six_hours(
    redis_url: str, what: Dependency
) -> None:
    """A store that fails for a moment every few hours says nothing about the object."""
    work = Work(lambda: Unavailable(what))
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await add(redis, unavailable_since=ago(5 * 3600))
        async with working(consumer_of(redis, work, "only", backoff_s=60.0)):
            await put_off(queue)
        (member,) = await delayed(redis)
    assert float(fields_of(member)["unavailable_since"]) == pytest.approx(time.time() - 5 * 3600, abs=5)


async def test_an_unavailable_object_that_is_there_again_is_done(redis_url: str) -> None:
    work = Unreadable("m")
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "only", backoff_s=0.05, max_attempts=1)):
            await until(lambda: len(work.failed) == 3)
            work.repaired = True
            assert (await settled(queue)).dead_letters == 0
    assert work.done == ["m"]


async def test_a_task_that_is_too_old_is_a_dead_letter_without_another_attempt(redis_url: str) -> None:
    work = Work()
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await add(redis, first_seen=ago(3601), attempts="2")
        async with working(consumer_of(redis, work, "only", max_age_s=3600.0)):
            await settled(queue)
            (dead_letter,) = await queue.dead_letters.list()
            assert dead_letter.error.startswith("expired: ")
            assert (work.begun, work.given_up) == ([], [Reason.EXPIRED])
            assert await queue.dead_letters.replay(dead_letter.entry_id)  # its age starts again
            await until(lambda: work.begun)
            assert (await settled(queue)).dead_letters == 0


async def test_a_task_without_an_end_is_never_too_old(redis_url: str) -> None:
    """Such as a deletion: neither its age nor an unavailable object ends it."""
    work = Unreadable("m")
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await add(redis, first_seen=ago(1e8), unavailable_since=ago(1e7), attempts="9")
        async with working(consumer_of(redis, work, "only", max_age_s=1.0, gives_up=False)):
            await until(lambda: work.failed)
            await put_off(queue)
    assert work.given_up == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_a_full_disk_costs_no_attempt(redis_url: str, number: int) -> None:
    await assert_cost_no_attempt(redis_url, [OSError(number, "the spool"), OSError(number, "the spool")])


async def test_a_task_that_has_not_fitted_the_disk_for_an_hour_uses_up_its_attempts(redis_url: str) -> None:
    work = Work(lambda: OSError(errno.ENOSPC, "the spool"))
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        task = {"task_id": "t", "media_id": "m", "first_seen": f"{time.time() - 3700:.3f}"}
        await redis.execute("XADD", PROCESSING_QUEUE, "*", *(part for field in task.items() for part in field))
        async with working(consumer_of(redis, work, "only", max_attempts=2)):
            await settled(queue)
        (dead_letter,) = await queue.dead_letters.list()
    assert (len(work.begun), dead_letter.attempts) == (2, 2)
    assert dead_letter.error.startswith("internal: disk")


async def test_a_defect_is_buried_under_its_code(redis_url: str) -> None:
    work = Work(lambda: OSError(errno.EBADF, "closed"))
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "only", max_attempts=2)):
            await settled(queue)
        (dead_letter,) = await queue.dead_letters.list()
    assert work.given_up == [Reason.INTERNAL]
    assert dead_letter.error == "internal: OSError(9, 'closed')"
    assert dead_letter.attempts == 2


async def test_a_medium_whose_decoder_is_always_killed_comes_to_an_end(redis_url: str) -> None:
    work = Work(lambda: DecoderKilled("out of memory?"))
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "only")):
            await settled(queue)
        (dead_letter,) = await queue.dead_letters.list()
    assert len(work.begun) == 3
    assert work.given_up == [Reason.DECODER_KILLED]
    assert dead_letter.error.startswith("decoder_killed: ")
    assert dead_letter.attempts == 3


class CannotRecord(Work):
    """A bug in the code that records the end of a task."""

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        await super().record_failure(task, reason)
        raise RuntimeError("a defect")


@pytest.mark.parametrize(
    ("failure", "attempts", "recorded"),
    [
        (Rejected(Reason.CORRUPT), 3, [Reason.CORRUPT, Reason.CORRUPT, Reason.CORRUPT, Reason.INTERNAL]),
        (DecoderKilled("out of memory?"), 3, [Reason.DECODER_KILLED]),
    ],
    ids=["rejected", "out of attempts"],
)
async def test_an_end_that_cannot_be_recorded_takes_nobody_else_down(
    redis_url: str, failure: MediaError, attempts: int, recorded: list[Reason]
) -> None:
    work = CannotRecord(lambda: failure)
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        supervisor = consumer_of(redis, work, "only")
        async with working(supervisor):
            await settled(queue)
            restarts = [child.restarts for child in supervisor.snapshot().children]
        (dead_letter,) = await queue.dead_letters.list()
    assert not any(restarts)
    assert len(work.begun) == attempts
    assert work.given_up == recorded
    assert dead_letter.attempts == attempts


class Companions(Work):
    """Records for each task the other tasks that were active when it began. Only ``first`` waits for `hold`."""

    def __init__(self) -> None:
        super().__init__()
        self.active: set[str] = set()
        self.beside: dict[str, set[str]] = {}

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        media_id = task.fields["media_id"]
        self.beside[media_id] = set(self.active)
        self.active.add(media_id)
        if media_id == "first":
            await self.hold.wait()
        await trio.lowlevel.checkpoint()
        self.active.remove(media_id)


async def test_after_two_crashes_a_task_runs_alone(redis_url: str) -> None:
    """Whatever kills the workers cannot make poison of a task that was only beside it."""
    work = Companions()
    work.hold = trio.Event()
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "first"})
        async with working(consumer_of(redis, work, "only", slots=3)):
            await until(lambda: work.beside)
            await queue.enqueue({"media_id": "suspect", "crashed_workers": "p0@1 p1@2"})
            while (await queue.stats()).pending < 2:  # noqa: ASYNC110 - as in `until`
                await trio.sleep(0.02)
            for number in range(3):
                await queue.enqueue({"media_id": f"later {number}"})
            work.hold.set()
            await settled(queue)
    assert work.beside["suspect"] == set()
    assert all("suspect" not in beside for beside in work.beside.values())
    assert len(work.beside) == 5


async def test_poison_whose_end_cannot_be_recorded_is_a_dead_letter(redis_url: str) -> None:
    work = CannotRecord()
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        for number in range(MAX_DEATHS):
            lease = await queue.take(f"dead-{number}", block_s=0)
            assert lease is not None
            await lease.begin()
            assert await queue.reclaim("janitor", idle_s=0, silent_s=0) == 1
        async with working(consumer_of(redis, work, "heir")):
            await settled(queue)
        (dead_letter,) = await queue.dead_letters.list()
    assert not work.begun
    assert work.given_up == [Reason.POISON]
    assert dead_letter.error.startswith("poison")


@pytest.mark.parametrize("attempts", [0, 1])
async def test_poison_makes_the_file_suspect_only_if_an_attempt_failed_too(redis_url: str, attempts: int) -> None:
    work = Work()
    async with open_redis(redis_url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m", "attempts": str(attempts), "crashed_workers": "p0@1 p1@2 p2@3"})
        async with working(consumer_of(redis, work, "heir")):
            await settled(queue)
    assert not work.begun
    assert work.given_up == [Reason.POISON]
    assert work.suspected == bool(attempts)


@pytest.fixture
def durable() -> Iterator[DurableRedis]:
    with durable_redis() as server:
        yield server


async def test_who_could_not_renew_while_redis_was_away_is_not_dead(durable: DurableRedis) -> None:
    """Three outages, each longer than a lease, during one task: no other worker takes it, and it is not poison."""
    owner, heir = Work(), Work()
    owner.hold = trio.Event()
    async with open_redis(durable.url, timeout_s=1) as first, open_redis(durable.url, timeout_s=1) as second:
        queue = TaskQueue(second, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        async with working(consumer_of(first, owner, "owner")):
            await until(lambda: owner.begun)
            async with working(consumer_of(second, heir, "heir")):
                for _ in range(3):
                    durable.kill()
                    await trio.sleep(1.5 * CLAIM_AFTER_S)
                    durable.start()  # blocks for a moment: a server dies with the thread that started it
                    await trio.sleep(1.5 * CLAIM_AFTER_S)
                owner.hold.set()
                stats = await settled(queue)
    assert stats.dead_letters == 0
    assert (len(owner.begun), len(heir.begun)) == (1, 0)


async def test_who_is_dead_is_found_out_after_an_outage_too(durable: DurableRedis) -> None:
    heir = Work()
    async with open_redis(durable.url, timeout_s=1) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        await queue.enqueue({"media_id": "m"})
        assert await TaskQueue(redis, PROCESSING_QUEUE).take("the dead one", block_s=0) is not None
        async with working(consumer_of(redis, heir, "heir")):
            durable.kill()
            await trio.sleep(1.5 * CLAIM_AFTER_S)
            durable.start()
            await until(lambda: heir.begun)
    with redis_py.Redis.from_url(durable.url) as client:
        assert client.xlen(PROCESSING_QUEUE) == 0


class LosesADelivery(TaskQueue):
    """The server gave the first task to this consumer, but the reply never came."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, PROCESSING_QUEUE)
        self.lost = False
        self.deaths: list[int] = []

    async def take(self, consumer: str, block_s: float, *, look_first: bool = True) -> Lease | None:
        lease = await super().take(consumer, block_s, look_first=look_first)
        if lease is None or self.lost:
            self.deaths += [lease.deaths] if lease is not None else []
            return lease
        self.lost = True
        lease.supersede()
        return None


async def test_a_worker_without_tasks_whose_delivery_was_lost_is_not_dead(redis_url: str) -> None:
    """It waits in a read that is far longer than a lease, and the janitor of another replica reclaims the task."""
    work = Work()
    async with open_redis(redis_url) as redis, open_redis(redis_url) as elsewhere:
        janitor = TaskQueue(elsewhere, PROCESSING_QUEUE)
        queue = LosesADelivery(redis)
        assert await janitor.janitor_lock("janitor", 3600).acquire()
        await janitor.enqueue({"media_id": "m"})
        async with working(consumer_of(redis, work, "waits", queue, claim_after_s=_LEASE_S)):
            await until(lambda: queue.lost)
            while not await janitor.reclaim("janitor", idle_s=_LEASE_S):  # noqa: ASYNC110 - as in `until`
                await trio.sleep(0.05)
            await until(lambda: work.begun)
            await settled(janitor)
    assert queue.deaths == [0]
