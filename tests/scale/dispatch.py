"""Fair dispatch: how long tasks wait beside a large backlog of others, and what it costs Redis.

usage: python -m tests.scale.dispatch

Each figure is printed beside that of the same tasks in order of arrival, which means that all are on one account.
"""

from __future__ import annotations

import logging
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import redis as redis_py
import structlog
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Lock, Redis, Seats, open_redis
from avion_media.backends.remote import HostLimiter, HostLimits
from avion_media.common.formats import JPEG, MP4
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import (
    CACHE_QUEUE,
    CONSUMER_GROUP,
    DROP_DELETED,
    EVENTS_STREAM,
    PROCESSING_QUEUE,
    QUEUES,
    EnsureLease,
    Task,
    TaskHandler,
    processing_fields,
)
from avion_media.items.state import MediaEvents
from avion_media.nodes import events as node_of_events
from avion_media.nodes import foundation, gauges, sweeper
from avion_media.nodes.gauges import read_fleet_statistics
from avion_media.process.replicas import Replica, Replicas
from avion_media.process.runtime import ROLES, FleetStatistics, Observed
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from guarded_fetch import parse_remote_url
from supervisors import Supervisor
from tests.services import redis_server
from trio_telemetry import NO_TELEMETRY

_TASK_S = 0.005
_PROBES = 40
_REPLICAS, _FLEET, _IDLE_S = 60, 300, 20.0


class Timed(TaskHandler):
    """A handler whose tasks take ``seconds_of``. It records when each ended."""

    def __init__(self, seconds_of: Callable[[Task], float], hosts: HostLimiter | None = None) -> None:
        self.ended: dict[str, float] = {}
        self._seconds_of = seconds_of
        self._hosts = hosts

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        seconds = self._seconds_of(task)
        if self._hosts is None:
            await trio.sleep(seconds)
        else:
            url = parse_remote_url(task.fields["remote_url"])
            async with self._hosts.admitted(url, trio.current_time() + 60):
                await trio.sleep(seconds)
        self.ended[task.task_id] = time.monotonic()


@asynccontextmanager
async def working(queue: TaskQueue, handler: Timed, slots: int, tenant_cap: int = 0) -> AsyncIterator[None]:
    """Let one replica work on the queue."""
    policy = ConsumerPolicy(slots, 5, 60.0, 2.0, 300.0, tenant_cap=tenant_cap)
    consumer = Consumer(
        queue,
        handler,
        policy,
        name="only",
        accepting_tasks=lambda: True,
        telemetry=NO_TELEMETRY,
    )
    root = Supervisor("root", consumer.children)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        yield
        root.stop()


def image(owner: str) -> dict[str, str]:
    return processing_fields(str(new_media_id(JPEG, 1_700_000_000_000)), owner)


async def waits(url: str, crowd: Iterator[dict[str, str]], probe: Callable[[], dict[str, str]], **how: Any) -> float:
    """Return the 95th percentile of the seconds from queueing a probe to its end, behind a crowd."""
    async with open_redis(url) as redis:
        await redis.execute("FLUSHALL")
        queue = TaskQueue(redis, how.pop("queue"))
        handler = how.pop("handler")(redis)
        within_s = how.pop("within_s", 60.0)
        for fields in crowd:
            await queue.enqueue(fields)
        await queue.settle(tenant_cap=how.get("tenant_cap", 0), slots=how["slots"], idle_s=60)
        asked: dict[str, float] = {}
        async with working(queue, handler, **how):
            for _ in range(_PROBES):
                task_id = await queue.enqueue(probe())
                asked[task_id] = time.monotonic()
                await trio.sleep(0.05)
            with trio.move_on_after(within_s):
                while not asked.keys() <= handler.ended.keys():  # noqa: ASYNC110 - it notes, and wakes nobody
                    await trio.sleep(0.01)
        now = time.monotonic()
        return float(statistics.quantiles([handler.ended.get(each, now) - at for each, at in asked.items()], n=20)[-1])


def behind_an_owner(url: str, *, fair: bool) -> float:
    """Return the wait behind 5,000 tasks of one owner, in seconds."""
    crowd = (image("many") for _ in range(5000))
    how = {"queue": PROCESSING_QUEUE, "handler": lambda _redis: Timed(lambda _task: _TASK_S), "slots": 2}
    return trio.run(partial(waits, url, crowd, lambda: image("another" if fair else "many"), **how))


