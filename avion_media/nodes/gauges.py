"""What is not counted where it happens, but looked at: queues, limiters, the event loop, the process.

The gauges are read whenever metrics are collected. What must be asked for (the queues) is asked by `keep_polling`,
every few seconds and with a deadline, once for the whole fleet, however many scrape: one replica counts, and all others
read what it has found. So a replica costs Redis three commands every few seconds, whatever there is to count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

import trio

from avion_media.backends.queue import QueueKeys, QueueStats, TaskQueue
from avion_media.backends.queue.attempts import outcomes
from avion_media.backends.queue.history import QueueSample, Sample
from avion_media.backends.redis import Redis, RedisRefused, as_map
from avion_media.common.clock import now_s
from avion_media.common.errors import Unavailable
from avion_media.common.records import RECORDS, UNREADABLE, JsonRecord
from avion_media.common.tasks import DROP_DELETED
from avion_media.common.telemetry import instruments
from avion_media.common.telemetry.attributes import UNCLEAN_END
from avion_media.items.deletion.notices import notice_backlog
from avion_media.items.moderation.records import DECIDED_WITHIN
from avion_media.items.state import MediaEvents
from avion_media.items.state.sweep_state import SweepState
from avion_media.process.lifecycle import Phase
from avion_media.process.replicas import Replicas
from avion_media.process.runtime import FleetStatistics, Limiter, Runtime
from avion_media.process.tree import lasting_nodes
from avion_media.workers.sweep import STORED_KINDS
from supervisors import State, Supervisor
from trio_redis import run_all
from trio_telemetry import Instrument, Point, cpu_seconds, get_logger, loop_lags, open_files, resident_bytes

_log = get_logger(path="telemetry")
_COUNTED_S = 4.0  # age from which some replica counts again
_FIRST_POLL_S = 0.5  # until Redis was there once
_OF_QUEUES: dict[Instrument, Callable[[QueueStats], float]] = {
    instruments.QUEUE_LAG: lambda stats: stats.lag,
    instruments.QUEUE_PENDING: lambda stats: stats.pending,
    instruments.QUEUE_OLDEST: lambda stats: stats.oldest_age_s,
    instruments.QUEUE_DELAYED: lambda stats: stats.delayed,
    instruments.QUEUE_DEAD: lambda stats: stats.dead_letters,
    instruments.QUEUE_PAUSED: lambda stats: float(stats.paused_since > 0),
}
_OF_LIMITERS: dict[Instrument, Callable[[Limiter], float]] = {
    instruments.LIMITER_USED: lambda limiter: limiter.used,
    instruments.LIMITER_LIMIT: lambda limiter: limiter.limit,
    instruments.LIMITER_WAITING: lambda limiter: limiter.waiting,
}
_KEY = "media_statistics"
_COUNTING = "media_statistics_counting"  # string: some replica counts, or has counted a moment ago
_KEPT = 3  # times the age at which they are counted again: the others read them while one counts


def observe(runtime: Runtime) -> None:
    """Register all gauges. Called once per process.

    While Redis is unavailable, gauges keep the values of the last successful poll; ``avion.dependency.up`` is then 0.
    """
    observe_gauge = runtime.telemetry.observe
    for instrument, of_queue in _OF_QUEUES.items():
        observe_gauge(instrument, _queue_points(runtime, of_queue))
    for instrument, of_limiter in _OF_LIMITERS.items():
        observe_gauge(instrument, _limiter_points(runtime, of_limiter))
    observe_gauge(instruments.EVENTS_HEADROOM, lambda: [(runtime.observed.fleet.events_headroom, {})])
    observe_gauge(instruments.ENDPOINTS_VALID, lambda: [(float(runtime.observed.endpoints_file_is_valid()), {})])
    observe_gauge(instruments.REDIS_MEMORY, lambda: [(runtime.observed.fleet.memory_use, {})])
    observe_gauge(instruments.SWEEP_FINISHED, lambda: [(runtime.observed.fleet.swept_at, {})])
    observe_gauge(instruments.STORE_OBJECTS, lambda: _stored(runtime, 0))
    observe_gauge(instruments.STORE_SIZE, lambda: _stored(runtime, 1))
    observe_gauge(
        instruments.RECORDS_UNREADABLE, lambda: [(UNREADABLE.counts[kind], {"kind": kind}) for kind in RECORDS]
    )
    observe_gauge(instruments.REVIEW_WAITING, lambda: [(len(runtime.observed.held), {})])
    observe_gauge(instruments.REVIEW_OLDEST, lambda: [(_waits_s(runtime.observed.held), {})])
    observe_gauge(instruments.AUDIT_UNWRITTEN, lambda: [(runtime.audit.failing_for_s, {})])
    observe_gauge(instruments.NOTICES, lambda: [(len(runtime.observed.notices_due), {})])
    observe_gauge(instruments.NOTICE_TIME_LEFT, lambda: [(_time_left_s(runtime.observed.notices_due), {})])
    observe_gauge(instruments.DEPENDENCY_UP, lambda: _dependencies(runtime))
    observe_gauge(
        instruments.PHASE, lambda: [(float(each is runtime.lifecycle.phase), {"phase": str(each)}) for each in Phase]
    )
    observe_gauge(instruments.READY, lambda: [(float(runtime.readiness.ready), {})])
    observe_gauge(instruments.HTTP_ACTIVE, lambda: [(runtime.observed.active_requests(), {})])
    observe_gauge(instruments.SANDBOX_RESERVED, lambda: [(_admission(runtime)[0], {})])
    observe_gauge(instruments.SANDBOX_BUDGET, lambda: [(_admission(runtime)[1], {})])
    observe_gauge(instruments.LOOP_TASKS, lambda: [(trio.lowlevel.current_statistics().tasks_living, {})])
    observe_gauge(instruments.PROCESS_CPU, lambda: [(s, {"cpu__mode": mode}) for mode, s in cpu_seconds().items()])
    observe_gauge(instruments.PROCESS_MEMORY, lambda: [(resident_bytes(), {})])
    observe_gauge(instruments.PROCESS_FDS, lambda: [(open_files(), {})])
    _observe_drain(runtime)


def observe_tree(runtime: Runtime, root: Supervisor) -> None:
    """Register the states of the nodes. The counters of each node begin at zero."""
    telemetry = runtime.telemetry
    telemetry.observe(
        instruments.NODE_UP,
        lambda: [(float(node.state is State.RUNNING), {"path": node.path}) for node in lasting_nodes(root)],
    )
    for node in lasting_nodes(root):
        for instrument in (instruments.RESTARTS, instruments.ESCALATIONS):
            telemetry.count(instrument, 0, path=node.path)
        for end in UNCLEAN_END.values:
            telemetry.count(instruments.UNCLEAN_ENDS, 0, path=node.path, end=end)


async def keep_polling(runtime: Runtime) -> None:
    """Sample the queues, and measure how late the event loop is. Never returns, and raises nothing but Cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_measure_lag, runtime)
        await _keep_sampling(runtime)


