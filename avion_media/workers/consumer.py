"""The three loops around one queue: reader, renewer of leases, and janitor.

Each is the body of a supervised child of its own. They share the free slots (work is pulled only into one, so nothing
waits in memory) and the list of active attempts, and nothing else.

How an attempt ends:

=====================  ===============================================================================================
returns                the lease is completed
`Rejected`             the file or URL is at fault: `TaskHandler.record_failure` records it, then the lease is
                       completed; a task that cannot be read becomes a dead letter
`Unavailable`          a dependency is unavailable: the task is retried later, and uses up an attempt only if the
                       dependency is a remote server. If tasks share the dependency, the consumer also pauses, longer
                       each time, until a task succeeds
… of one object        retried later, and other tasks go on. The wait doubles up to an hour; after six hours attempts
                       are used up; then a dead letter
`OSError` of the disk  retried as for an unavailable dependency, for an hour; then it uses up attempts
older than the limit   a dead letter (``expired``) without another attempt; deletions have no limit
`DecoderKilled`        the decoder was killed from outside, perhaps because of the file: retried with backoff, then a
                       dead letter
`UnknownFormat`        a newer version queued it: to the delayed set until a worker of that version takes it. No attempt
                       is used up. After ``max_age_s``, a dead letter (``expired``), also of a deletion
`Deferred`             its turn has not come (limits per remote host): back to the backlog, where its whole tenant
                       waits; if another server sent it to that host, to the delayed set. No attempt is used up
`LeaseLost`            another worker owns the task: stop, change nothing. An attempt that has already ensured its lease
                       runs to its end, because it may have written; at its end it removes what must not stay
cancelled              the process drains, or the child was killed: released at once, no attempt is used up
anything else          a bug: retried with backoff, after ``max_attempts`` a dead letter
=====================  ===============================================================================================
"""

from __future__ import annotations

import errno
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

from avion_media.backends.queue import Lease, TaskQueue
from avion_media.backends.queue.dead_letter_index import DeadLetterIndex
from avion_media.common.concurrency import run_all
from avion_media.common.errors import DecoderKilled, Deferred, Dependency, LeaseLost, Reason, Rejected, Unavailable
from avion_media.common.ids import UnknownFormat
from avion_media.common.tasks import EnsureLease, Task
from avion_media.common.telemetry import Telemetry, bind_path, get_logger
from avion_media.workers.bulk import BulkRunner
from avion_media.workers.observed_attempt import ObservedAttempt
from avion_media.workers.outage import OutagePause