def behind_videos(url: str, *, fair: bool) -> float:
    """Return the wait of images behind 500 videos of 100 ms each, in seconds."""
    fmt = MP4 if fair else JPEG
    video = str(new_media_id(fmt, 1_700_000_000_001))
    crowd = (processing_fields(video, "many") for _ in range(500))
    how = {
        "queue": PROCESSING_QUEUE,
        "handler": lambda _redis: Timed(lambda task: 0.1 if task.fields["media_id"] == video else _TASK_S),
        "slots": 2,
    }
    return trio.run(partial(waits, url, crowd, lambda: image("many"), **how))


def beside_a_slow_server(url: str, *, fair: bool) -> float:
    """Return the wait beside 10,000 tasks of a server that takes 2 s for each, in seconds."""
    slow = "https://slow.example" if fair else "https://healthy.example/slow"
    crowd = ({"remote_url": f"{slow}/{number}"} for number in range(10_000))
    policy = HostLimits(slots=4, breaker_failures=5, first_pause_s=30.0, longest_pause_s=600.0)
    numbers = iter(range(1_000_000))
    how = {
        "queue": CACHE_QUEUE,
        "handler": lambda redis: Timed(
            lambda task: 2.0 if "slow" in task.fields["remote_url"] else _TASK_S,
            HostLimiter(lambda: redis, policy) if fair else None,
        ),
        "slots": 8,
        "tenant_cap": 4 if fair else 0,
        "within_s": 20.0,
    }
    return trio.run(
        partial(waits, url, crowd, lambda: {"remote_url": f"https://healthy.example/{next(numbers)}"}, **how)
    )