async def _keep_sampling(runtime: Runtime) -> None:
    while True:
        try:
            runtime.telemetry.refresh()
            await _sample(runtime)
        except Unavailable:
            pass  # the next sample is as good
        except Exception as error:  # noqa: BLE001 - a crash here would restart the whole tree, which needs no gauges
            _log.error("gauges.failed", exc_info=error)
        period_s = runtime.observed.sampling_s if runtime.observed.fleet.counted_at else _FIRST_POLL_S
        await trio.sleep(runtime.redis.next_tick_s(period_s))


async def _sample(runtime: Runtime) -> None:
    observed = runtime.observed
    count = partial(read_fleet_statistics, runtime.redis, runtime.items.queues, runtime.items.events, _COUNTED_S)
    _, found = await run_all([partial(_announce, runtime), count])
    if found.memory_use >= 1 > observed.fleet.memory_use:
        _log.warning("redis.full", memory_use=round(found.memory_use, 3))
    observed.fleet = found
    figures = {**found.outcomes, **{name: read().used for name, read in observed.limiters.items()}}
    figures |= {"memory_bytes": resident_bytes(), "loop_lag_s": observed.history.take_lag()}
    figures["requests"] = observed.active_requests()
    observed.history.add(Sample(time.time(), found.queues, figures))


async def _announce(runtime: Runtime) -> None:
    """Report this process, until it stops: the child of Redis then takes it off the list."""
    if runtime.lifecycle.phase not in (Phase.STOPPING, Phase.DONE):
        await runtime.replicas.announce(runtime.replica())


async def _measure_lag(runtime: Runtime) -> None:
    async for lag_s in loop_lags():
        runtime.telemetry.record(instruments.LOOP_LAG, lag_s)
        runtime.observed.history.note_lag(lag_s)


def _queue_points(runtime: Runtime, value: Callable[[QueueStats], float]) -> Callable[[], list[Point]]:
    return lambda: [
        (value(runtime.observed.fleet.stats.get(name, QueueStats())), {"messaging__destination__name": name})
        for name in (*runtime.items.queues, DROP_DELETED)
    ]


