"""The three loops around one queue: reader, renewer of leases, and janitor; and the pool in which attempts run.

Each is a supervised child of its own. They share the places of the pool (work is pulled only into a free one, so
nothing waits in memory) and the list of active attempts, and nothing else. `decision` has the ends of attempts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.backends.queue.attempts import Attempt
from avion_media.common.clock import now_s
from avion_media.common.errors import Dependency, LeaseLost, Reason, Rejected, Unavailable
from avion_media.common.tasks import TaskHandler
from avion_media.workers.bulk import BulkRunner
from avion_media.workers.decision import (
    ConsumerPolicy,
    Decision,
    End,
    after_bug,
    cancelled,
    decide,
    pauses_consumer,
    refuse,
)
from avion_media.workers.observed_attempt import AttemptEnd, observed_attempt
from supervisors import Child, DynamicSupervisor, Node, NotRunning, Worker
from trio_redis import Backoff, run_all
from trio_telemetry import Telemetry, bind_path, get_logger

_LOOK_S = 0.5  # how long one read waits until it looks for tasks of workers that stand still
_JANITOR_S = 10.0  # a janitor that has not shown up for so long is replaced
_SMALL_FLEET = 2  # consumers; in a larger fleet each of them looks more rarely, so that Redis has no more work
_RESIGN_S = 0.5
_TEND_S = 1.0  # how often a janitor looks whether there is something to do
_JOBS_S = 5.0  # how often it looks for a bulk job while none is running
_COUNTED_S = 5.0  # for how long a janitor takes the number of consumers as it read it
_RELEASE_S = 3.0  # bound of the shielded release of a cancelled task
_RECORD_S = 1.0
_END_S = 5.0  # the end of a lease is tried again for so long
_LAST_RENEWALS_S = 0.2  # how often the renewer looks, once it must stop, whether the last task has ended
_ATTEMPT_S = 900.0  # an attempt that takes longer hangs: every step has a shorter deadline of its own
_OUTAGE_PAUSE_S = (0.2, 5.0)  # first and longest wait for Redis, or what tasks need, to come back


@dataclass(slots=True)
class _ActiveAttempt:
    lease: Lease
    scope: trio.CancelScope
    may_have_written: bool = False
    lost: bool = False
    cancelled: bool = False

    async def ensure_lease(self) -> None:
        """See `EnsureLease`. From here on the attempt may write what readers can see."""
        await self.lease.renew()
        self.may_have_written = True


@dataclass(slots=True)
class _Wait:
    """The reader waits for a place while all are in use. Who completes a task meanwhile takes the next one for it."""

    over: trio.Event = field(default_factory=trio.Event)
    asked: bool = False
    answered: trio.Event = field(default_factory=trio.Event)
    lease: Lease | None = None


class Consumer:
    """Works on one queue, as one named consumer of the group. Each child has ``grace_s`` to stop.

    The module describes its loops.
    """

    def __init__(
        self,
        queue: TaskQueue,
        handler: TaskHandler,
        policy: ConsumerPolicy,
        *,
        name: str,
        accepting_tasks: Callable[[], bool],
        telemetry: Telemetry,
        bulk: BulkRunner | None = None,
        grace_s: float = 5.0,
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._policy = policy
        self._name = name
        self._path = ""
        self._accepting_tasks = accepting_tasks
        self._telemetry = telemetry
        self._bulk = bulk
        # A successor takes over within twice this time, which is half of a task's lease, so `settle` finds no gap.
        self._janitor_s = min(_JANITOR_S, policy.claim_after_s / 4)
        self._janitor = queue.janitor_lock(name, self._janitor_s)
        self._is_janitor = False
        self._fleet_factor = 1.0  # the number of consumers, divided by `_SMALL_FLEET`; at least 1
        self._outage = Backoff(*_OUTAGE_PAUSE_S)
        self._active: dict[str, _ActiveAttempt] = {}
        self._attempt_ended = trio.Event()
        self._reading = trio.CancelScope()
        self._wait = _Wait(asked=True)
        self._attempts = DynamicSupervisor("attempts", max_children=policy.slots, grace_s=grace_s)
        self._grace_s = grace_s
        self._consumers = 0
        self._count_at = -math.inf
        self._reclaim_at = -math.inf
        self._log = get_logger()

    @property
    def running(self) -> int:
        """Number of active tasks."""
        return len(self._active)

    @property
    def children(self) -> list[Node[None]]:
        """The children of a supervisor that works on the queue.

        The renewer stands left of the attempts, which hold leases, and so outlives them when the tree stops.
        """
        return [
            Worker("renewer", self.renew_leases, grace_s=self._grace_s),
            self._attempts,
            Worker("reader", self.read, grace_s=self._grace_s),
            Worker("janitor", self.tend, grace_s=self._grace_s),
        ]

    async def drain(self, grace_s: float) -> None:
        """Wait up to ``grace_s`` for the active tasks. `accepting_tasks` already prevents new ones."""
        self._reading.cancel()
        with trio.move_on_after(grace_s):
            await self._resign()
            await self._until(lambda: not self._active)

    async def read(self, child: Child[None]) -> None:
        """The reader: one read per free place of the pool."""

        async def step() -> None:
            if self._outage.remaining_s:
                await _wait_or_stop(child, self._outage.remaining_s)
            else:
                await self._take_one(child)

        self._begin(child)
        await self._through_outages(child, step)

    async def renew_leases(self, child: Child[None]) -> None:
        """The renewer: renews the lease of every active task each quarter of `claim_after_s`, three times before its
        worker would count as dead. Without one it sends a heartbeat as often: if this worker only stood still, its
        crash does not count any more."""
        self._begin(child)
        while not (child.stopping.is_set() and not self._active):
            for active in [each for each in self._active.values() if not each.lost]:
                await self._renew(active)
            if all(each.lost for each in self._active.values()):
                with suppress(Unavailable):
                    await self._queue.send_heartbeat(self._name)
            if child.stopping.is_set():
                await trio.sleep(_LAST_RENEWALS_S)
            else:
                await _wait_or_stop(child, self._queue.next_tick_s(self._policy.claim_after_s / 4))

    async def tend(self, child: Child[None]) -> None:
        """The janitor, on one replica at a time: queues tasks that are due or abandoned, gives tenants turns, and
        carries out bulk jobs."""

        async def step() -> None:
            self._is_janitor = await self._janitor.acquire()
            if not self._is_janitor:
                self._fleet_factor = max(1.0, await self._queue.count_consumers() / _SMALL_FLEET)
                await _wait_or_stop(child, self._janitor_s * self._fleet_factor * random.uniform(0.7, 0.9))
            elif not await self._tend_once():
                await _wait_or_stop(child, min(_TEND_S, self._janitor_s / 3))

        async def bulk_step() -> None:
            is_running = self._bulk is not None and self._is_janitor and await self._bulk.step()
            await _wait_or_stop(child, _TEND_S if is_running or not self._is_janitor else _JOBS_S)

        self._begin(child)
        try:
            # Concurrent, because a dependency of a bulk job may be slow or unavailable.
            await run_all([partial(self._through_outages, child, each) for each in (step, bulk_step)])
        finally:
            # Shielded, so that the next janitor does not wait for the lock to expire. Bounded by `_RESIGN_S`.
            with trio.CancelScope(shield=True):
                await self._resign()

    async def _tend_once(self) -> bool:
        """Return whether there may be more to do at once. Each step is complete in itself, because another janitor may
        take over."""
        queue, policy = self._queue, self._policy
        count = self._consumers if trio.current_time() < self._count_at else None
        self._consumers = await queue.settle(
            tenant_cap=policy.tenant_cap, slots=policy.slots, idle_s=policy.claim_after_s, consumers=count
        )
        if count is None:
            self._count_at = trio.current_time() + _COUNTED_S
        self._fleet_factor = max(1.0, self._consumers / _SMALL_FLEET)
        more = await queue.promote() + await queue.adopt()
        if trio.current_time() >= self._reclaim_at:
            more += await queue.reclaim(self._name, idle_s=policy.claim_after_s)
            await queue.remove_idle_consumers(idle_s=10 * policy.claim_after_s)
            self._reclaim_at = trio.current_time() + policy.claim_after_s / 4 * random.uniform(0.8, 1.2)
        return more > 0

    async def _resign(self) -> None:
        self._is_janitor = False
        with trio.move_on_after(_RESIGN_S):
            await self._janitor.release()

    def _begin(self, child: Child[None]) -> None:
        """Start a loop. All loops log and count under the path of their common supervisor."""
        self._path = child.path.rpartition("/")[0]
        bind_path(self._path)
        child.started()

    async def _renew(self, active: _ActiveAttempt) -> None:
        try:
            known = active.lease.cancelled_by
            await active.lease.renew()
            # An attempt that may have written runs to its end.
            if active.lease.cancelled_by and not known and not active.may_have_written:
                active.cancelled = True
                active.scope.cancel()
        except LeaseLost:
            self._log.warning("task.lease_lost", task_id=active.lease.task.task_id)
            active.lost = True
            if not active.may_have_written:  # else it runs to its end, and removes what must not stay
                active.scope.cancel()
        except Unavailable:
            pass  # the next round tries again; a lease that expires meanwhile is fenced

    async def _take_one(self, child: Child[None]) -> None:
        lease = None
        with child.until_stopping() as self._reading:
            await self._attempts.wait_started()
            was_full = self.running >= self._policy.slots
            lease = await self._wait_for_place()
            if lease is None and self._accepting_tasks() and not self._outage.remaining_s:
                look_s = self._queue.next_tick_s(min(_LOOK_S * self._fleet_factor, self._policy.claim_after_s))
                lease = await self._queue.take(self._name, look_s, look_first=was_full and not self._wait.asked)
        if lease is not None:
            await self._start(lease)
            if self._is_suspect(lease):
                with child.until_stopping():
                    await self._until(lambda: lease.entry_id not in self._active)

    async def _wait_for_place(self) -> Lease | None:
        """Wait while all places are in use. Return the task that the one who left took for this one, if any."""
        wait = self._wait = _Wait()
        try:
            await self._attempts.wait_for_place()
            if wait.asked:
                await wait.answered.wait()
        except trio.Cancelled:
            if wait.lease is not None:
                await self._release(wait.lease)
            raise
        finally:
            wait.over.set()
        return wait.lease

    async def _complete(self, lease: Lease) -> None:
        """Complete a task, and take the next one for the reader if it waits for this place."""
        wait = self._wait
        may_take = self._accepting_tasks() and not self._outage.remaining_s and not self._queue.must_look
        if wait.over.is_set() or wait.asked or not may_take:
            await lease.complete()
            return
        wait.asked = True
        try:
            wait.lease = await self._queue.exchange(lease, self._name)
        finally:
            wait.answered.set()
        if wait.lease is not None and wait.over.is_set():
            await self._release(wait.lease)

    async def _release(self, lease: Lease) -> None:
        """Give up a lease even if this is cancelled, so that the task does not wait until it is reclaimed."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _RELEASE_S):
            await self._end_lease(lease.release)
        lease.supersede()

    async def _through_outages(self, child: Child[None], step: Callable[[], Awaitable[None]]) -> None:
        """Repeat ``step`` until a request to stop. Wait while Redis is unavailable."""
        pause = Backoff(*_OUTAGE_PAUSE_S)
        while not child.stopping.is_set():
            if not self._accepting_tasks():
                await _wait_or_stop(child, 0.2)
                continue
            try:
                await step()
                pause.succeeded()
            except Unavailable as error:
                pause_s = pause.failed()
                self._log.info("queue.backed_off", dependency=error.dependency, detail=error.detail, pause_s=pause_s)
                await _wait_or_stop(child, pause_s)

    async def _start(self, lease: Lease) -> None:
        active = _ActiveAttempt(lease, trio.CancelScope())
        try:
            task = self._attempts.start_task(self._work, active, name=lease.entry_id, grace_s=self._grace_s)
            self._active[lease.entry_id] = active  # two entries can have the same task id
            with trio.CancelScope(shield=True):  # the pool starts it at once, or has stopped
                await task.wait_started()
        except NotRunning:  # the pool stopped or crashed during the read, or before it could start the attempt
            self._active.pop(lease.entry_id, None)
            await self._release(lease)

    async def _work(self, active: _ActiveAttempt) -> None:
        """Run one attempt and its end."""
        with observed_attempt(self._telemetry, self._path, self._queue.name, active.lease) as end:
            try:
                with active.scope:
                    end.outcome, end.reason = await self._attempt(active)
                if active.cancelled and not active.lease.ended:
                    end.outcome, end.reason = await self._end(active.lease, cancelled(active.lease))
            except (trio.Cancelled, BaseExceptionGroup):  # a nursery of the attempt makes a group of cancels
                await self._release(active.lease)
                raise
            finally:
                if active.lost:
                    end.outcome = "lease_lost"
                # If the lease was lost, the entry may have come again.
                if self._active.get(active.lease.entry_id) is active:
                    del self._active[active.lease.entry_id]
                self._attempt_ended.set()
                self._attempt_ended = trio.Event()
                # This process has stopped working on it. If its end could not be recorded, this process must be able to
                # reclaim it, which it does not do while its lease seems active.
                active.lease.supersede()
        await self._record_attempt(active.lease, end)

    async def _record_attempt(self, lease: Lease, end: AttemptEnd) -> None:
        """Add the attempt to those that the page of its media item shows, if Redis takes it soon."""
        with suppress(Unavailable), trio.move_on_after(_RECORD_S):
            await self._queue.record_attempt(
                lease.task,
                Attempt(
                    number=lease.attempt,
                    worker=self._name,
                    began_at=round(end.began_at, 3),
                    duration_s=round(end.duration_s, 3),
                    age_s=round(max(0.0, end.began_at + end.duration_s - lease.first_seen), 3),
                    outcome=end.outcome,
                    reason=end.reason,
                    steps=end.steps,
                ),
            )

    def _is_suspect(self, lease: Lease) -> bool:
        """Return whether one more crash makes the task poison. Then its attempt runs alone: perhaps the task was only
        beside the cause of the crashes."""
        return lease.deaths >= self._queue.max_deaths - 1

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            await self._attempt_ended.wait()

    async def _attempt(self, active: _ActiveAttempt) -> tuple[str, str]:
        lease = active.lease
        refused = refuse(lease, self._policy, now_s(), self._queue.max_deaths)
        if refused is not None:
            return await self._end(lease, refused)
        error = None
        try:
            if self._is_suspect(lease):
                await self._until(lambda: len(self._active) == 1)
                await lease.begin()
            with trio.fail_after(_ATTEMPT_S):
                await self._handler.run(lease.task, active.ensure_lease)
        except Exception as failure:  # noqa: BLE001 - a bug in one task must not take the reader down
            error = failure
        return await self._end(lease, self._decide(lease, error))

    def _decide(self, lease: Lease, error: Exception | None) -> Decision:
        if error is None or isinstance(error, Rejected):
            self._outage.succeeded()
        elif pauses_consumer(error):
            self._outage.failed()
        decision = decide(error, lease, self._policy, now_s(), self._outage.pause_s)
        if decision.is_bug:
            self._log_bug(lease, error)
        return decision

    async def _end(self, lease: Lease, decision: Decision) -> tuple[str, str]:
        """Carry out a decision. If recording a failure fails, decide again, because that needs the store and Redis
        too. Return the end and its reason."""
        while True:
            try:
                await self._carry_out(lease, decision)
            except LeaseLost:
                return End.LEASE_LOST, ""
            except Unavailable as error:
                decision = self._decide(lease, error)
            except Exception as error:
                if decision.end not in (End.DONE, End.REJECTED):
                    raise
                self._log_bug(lease, error)
                decision = after_bug(error, lease, self._policy)
            else:
                return decision.end, str(decision.reason)

    async def _carry_out(self, lease: Lease, decision: Decision) -> None:
        about = {"task_id": lease.task.task_id, "reason": decision.reason, "detail": decision.detail}
        match decision.end:
            case End.LEASE_LOST:
                raise LeaseLost
            case End.DONE:
                await self._end_lease(partial(self._complete, lease))
            case End.REJECTED:
                self._log.info("task.rejected", **about)
                await lease.renew()  # only the present owner of the lease may record the outcome
                await self._handler.record_failure(lease.task, Reason(decision.reason))
                if decision.reason == Reason.MALFORMED_TASK:
                    await lease.dead_letter(f"{decision.reason}: {decision.detail}")
                else:
                    await lease.complete()
            case End.DEAD_LETTER:
                crashed = {"crashed_workers": lease.crashed_workers} if lease.crashed_workers else {}
                self._log.warning("task.given_up", **about, **crashed)
                await lease.renew()  # as above
                await self._record_end(lease, decision)
                await self._end_lease(lambda: lease.dead_letter(f"{decision.reason}: {decision.detail}"))
            case End.RETRIED | End.DEFERRED:
                await self._end_lease(partial(self._put_back, lease, decision))

    async def _record_end(self, lease: Lease, decision: Decision) -> None:
        """Record the failure before a dead letter is made. The dead letter is made even if a bug prevents this."""
        reason = Reason(decision.reason)
        try:
            await self._handler.record_failure(lease.task, reason, is_file_suspect=decision.is_file_suspect)
        except LeaseLost:
            raise
        except Exception as error:
            if isinstance(error, Unavailable) and error.dependency is not Dependency.OBJECT:
                raise
            self._log_bug(lease, error)

    async def _put_back(self, lease: Lease, decision: Decision) -> None:
        try:
            await self._handler.renew_status(lease.task)
        except (LeaseLost, Unavailable):
            raise
        except Exception as error:  # noqa: BLE001 - as in `_attempt`
            self._log_bug(lease, error)
        delay_s = random.uniform(*decision.delay_s)
        if decision.whole_tenant:
            await lease.defer(delay_s, decision.detail)
        else:
            since = decision.unavailable_since
            await lease.retry(delay_s, decision.detail, count=decision.count, unavailable_since=since)

    def _log_bug(self, lease: Lease, error: Exception | None) -> None:
        self._log.error("task.internal_error", task_id=lease.task.task_id, attempt=lease.attempt, exc_info=error)

    async def _end_lease(self, end: Callable[[], Awaitable[None]]) -> None:
        """End a lease. Retry during an outage as short as the restart of a supervised child. If that fails, the lease
        expires, and the task is reclaimed; nothing is lost."""
        pause, deadline = Backoff(*_OUTAGE_PAUSE_S), trio.current_time() + _END_S
        while True:
            try:
                await end()
            except (LeaseLost, Unavailable) as error:
                if isinstance(error, LeaseLost) or trio.current_time() + pause.failed() > deadline:
                    self._log.info("task.left_to_reclaim", error=repr(error))
                    return
            else:
                return
            await trio.sleep(pause.remaining_s)


async def _wait_or_stop(child: Child[None], seconds: float) -> None:
    with trio.move_on_after(seconds):
        await child.stopping.wait()
    await trio.lowlevel.checkpoint()