def cpu_s(client: Any) -> float:
    told = client.info("cpu")
    return float(told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"])


def cost_of_plain_stream(client: Any, count: int) -> float:
    """Return Redis's CPU per task without turns, in µs: XADD, XREADGROUP, and a fenced end."""
    client.flushall()
    client.xgroup_create(PROCESSING_QUEUE, CONSUMER_GROUP, "0", mkstream=True)
    end = client.register_script(
        "redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])"
        " redis.call('XDEL', KEYS[1], ARGV[2]) return 1"
    )
    before = cpu_s(client)
    for _ in range(count):
        client.xadd(PROCESSING_QUEUE, image("x"))
        ((_, ((entry_id, _),)),) = client.xreadgroup(CONSUMER_GROUP, "a", {PROCESSING_QUEUE: ">"}, count=1)
        end(keys=[PROCESSING_QUEUE], args=[CONSUMER_GROUP, entry_id])
    return (cpu_s(client) - before) / count * 1e6


async def cost_of_turns(url: str, client: Any, waiting: int, tenants: int, count: int) -> float:
    """Return Redis's CPU per task in µs: queued, taken and completed, beside a backlog."""
    client.flushall()
    async with open_redis(url) as redis:
        queue = TaskQueue(redis, PROCESSING_QUEUE)
        for number in range(waiting):
            await queue.enqueue(image(f"t{number % tenants}"))
        before, lease = cpu_s(client), None
        for _ in range(count):  # as a consumer with one slot does
            await queue.enqueue(image("x"))
            lease = await queue.exchange(lease, "a") if lease else await queue.take("a", 0.5)
        assert lease is not None
        await lease.complete()
        return (cpu_s(client) - before) / count * 1e6


def share_of_polling(url: str, client: Any) -> float:
    """Return the share of a core that Redis needs while ``_FLEET`` replicas with all queues have nothing to do.

    The cost of one replica is the difference between few and many; the janitors cost the same for any number.
    """
    few, many = (trio.run(share_of, url, client, count) for count in (_REPLICAS // 3, _REPLICAS))
    each = (many - few) / (_REPLICAS - _REPLICAS // 3)
    return few + each * (_FLEET - _REPLICAS // 3)


async def share_of(url: str, client: Any, count: int) -> float:
    """Return the share for ``count`` replicas. The groups also have the consumers of all other replicas."""
    client.flushall()
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(open_redis(url)) for _ in range(count)]
        nursery = await stack.enter_async_context(trio.open_nursery())
        for name in QUEUES:
            queue = TaskQueue(replicas[0], name)
            await queue.ensure_group()
            for number in range(_FLEET):
                client.execute_command("XGROUP", "CREATECONSUMER", name, CONSUMER_GROUP, f"replica {number}")
            await queue.settle(tenant_cap=0, slots=2, idle_s=60.0)  # so that each finds how many there are
        for number, redis in enumerate(replicas):
            nursery.start_soon(_do_nothing, redis, f"replica {number}")
        await trio.sleep(_IDLE_S)  # until all have begun
        before, started = cpu_s(client), time.monotonic()
        await trio.sleep(_IDLE_S)
        share = (cpu_s(client) - before) / (time.monotonic() - started)
        nursery.cancel_scope.cancel()
    return share


async def _do_nothing(redis: Redis, name: str) -> None:
    """Make all requests to Redis of an idle replica with all roles."""
    queues = {each: TaskQueue(redis, each) for each in QUEUES}
    events = MediaEvents(redis)
    seats = [Seats(redis, f"{{{DROP_DELETED}}}:{each}", 3, ttl_s=node_of_events._SEAT_TTL_S) for each in ("l", "r")]
    seats.append(Seats(redis, f"{{{EVENTS_STREAM}}}:w", 1, ttl_s=node_of_events._SEAT_TTL_S))
    leadership = Lock(redis, sweeper._LEADER, ttl_s=sweeper._LEADER_TTL_S)
    async with trio.open_nursery() as nursery:
        for queue in queues.values():
            consumer = Consumer(
                queue,
                Timed(lambda _task: 0.0),
                ConsumerPolicy(2, 5, 60.0, 2.0, 300.0),
                name=name,
                accepting_tasks=lambda: True,
                telemetry=NO_TELEMETRY,
            )
            nursery.start_soon(Supervisor("s", consumer.children).run)
        # As the nodes do, by their constants.
        me = Replica(name, name, "1.0.0", ROLES, "READY", True, time.time(), time.time())
        sampling_s = Observed(fleet=FleetStatistics(0.0, replicas=_FLEET)).sampling_s
        calls: list[tuple[Callable[[], Awaitable[object]], float]] = [
            (redis.ping, foundation._QUIET_PING_S),
            (partial(redis.execute, "TIME"), foundation._QUIET_PING_S),
            (partial(Replicas(redis).announce, me), sampling_s),
            (leadership.acquire, sweeper._FOLLOWER_S),
            (partial(read_fleet_statistics, redis, queues, events, gauges._COUNTED_S), sampling_s),
            *((each.find, node_of_events._SEAT_TTL_S) for each in seats),
        ]
        for each, every_s in calls:
            nursery.start_soon(_repeat, redis, each, every_s)


async def _repeat(redis: Redis, call: Callable[[], Awaitable[object]], every_s: float) -> None:
    await trio.sleep(random.uniform(0, every_s))
    while True:
        await call()
        await trio.sleep(redis.next_tick_s(every_s))


def main() -> int:
    """Return 0 if every figure is as promised in docs/decisions/0005."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    kept = []

    def show(what: str, figure: float, beside: float, limit: float, unit: str) -> None:
        kept.append(figure <= limit)
        print(f"{what:<58}{figure:>10.2f} {unit:<3}{beside:>10.2f} {unit:<3}{limit:>8.1f} {unit}", flush=True)

    with redis_server() as url, redis_py.Redis.from_url(url) as client:
        print(f"{'p95 from queued to done':<58}{'turns':>10}{'in order':>14}{'to reach':>12}")
        for what, measured, limit in (
            ("another owner behind 5,000 tasks of 5 ms, 2 slots", behind_an_owner, 2.0),
            ("images behind 500 videos of 100 ms, 2 slots", behind_videos, 2.0),
            ("another server beside 10,000 tasks of 2 s, 8 slots", beside_a_slow_server, 0.5),
        ):
            show(what, measured(url, fair=True), measured(url, fair=False), limit, "s")
        print(f"\n{'Redis CPU of a task':<58}{'turns':>10}{'plain stream':>14}")
        plain = cost_of_plain_stream(client, 2000)
        for waiting, tenants in ((0, 1), (5000, 1), (20_000, 2000)):
            cost = trio.run(cost_of_turns, url, client, waiting, tenants, 2000)
            print(f"{f'beside {waiting} waiting of {tenants} tenants':<58}{cost:>10.0f} µs {plain:>10.0f} µs")
        share = share_of_polling(url, client) * 100
        kept.append(share <= 1)
        print(f"\nRedis CPU while {_FLEET} replicas have nothing to do: {share:.1f} % of a core; to reach 1 %")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