_LOOK_S = 0.5  # how long one read waits until it looks for tasks of workers that stand still
_JANITOR_S = 10.0  # a janitor that has not shown up for so long is replaced
_LOOKING = 10  # replicas that look within one of these times; in a larger fleet each of them looks more rarely
_RESIGN_S = 1.0
_TEND_S = 1.0  # how often a janitor looks whether there is something to do
_JOBS_S = 5.0  # how often it looks for a bulk job while none is running
_RELEASE_S = 3.0  # bound of the shielded release of a cancelled task
_END_S = 5.0  # the end of a lease is tried again for so long
_LAST_RENEWALS_S = 0.2  # how often the renewer looks, once it must stop, whether the last task has ended
_ATTEMPT_S = 900.0  # an attempt that takes longer hangs: every step has a shorter deadline of its own
_OUTAGE_PAUSE_S = (0.2, 5.0)  # first and longest wait for Redis, or what tasks need, to come back
# That these are unavailable says nothing of the next task.
_TASK_LOCAL = frozenset({Dependency.REMOTE, Dependency.UPLOAD, Dependency.OBJECT})
_OBJECT_OUTAGE_LIMIT_S = 6 * 3600.0  # an operator who is called at night repairs a store within this time
_LONGEST_OBJECT_WAIT_S = 3600.0
# Between two looks of a task whether a server that it was sent to has a free slot, or a worker knows its format.
_LONGEST_TURN_S = 120.0
_DISK_FULL_LIMIT_S = 3600.0  # for a full disk to be emptied; after that it costs attempts
_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class TaskHandler(Protocol):
    """One kind of task. Each method may be called again for the same task, and then has the same result."""

    async def run(self, task: Task, ensure_lease: EnsureLease) -> None:
        """Do the work; errors as in the table above.

        Another attempt may overtake one whose process stood still for long. So ``run`` calls ``ensure_lease`` before
        its first write that readers can see.
        """

    async def record_failure(self, task: Task, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """Record that the task ended for ``reason``: status, event, leftovers. ``is_file_suspect``: clients should not
        try the same file again, whatever the reason."""

    async def renew_status(self, task: Task) -> None:
        """Renew the status that clients see, because the task will be retried."""


class ChildLike(Protocol):
    """What the loops use of a supervised child."""

    @property
    def path(self) -> str:
        """The loop's path in the tree. The consumer logs under the path of its supervisor."""

    @property
    def stopping(self) -> trio.Event:
        """Set when the child should end."""

    def started(self) -> None:
        """Report the end of the start."""


@dataclass(frozen=True, slots=True)
class ConsumerPolicy:
    """Limits of one consumer. Times in seconds. ``max_deferral_s``: maximum age of a task that waits for a paused
    remote server. ``max_age_s``: maximum age of any task. ``gives_up`` is false for deletions, which neither their age
    nor an unavailable object ends. ``tenant_cap``: maximum tasks of one tenant at once, in all replicas; 0: unlimited.
    """

    slots: int
    max_attempts: int
    claim_after_s: float
    backoff_s: float
    max_backoff_s: float
    max_deferral_s: float = math.inf
    max_age_s: float = math.inf
    gives_up: bool = True
    tenant_cap: int = 0


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


class Consumer:
    """Works on one queue, as one named consumer of the group. The module describes its loops."""

    def __init__(
        self,
        queue: TaskQueue,
        handler: TaskHandler,
        policy: ConsumerPolicy,
        *,
        name: str,
        queue_name: str,
        accepting_tasks: Callable[[], bool],
        telemetry: Telemetry,
        bulk: BulkRunner | None = None,
        dead_letters: DeadLetterIndex | None = None,
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._policy = policy
        self._name = name
        self._path = ""
        self._queue_name = queue_name
        self._accepting_tasks = accepting_tasks
        self._telemetry = telemetry
        self._bulk = bulk
        self._dead_letters = dead_letters
        self._is_janitor = False
        self._crowd = 1.0  # the size of the fleet, in `_LOOKING`; at least 1
        self._free = trio.Semaphore(policy.slots)
        self._outage = OutagePause(*_OUTAGE_PAUSE_S)
        self._active: dict[str, _ActiveAttempt] = {}
        self._attempt_ended = trio.Event()
        self._reading = trio.CancelScope()
        self._reclaim_at = -math.inf
        self._log = get_logger()

    @property
    def running(self) -> int:
        """Number of active tasks."""
        return len(self._active)

    async def drain(self, grace_s: float) -> None:
        """Wait up to ``grace_s`` for the active tasks. `accepting_tasks` already prevents new ones."""
        self._reading.cancel()
        with trio.move_on_after(grace_s):
            await self._resign()
            await self._until(lambda: not self._active)

    async def read(self, child: ChildLike) -> None:
        """The reader: one read per free slot. After a request to stop, it ends when its tasks are done."""
        async with trio.open_nursery() as nursery:

            async def stop_waiting() -> None:
                await child.stopping.wait()
                self._reading.cancel()

            async def step() -> None:
                if self._outage.remaining_s:
                    await _wait_or_stop(child, self._outage.remaining_s)
                elif not await self._take_one(child, nursery):
                    await trio.lowlevel.checkpoint()

            self._begin(child)
            nursery.start_soon(stop_waiting)
            await self._through_outages(child, step)

    async def renew_leases(self, child: ChildLike) -> None:
        """The renewer: renews the lease of every active task three times before its worker would count as dead. Without
        one it sends a heartbeat as often: if this worker only stood still, its crash does not count any more."""
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
                await _wait_or_stop(child, self._policy.claim_after_s / 4)

    async def tend(self, child: ChildLike) -> None:
        """The janitor, on one replica at a time: queues tasks that are due or abandoned, gives tenants turns, and
        carries out bulk jobs. Between them it brings the index of dead letters up to date."""

        async def step() -> None:
            # A successor takes over within twice the life of this lease, which is half of a task's lease, so `settle`
            # finds no gap.
            life_s = min(_JANITOR_S, self._policy.claim_after_s / 4)
            others = None if self._is_janitor else await self._queue.lead(self._name, life_s)
            if others is not None:
                self._crowd = max(1.0, others / _LOOKING)
                await _wait_or_stop(child, life_s * self._crowd * random.uniform(0.7, 0.9))
            elif not await self._tend_once(life_s):
                await _wait_or_stop(child, min(_TEND_S, life_s / 3))

        async def bulk_step() -> None:
            is_running = self._bulk is not None and self._is_janitor and await self._bulk.step()
            if self._dead_letters is not None and self._is_janitor and not is_running:
                await self._dead_letters.advance()
            await _wait_or_stop(child, _TEND_S if is_running or not self._is_janitor else _JOBS_S)

        self._begin(child)
        try:
            # Concurrent, because a dependency of a bulk job may be slow or unavailable.
            await run_all([partial(self._through_outages, child, each) for each in (step, bulk_step)])
        finally:
            # Shielded, so that the next janitor does not wait for the lease to expire. Bounded by `_RESIGN_S`.
            with trio.CancelScope(shield=True), trio.move_on_after(_RESIGN_S):
                await self._resign()

    async def _tend_once(self, life_s: float) -> bool:
        """Return whether there may be more to do at once. Each step is complete in itself, because another janitor may
        take over."""
        queue, policy = self._queue, self._policy
        consumers = await queue.settle(
            tenant_cap=policy.tenant_cap,
            slots=policy.slots,
            idle_s=policy.claim_after_s,
            token=self._name,
            life_s=life_s,
        )
        self._is_janitor = consumers is not None
        if consumers is None:
            return True
        self._crowd = max(1.0, consumers / _LOOKING)
        more = await queue.promote() + await queue.adopt()
        if trio.current_time() >= self._reclaim_at:
            more += await queue.reclaim(self._name, idle_s=policy.claim_after_s)
            await queue.remove_idle_consumers(idle_s=10 * policy.claim_after_s)
            self._reclaim_at = trio.current_time() + policy.claim_after_s / 4 * random.uniform(0.8, 1.2)
        return more > 0

    async def _resign(self) -> None:
        self._is_janitor = False
        with suppress(Unavailable):
            await self._queue.resign(self._name)

    def _begin(self, child: ChildLike) -> None:
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

    async def _take_one(self, child: ChildLike, nursery: trio.Nursery) -> bool:
        await self._free.acquire()
        started = False
        try:
            if not child.stopping.is_set() and self._accepting_tasks() and not self._outage.remaining_s:
                lease = None
                with trio.CancelScope() as self._reading:
                    lease = await self._queue.take(self._name, min(_LOOK_S * self._crowd, self._policy.claim_after_s))
                if lease is not None:
                    self._start(nursery, lease)
                    started = True
                    if self._is_suspect(lease):
                        await self._until(lambda: lease.entry_id not in self._active)
        finally:
            if not started:
                self._free.release()
        return started

    async def _through_outages(self, child: ChildLike, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat ``step`` until a request to stop. Wait while Redis is unavailable."""
        pause_s, longest_s = _OUTAGE_PAUSE_S
        while not child.stopping.is_set():
            if not self._accepting_tasks():
                await _wait_or_stop(child, 0.2)
                continue
            try:
                await step()
                pause_s = _OUTAGE_PAUSE_S[0]
            except Unavailable as error:
                self._log.info("queue.backed_off", dependency=error.dependency, detail=error.detail, pause_s=pause_s)
                await _wait_or_stop(child, pause_s * random.uniform(0.8, 1.2))
                pause_s = min(longest_s, pause_s * 2)

    def _start(self, nursery: trio.Nursery, lease: Lease) -> None:
        active = _ActiveAttempt(lease, trio.CancelScope())
        self._active[lease.entry_id] = active  # two entries can have the same task id
        nursery.start_soon(self._work, active, name=f"task {lease.task.task_id}")

    async def _work(self, active: _ActiveAttempt) -> None:
        """Run one attempt and its end. Release the slot that `_take_one` acquired."""
        with ObservedAttempt(self._telemetry, self._path, self._queue_name, active.lease) as observed:
            try:
                with active.scope:
                    observed.outcome, observed.reason = await self._attempt(active)
                if active.cancelled and not active.lease.ended:
                    observed.outcome, observed.reason = await self._cancelled(active.lease)
            except (trio.Cancelled, BaseExceptionGroup):  # a nursery of the attempt makes a group of cancels
                # Shielded, so that the task does not wait until it is reclaimed. Bounded by `_RELEASE_S`.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _RELEASE_S):
                    await self._end_lease(active.lease.release)
                raise
            finally:
                if active.lost:
                    observed.outcome = "lease_lost"
                # If the lease was lost, the entry may have come again.
                if self._active.get(active.lease.entry_id) is active:
                    del self._active[active.lease.entry_id]
                self._attempt_ended.set()
                self._attempt_ended = trio.Event()
                # This process has stopped working on it. If its end could not be recorded, this process must be able to
                # reclaim it, which it does not do while its lease seems active.
                active.lease.supersede()
                self._free.release()

    def _is_suspect(self, lease: Lease) -> bool:
        """Return whether one more crash makes the task poison. Then its attempt runs alone: perhaps the task was only
        beside the cause of the crashes."""
        return lease.deaths >= self._queue.max_deaths - 1

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            await self._attempt_ended.wait()

    async def _attempt(self, active: _ActiveAttempt) -> tuple[str, str]:
        lease = active.lease
        if lease.cancelled_by:
            return await self._cancelled(lease)
        if lease.deaths >= self._queue.max_deaths:
            return await self._dead_letter(lease, Reason.POISON, f"{lease.deaths} workers crashed with it")
        if self._policy.gives_up and time.time() - lease.age_since > self._policy.max_age_s:
            return await self._dead_letter(lease, Reason.EXPIRED, "older than TASKS__MAX_AGE")
        try:
            if self._is_suspect(lease):
                await self._until(lambda: len(self._active) == 1)
                await lease.begin()
            with trio.fail_after(_ATTEMPT_S):
                await self._handler.run(lease.task, active.ensure_lease)
            self._outage.succeeded()
            await self._end_lease(lease.complete)
            return "done", ""
        except LeaseLost:
            return "lease_lost", ""
        except Rejected as rejection:
            self._outage.succeeded()
            return await self._fail(lease, rejection.reason, rejection.detail)
        except UnknownFormat as error:
            return await self._after_unknown_format(lease, error)
        except Deferred as error:
            return await self._after_deferral(lease, error)
        except DecoderKilled as error:
            return await self._after_failure(lease, Reason.DECODER_KILLED, str(error))
        except Unavailable as error:
            return await self._after_outage(lease, error)
        except Exception as error:  # noqa: BLE001 - a bug in one task must not take the reader down
            if isinstance(error, OSError) and error.errno in _DISK_TROUBLE:
                return await self._after_outage(lease, Unavailable(Dependency.DISK, str(error)))
            self._log.error("task.internal_error", task_id=lease.task.task_id, attempt=lease.attempt, exc_info=error)
            return await self._after_failure(lease, Reason.INTERNAL, repr(error))

    async def _cancelled(self, lease: Lease) -> tuple[str, str]:
        operator = lease.cancelled_by.rpartition("@")[0] or lease.cancelled_by
        return await self._dead_letter(lease, Reason.CANCELLED, f"by {operator}")

    async def _fail(self, lease: Lease, reason: Reason, detail: str) -> tuple[str, str]:
        self._log.info("task.rejected", task_id=lease.task.task_id, reason=reason, detail=detail)
        try:
            await lease.renew()  # only the present owner of the lease may record the outcome
            await self._handler.record_failure(lease.task, reason)
            if reason is Reason.MALFORMED_TASK:
                await lease.dead_letter(f"{reason}: {detail}")
            else:
                await lease.complete()
        except LeaseLost:
            return "lease_lost", ""
        except Unavailable as error:  # recording it needs the store and Redis too
            return await self._after_outage(lease, error)
        except Exception as error:  # noqa: BLE001 - as in `_attempt`
            self._log.error("task.internal_error", task_id=lease.task.task_id, attempt=lease.attempt, exc_info=error)
            return await self._after_failure(lease, Reason.INTERNAL, repr(error))
        return "rejected", str(reason)

    async def _after_deferral(self, lease: Lease, error: Deferred) -> tuple[str, str]:
        if error.expires and self._too_late(lease, error.retry_after_s):
            return await self._fail(lease, Reason.REMOTE_UNREACHABLE, error.detail)
        if error.whole_tenant:
            await self._put_back(lease, lambda: lease.defer(error.retry_after_s, error.detail))
        else:
            # A task that was redirected to a busy server waits on its own, longer the older it is.
            waits_s = max(error.retry_after_s, min(_LONGEST_TURN_S, (time.time() - lease.first_seen) / 4))
            await self._retry(lease, waits_s * random.uniform(1.0, 1.2), error.detail, count=False)
        return "deferred", str(Dependency.REMOTE)

    async def _after_unknown_format(self, lease: Lease, error: UnknownFormat) -> tuple[str, str]:
        """Leave a task to a worker of a newer version. It may be invented, so it does not wait without a limit."""
        now = time.time()
        since = lease.unavailable_since or now
        if now - since > self._policy.max_age_s:
            return await self._dead_letter(lease, Reason.EXPIRED, str(error))
        delay_s = max(self._policy.backoff_s, min(_LONGEST_TURN_S, (now - since) / 4)) * random.uniform(1.0, 1.2)
        await self._retry(lease, delay_s, str(error), count=False, unavailable_since=since)
        return "deferred", str(Reason.UNKNOWN_TYPE)

    def _too_late(self, lease: Lease, delay_s: float) -> bool:
        return time.time() + delay_s - lease.first_seen > self._policy.max_deferral_s

    async def _after_outage(self, lease: Lease, error: Unavailable) -> tuple[str, str]:
        if error.dependency is Dependency.OBJECT:
            return await self._after_object_failure(lease, error)
        ours = error.dependency is not Dependency.REMOTE
        if error.dependency not in _TASK_LOCAL:
            self._outage.failed()
        backoff_s = max(self._backoff_s(lease.attempt), self._outage.pause_s if ours else 0.0)
        asked_s = 0.0 if ours else error.retry_after_s
        used_up = lease.attempt >= self._policy.max_attempts or (asked_s > backoff_s and self._too_late(lease, asked_s))
        if not ours and used_up:
            return await self._fail(lease, Reason.REMOTE_UNREACHABLE, error.detail)
        if error.dependency is Dependency.DISK and time.time() - lease.first_seen > _DISK_FULL_LIMIT_S:
            return await self._after_failure(lease, Reason.INTERNAL, str(error))  # perhaps its file never fits
        delay_s = max(backoff_s, asked_s)
        # An outage says nothing about an object that was unavailable before.
        await self._retry(lease, delay_s, str(error), count=not ours, unavailable_since=lease.unavailable_since)
        return "retried", str(error.dependency)

    async def _after_object_failure(self, lease: Lease, error: Unavailable) -> tuple[str, str]:
        """Retry a task whose object alone is unavailable: it waits longer each time, without delaying other tasks."""
        now = time.time()
        since = lease.unavailable_since or now
        waited_s = now - since
        longest_s = min(_LONGEST_OBJECT_WAIT_S, max(self._policy.backoff_s, waited_s))
        delay_s = longest_s * random.uniform(0.5, 1.0)
        free = waited_s < _OBJECT_OUTAGE_LIMIT_S or not self._policy.gives_up
        if not free and lease.attempt >= self._policy.max_attempts:
            return await self._dead_letter(lease, Reason.UNREADABLE, error.detail)
        await self._retry(lease, delay_s, str(error), count=not free, unavailable_since=since)
        return "retried", str(error.dependency)

    async def _after_failure(self, lease: Lease, reason: Reason, error: str) -> tuple[str, str]:
        """Use up an attempt, because the file may be the cause. After the last attempt make a dead letter."""
        if lease.attempt < self._policy.max_attempts:
            await self._retry(lease, self._backoff_s(lease.attempt), error, count=True)
            return "retried", str(reason)
        return await self._dead_letter(lease, reason, error)

    async def _retry(
        self, lease: Lease, delay_s: float, error: str, *, count: bool, unavailable_since: float = 0.0
    ) -> None:
        await self._put_back(
            lease, lambda: lease.retry(delay_s, error, count=count, unavailable_since=unavailable_since)
        )

    async def _put_back(self, lease: Lease, end: Callable[[], Awaitable[None]]) -> None:
        async def put_back() -> None:
            try:
                await self._handler.renew_status(lease.task)
            except (LeaseLost, Unavailable):
                raise
            except Exception as error:  # noqa: BLE001 - as in `_attempt`
                self._log.error("task.internal_error", task_id=lease.task.task_id, exc_info=error)
            await end()

        await self._end_lease(put_back)

    async def _dead_letter(self, lease: Lease, reason: Reason, error: str) -> tuple[str, str]:
        """Make a dead letter, after the failure was recorded."""
        crashed = {"crashed_workers": lease.crashed_workers} if lease.crashed_workers else {}
        self._log.warning("task.given_up", task_id=lease.task.task_id, reason=reason, detail=error, **crashed)
        try:
            await lease.renew()  # as in `_fail`
            await self._record_end(lease, reason)
        except LeaseLost:
            return "lease_lost", ""
        except Unavailable as unavailable:
            return await self._after_outage(lease, unavailable)
        await self._end_lease(lambda: lease.dead_letter(f"{reason}: {error}"))
        return "dead_letter", str(reason)

    async def _record_end(self, lease: Lease, reason: Reason) -> None:
        """Record the failure before a dead letter is made. The dead letter is made even if a bug prevents this."""
        # Crashes of workers can have any cause. If a decoder was killed as well, or an attempt failed, the file may be
        # at fault.
        is_file_suspect = reason is Reason.POISON and lease.failures > 0
        try:
            await self._handler.record_failure(lease.task, reason, is_file_suspect=is_file_suspect)
        except LeaseLost:
            raise
        except Exception as error:
            if isinstance(error, Unavailable) and error.dependency is not Dependency.OBJECT:
                raise
            self._log.error("task.internal_error", task_id=lease.task.task_id, reason=reason, exc_info=error)

    def _backoff_s(self, attempt: int) -> float:
        """Return an exponential backoff, with jitter on its upper half."""
        longest = min(self._policy.max_backoff_s, self._policy.backoff_s * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)

    async def _end_lease(self, end: Callable[[], Awaitable[None]]) -> None:
        """End a lease. Retry during an outage as short as the restart of a supervised child. If that fails, the lease
        expires, and the task is reclaimed; nothing is lost."""
        deadline = trio.current_time() + _END_S
        pause_s = _OUTAGE_PAUSE_S[0]
        while True:
            try:
                await end()
            except (LeaseLost, Unavailable) as error:
                if isinstance(error, LeaseLost) or trio.current_time() + pause_s > deadline:
                    self._log.info("task.left_to_reclaim", error=repr(error))
                    return
            else:
                return
            await trio.sleep(pause_s)
            pause_s *= 2


async def _wait_or_stop(child: ChildLike, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await child.stopping.wait()
    await trio.lowlevel.checkpoint()
