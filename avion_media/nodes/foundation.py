"""What everything else stands on: Redis, the object store, the sandbox, telemetry's end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

import trio

from avion_media.backends.redis import Redis
from avion_media.backends.store import NOT_EXAMINED, ObjectStore, StoreRefused, examine_part_urls, open_store
from avion_media.common import clock, keys
from avion_media.common.concurrency import first_of
from avion_media.common.errors import Dependency, MediaError, Unavailable
from avion_media.common.telemetry import instruments
from avion_media.media.pipeline import MediaPipeline, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.nodes.gauges import keep_polling, limiting, of_capacity
from avion_media.operations.setup import redis_warnings
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Limiter, Runtime
from mediathumbs.native import missing_of_system
from supervisors import Child
from trio_redis import run_all
from trio_sandbox import JobOutcome, JobReport
from trio_telemetry import Telemetry, get_logger

TELEMETRY_FLUSH_S = 3.0
TELEMETRY_STOP_S = TELEMETRY_FLUSH_S + 0.5
_PING_S = 2.0  # while Redis is unavailable, and where Sentinels must be asked
_QUIET_PING_S = 15.0  # otherwise other calls notice an outage
AUDIT_STOP_S = 1.3
"""To write the last audit records, and to end the chains."""
_LEAVE_S = 0.5  # to leave the list of replicas
_LAST_PING_S = 1.0
_DURABILITY_S = 60.0
_FIRST_ANSWER_S = 2.0  # for the store, while the tree starts
_KEY_AGAIN_S = 1.0
_EXAMINE_S = 10.0  # usually a tenth of a second; a slow store must not keep a replica from becoming ready
_EXAMINE_AGAIN_S = 30.0
_DESCRIBES_UPLOADS = frozenset({"grpc", "http"})  # roles that tell clients whether they may upload in parts

SLOTS = "sandbox.slots"
_FAULTS = frozenset({JobOutcome.LIMIT, JobOutcome.CRASHED, JobOutcome.KILLED, JobOutcome.FAILED})


async def telemetry(runtime: Runtime, child: Child[None]) -> None:
    """Keeps the gauges; on stop, the last spans and metrics get a bounded chance to leave."""
    child.started()
    with child.until_stopping():
        await keep_polling(runtime)
    await trio.to_thread.run_sync(runtime.telemetry.shutdown, TELEMETRY_FLUSH_S, abandon_on_cancel=True)


async def redis(runtime: Runtime, child: Child[None]) -> None:
    """The Redis connections. Ready at once: an outage is a state."""
    redis = runtime.redis
    connections = limiting(
        runtime, "redis.connections", lambda: Limiter(redis.blocking, redis.max_blocking, redis.waiting)
    )
    durability = _Durability(runtime, child.path)

    async def keep_pinging() -> None:
        while True:  # a regular call notices an outage, and its end, also when there is no work
            try:
                _, now = await run_all([redis.ping, partial(redis.execute, "TIME")])
                runtime.readiness.note_answer(Dependency.REDIS)
                clock.follow(*now)
                await durability.check(redis)
            except Unavailable:
                pass
            period_s = _PING_S if redis.has_sentinels or not redis.available.up else _QUIET_PING_S
            await trio.sleep(redis.next_tick_s(period_s))

    async def until_useless() -> None:
        """Return when the process stops, and Redis does not answer. Closed connections spare all nodes their waits."""
        await runtime.lifecycle.reached(Phase.STOPPING)
        with suppress(Unavailable, trio.TooSlowError):
            with trio.fail_after(_LAST_PING_S):
                await redis.ping()
            await trio.sleep_forever()

    async with redis.opened():
        child.started()
        with connections, child.until_stopping():
            await first_of(keep_pinging, until_useless)
        if runtime.lifecycle.phase is Phase.STOPPING:  # else this process would be taken for one that hangs
            with trio.move_on_after(_LEAVE_S), suppress(Unavailable):
                await runtime.replicas.leave(runtime.consumer)
    await child.stopping.wait()


class _Durability:
    """Warns if Redis is not set up to keep its data. Checked again after each outage: it might be another server."""

    def __init__(self, runtime: Runtime, path: str) -> None:
        self._runtime = runtime
        self._log = get_logger(path=path)
        self._again_at = -1.0
        self._up_since = 0.0

    async def check(self, redis: Redis) -> None:
        """Check the settings of Redis, unless that was done a moment ago. Raises `Unavailable`."""
        up_since = redis.available.since
        if trio.current_time() < self._again_at and up_since == self._up_since:
            return
        warnings = await redis_warnings(redis)
        if warnings != self._runtime.observed.warnings:
            for warning in warnings:
                self._log.warning("redis.not_durable", warning=warning)
            self._runtime.observed.warnings = warnings
        self._up_since, self._again_at = up_since, trio.current_time() + _DURABILITY_S


async def store(runtime: Runtime, child: Child[None]) -> None:
    """The object store. It looks after its own outages. Fails without the key of the ids of remote media."""
    async with open_store(runtime.config.s3, telemetry=runtime.telemetry) as store:
        with ExitStack() as limiters, runtime.store.filled(store):
            for name, limiter in store.limiters.items():
                limiters.enter_context(limiting(runtime, name, partial(of_capacity, limiter)))
            with trio.move_on_after(_FIRST_ANSWER_S):  # a missing key stops the start; an outage is a state
                await _read_remote_ids(runtime, store)
            child.started()
            with child.until_stopping():
                await _read_remote_ids(runtime, store)
                examined = not (_DESCRIBES_UPLOADS & runtime.roles) or await _examine_part_urls(store, child.path)
                runtime.readiness.note_answer(Dependency.STORE)
                await _warn_of_early_expiration(runtime, store, child.path)
                while not examined:
                    await trio.sleep(_EXAMINE_AGAIN_S)
                    examined = await _examine_part_urls(store, child.path)
                await trio.sleep_forever()


async def audit(runtime: Runtime, child: Child[None]) -> None:
    """Writes the audit log. Ready at once: while the bucket takes no records, actions of people are refused.

    It stops after all that it records, and ends the log if the whole process stops.
    """
    log = runtime.audit
    log.begin()
    child.started()
    with child.until_stopping():
        await log.run()
    with trio.move_on_after(AUDIT_STOP_S):
        if runtime.lifecycle.phase is Phase.STOPPING:
            await log.close()
        else:
            await log.write_collected()


async def _read_remote_ids(runtime: Runtime, store: ObjectStore) -> None:
    """Wait for the store, and read the key of the ids of remote media once. Raises `NoRemoteKey`."""
    await store.state.wait_available()
    while not runtime.items.remote_ids.is_filled:
        try:
            await runtime.items.read_remote_ids()
        except Unavailable:
            await trio.sleep(_KEY_AGAIN_S)
            await store.state.wait_available()


async def _examine_part_urls(store: ObjectStore, path: str) -> bool:
    """Find out whether clients may upload in parts. Return whether the store responded; until then it is off."""
    uploads = store.multipart
    with trio.move_on_after(_EXAMINE_S):
        try:
            uploads.refusal = await examine_part_urls(store)
        except StoreRefused as error:
            uploads.refusal = f"the object store refused the examination: {error}"
        except MediaError as error:
            get_logger(path=path).debug("store.examination_failed", detail=str(error))
    if uploads.refusal not in ("", NOT_EXAMINED):
        get_logger(path=path).warning("store.multipart_off", reason=uploads.refusal)
    return uploads.refusal != NOT_EXAMINED


async def _warn_of_early_expiration(runtime: Runtime, store: ObjectStore, path: str) -> None:
    """Log it once. Where the service is not allowed to read the rules, `doctor` might be."""
    with suppress(Unavailable, StoreRefused):
        early = await store.early_expirations(keys.INCOMING_PREFIX, runtime.config.tasks.accepted_life_s)
        if early:
            get_logger(path=path).warning("store.uploads_expire_early", rules=early)


async def sandbox(runtime: Runtime, child: Child[None]) -> None:
    """The sandbox and the media work in it; fails when the fork server dies, so that it is started again."""
    config = runtime.config
    async with open_sandbox(
        slots=config.sandbox.slots,
        budget_bytes=config.sandbox.budget,
        preload=preload_for(config.enabled_formats()),
        require=config.sandbox.require,
        observer=sandbox_observer(runtime.telemetry),
        waited=lambda seconds: runtime.telemetry.record(instruments.LIMITER_WAIT, seconds, limiter=SLOTS),
    ) as sandbox:
        if sandbox.report.gaps:
            get_logger(path=child.path).warning("sandbox.gaps", gaps=sandbox.report.gaps)
        if missing := missing_of_system():
            get_logger(path=child.path).warning("sandbox.libraries_missing", names=missing, impact="slow thumbnails")
        admission = sandbox.admission
        slots = limiting(runtime, SLOTS, lambda: Limiter(admission.used_slots, admission.slots, admission.waiting))
        with slots, runtime.pipeline.filled(MediaPipeline(sandbox, config.thumbnails, config.upload, config.sandbox)):
            child.started()
            with child.until_stopping():
                await sandbox.maintain()


async def deletions(runtime: Runtime, child: Child[None]) -> None:
    """Replays the journal of deletions when a lookup finds that Redis may have lost some."""
    child.started()
    with child.until_stopping():
        await runtime.replay.run()


def sandbox_observer(telemetry: Telemetry) -> Callable[[JobReport], None]:
    """For `open_sandbox`: called in the task that waited for the process, which gives the span its place."""

    def observe(report: JobReport) -> None:
        job, outcome, usage = report.name.rpartition(":")[2], report.outcome, report.usage
        telemetry.record_child_span(
            f"sandbox {job}",
            usage.wall_s,
            error=str(outcome) if outcome in _FAULTS else "",
            avion__sandbox__job=job,
            avion__sandbox__outcome=str(outcome),
            avion__sandbox__cpu_time=usage.cpu_s,
            avion__sandbox__memory_peak=usage.peak_rss_bytes,
        )
        telemetry.record(instruments.SANDBOX_DURATION, usage.wall_s, avion__sandbox__job=job, outcome=str(outcome))
        telemetry.record(instruments.SANDBOX_CPU, usage.cpu_s, avion__sandbox__job=job, outcome=str(outcome))
        telemetry.record(instruments.SANDBOX_PEAK, usage.peak_rss_bytes, avion__sandbox__job=job)

    return observe


async def readiness(runtime: Runtime, child: Child[None]) -> None:
    """Makes this replica ready, for as long as it runs itself, once each dependency has answered for the first time."""
    with child.until_stopping():
        waits = bool(runtime.readiness.never_answered)
        if waits:
            child.started()  # the tree is up, however long the first answers take
        await runtime.readiness.first_answers()
        runtime.readiness.set_components_ready(True)
        try:
            runtime.lifecycle.advance_to(Phase.READY)
            if not waits:
                child.started()
            await trio.sleep_forever()
        finally:
            runtime.readiness.set_components_ready(False)