def _limiter_points(runtime: Runtime, value: Callable[[Limiter], float]) -> Callable[[], list[Point]]:
    return lambda: [(value(read()), {"limiter": name}) for name, read in runtime.observed.limiters.items()]


def _stored(runtime: Runtime, index: int) -> list[Point]:
    stored = runtime.observed.fleet.stored
    return [(stored.get(kind, (0, 0))[index], {"kind": kind}) for kind in STORED_KINDS]


def _waits_s(held: Sequence[str]) -> float:
    """How long the first of these has waited."""
    return max(0.0, time.time() - datetime.fromisoformat(held[0]).timestamp()) if held else 0.0


def _time_left_s(due: Sequence[float]) -> float:
    """How long the most urgent notice can wait."""
    return due[0] - now_s() if due else DECIDED_WITHIN.total_seconds()


def _dependencies(runtime: Runtime) -> list[Point]:
    store_up = runtime.store.is_filled and runtime.store.get().state.is_available
    return [
        (float(runtime.redis.available.up), {"dependency": "redis"}),
        (float(store_up), {"dependency": "store"}),
    ]


def _admission(runtime: Runtime) -> tuple[int, int]:
    """Of the sandbox: bytes reserved, and the budget."""
    if not runtime.pipeline.is_filled:
        return 0, runtime.config.sandbox.budget
    admission = runtime.pipeline.get().sandbox.admission
    return admission.used_bytes, admission.budget_bytes


def _observe_drain(runtime: Runtime) -> None:
    began_at: float | None = None

    def begin(phase: Phase) -> None:
        nonlocal began_at
        if began_at is None and phase not in (Phase.STARTING, Phase.READY):
            began_at = time.monotonic()

    runtime.lifecycle.on_change(begin)
    runtime.telemetry.observe(
        instruments.DRAIN_ELAPSED, lambda: [(0.0 if began_at is None else time.monotonic() - began_at, {})]
    )


@contextmanager
def limiting(runtime: Runtime, name: str, read: Callable[[], Limiter]) -> Iterator[None]:
    """Have a limiter among the gauges for the length of the block."""
    runtime.observed.limiters[name] = read
    try:
        yield
    finally:
        del runtime.observed.limiters[name]


def of_capacity(limiter: trio.CapacityLimiter) -> Limiter:
    """How a limiter of Trio's stands."""
    return Limiter(limiter.borrowed_tokens, int(limiter.total_tokens), limiter.statistics().tasks_waiting)


STATISTICS = JsonRecord("statistics", FleetStatistics, _KEY, "the process that counts")


async def read_fleet_statistics(
    redis: Redis, queues: Mapping[str, TaskQueue], events: MediaEvents, max_age_s: float
) -> FleetStatistics:
    """Return them as some replica found them within ``max_age_s``. Raises `Unavailable`.

    Of several replicas that find them older at once, one counts, and the others return what they have found.
    """
    found = await redis.execute("GET", _KEY)
    known = None if found is None else STATISTICS.read_or_skip(found, _KEY)
    if known is not None and 0 <= time.time() - known.counted_at < max_age_s:
        return known
    age_ms = round(max_age_s * 1000)
    counts_elsewhere = await redis.execute("SET", _COUNTING, "1", "NX", "PX", age_ms, when_full=True) is None
    if known is not None and counts_elsewhere:
        return known
    counted = await _count(redis, queues, events)
    await redis.execute("SET", _KEY, STATISTICS.write(counted), "PX", _KEPT * age_ms, when_full=True)
    return counted


async def _count(redis: Redis, queues: Mapping[str, TaskQueue], events: MediaEvents) -> FleetStatistics:
    sweep = await SweepState(redis).read()
    return FleetStatistics(
        time.time(),
        {name: await _sample_queue(redis, queue) for name, queue in queues.items()},
        await outcomes(redis),
        await notice_backlog(redis),
        await events.headroom(),
        sweep.stored,
        sweep.finished_at,
        max(await redis.memory_use(), await redis.state.memory_use()),
        len(await Replicas(redis).read(time.time())),
    )


async def _sample_queue(redis: Redis, queue: TaskQueue) -> QueueSample:
    stats = await queue.stats()
    added = await _entries_added(redis, queue.name) + stats.waiting
    return QueueSample(stats, added, await _entries_added(redis, QueueKeys(queue.name).dead_letters))


async def _entries_added(redis: Redis, stream: str) -> int:
    """How many entries the stream ever had."""
    try:
        reply = await redis.execute("XINFO", "STREAM", stream)
    except RedisRefused:  # there is no such stream yet
        return 0
    return int(as_map(reply).get(b"entries-added", 0))
