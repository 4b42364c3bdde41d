"""One run of one supervisor: a loop around a step that never waits.

Two other designs were rejected. One task per restart is short, but two simultaneous failures race for the same
siblings. A single task that awaits each start, grace period and backoff in turn, as in OTP, keeps the order but cannot
react to anything else while one child is in backoff. Here the loop sleeps until a child ends or a deadline passes;
`_step` then compares the actual state with the desired one. `_step` never awaits, so every decision and every snapshot
sees a consistent tree.

A wrapper task detects the end of its child. Whether the child had been asked to stop is a flag of the supervisor, and
never follows from the exception, because libraries raise `trio.Cancelled` of their own and swallow Trio's.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from supervisors._batch import Batch, Deadlines
from supervisors._child import Child
from supervisors._errors import Killed, StartFailed, Stuck, TooManyRestarts, is_fatal, leaves_of, stack_of
from supervisors._journal import Journal
from supervisors._policy import AutoShutdown, Backoff, Intensity, Restart, RestartWindow, Strategy, restart_group
from supervisors._record import Incarnation, Membership, Record
from supervisors._state import OVER_AFTER, EventKind, State

STUCK_AFTER_S = 5.0  # a child that still runs so long after its cancellation is reported
_SHUTDOWN = "shutdown"  # of the whole tree
AUTOMATIC_SHUTDOWN = "automatic shutdown"
_MAX_STACKS = 10  # of children that are late at the same time: each costs a millisecond, and thousands can be late


@dataclass
class Engine:
    """The run-time state of a supervisor, from `serve` to its end; a restart makes a new one.

    ``own`` is the supervisor's node. With ``forgets`` its children are forgotten after their end, and stop all at once.
    There can be thousands of them, so nothing iterates over all, except when the supervisor stops. ``on_started``
    reports the end of the start.
    """

    own: Record
    intensity: Intensity
    strategy: Strategy
    backoff: Backoff
    auto_shutdown: AutoShutdown
    forgets: bool
    on_started: Callable[[], None]
    cancel_grace_s: float

    def __post_init__(self) -> None:
        assert self.own.children is not None
        self.records = self.own.children
        self.stopping = False
        self.stop_deadline = math.inf  # only becomes earlier
        above = self.own.supervisor
        self.journal: Journal = Journal(self.wake) if above is None else above.journal
        self._window = self.journal.windows.setdefault(self.own, RestartWindow(self.intensity))
        self._exits: deque[tuple[Record, BaseException | None]] = deque()
        self._turns: dict[Record, Batch] = {}  # the batch in which a child has a turn to start
        self._to_advance: deque[Batch] = deque()  # those in which something has changed
        self._deadlines = Deadlines()
        self._wake = trio.Event()
        self._scope = trio.CancelScope()  # shielded as soon as a cancel from outside has arrived
        self._last: Batch | None = None  # while the supervisor stops: the children whose turn is to come
        self._asked_until: float | None = None  # the stop deadline that the children have been given
        self._failure: BaseException | None = None  # the first reason to give up
        self._interruptions: list[BaseException] = []

    # --- requests of others: flags and a wake-up, never a wait ---

    def wake(self) -> None:
        """Have the loop take a step."""
        self._wake.set()

    def request_stop(self, reason: str, deadline: float = math.inf) -> None:
        """Stop in order, and cancel the rest at ``deadline``. A later deadline than the present one is ignored."""
        if not self.stopping:
            self.stopping = True
            self.own.reason = reason
        self.stop_deadline = min(self.stop_deadline, deadline)
        self.wake()

    def fail(self, failure: Exception, cause: BaseException | None, reason: str, deadline: float = math.inf) -> None:
        """Give up and stop; only the first failure counts."""
        if self._failure is None:
            failure.__cause__ = cause
            self._failure = failure
        self.request_stop(reason, deadline)

    @enable_ki_protection
    def add(self, records: Collection[Record], now: float, *, added: bool = True) -> None:
        """Add children that already have their place, and start them in this order."""
        for record in records:
            record.membership = Membership(added=added)
            record.force(State.STOPPED if record.stays_down else State.WAITING, now)
        self._begin_batch([], records, now, "")
        self.wake()

    @enable_ki_protection
    def stop_child(self, record: Record, deadline: float, *, remove: bool = False) -> None:
        """Stop one child, and keep it down until it is restarted by hand. With ``remove`` forget it instead."""
        now = trio.current_time()
        own, incarnation = record.membership, record.incarnation
        own.removed = own.removed or remove or self.forgets
        record.stays_down = not own.removed
        self._stop_before_start(record, "stop", now)
        if incarnation is not None:
            incarnation.stop_by = min(incarnation.stop_by, deadline)
            if incarnation.stop_requested or not self.stopping:
                self._ask_to_stop(record, "stop", now)
        self._forget_if_gone(record)
        self.wake()

    def restart_child(self, record: Record, now: float) -> None:
        """Stop a child if it runs, then start it, at once and uncounted."""
        record.stays_down = False
        if record.state is State.BACKOFF:
            self._deadlines.set(self._turns[record], now)
        elif record.over or record.up:
            record.membership.ran = False  # otherwise a temporary child that ran would stay down
            if record.over:
                record.enter(State.WAITING, now)
            if not self._goes_down(record):  # otherwise its batch starts it again
                self._end_turn(record)
                self._begin_batch([record], [record], now, "restart")
        if record.up:
            self._ask_to_stop(record, "restart", now)
        self.wake()

    def kill(self, record: Record) -> None:
        """Cancel a child that is up as if it had crashed."""
        incarnation = record.incarnation
        if incarnation is not None and not incarnation.cancelled:
            incarnation.cancel_cause = Killed(record.path)
            self._cancel(record, incarnation, trio.current_time(), "kill")
            self.wake()

    # --- the run ---

    @enable_ki_protection
    async def serve(self) -> None:
        """Run until stopped or failed; return or raise only when no child is left.

        A cancel from outside, KeyboardInterrupt and the like first cause an ordered stop, and are raised after it.
        """
        now = trio.current_time()
        self.add(self.records.values(), now, added=False)
        incarnation = self.own.incarnation
        if incarnation is None:  # a root
            self.own.begin(now)
            self.journal.emit(self.own, EventKind.STARTING, now)
            if self.own.stays_down:  # stopped before its first run
                self.own.stays_down = False
                self.request_stop(_SHUTDOWN)
        elif incarnation.stop_requested or incarnation.cancelled:  # before this engine existed
            self.request_stop(self.own.reason or "kill")
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    try:
                        await self._loop(nursery)
                    except BaseException:
                        # A bug of this package: no order between nodes any more, but no orphan either.
                        for record in reversed(list(self.records.values())):
                            if record.incarnation is not None:
                                self._cancel_task(record, record.incarnation, "a bug of its supervisor")
                        raise
        except BaseException as bug:  # noqa: BLE001 - raised at the end
            self._interrupted(bug)
        now = trio.current_time()
        for record in list(self.records.values()):
            if not record.over:  # after a bug
                record.end_incarnation(EventKind.STOPPED, None)
                record.force(State.STOPPED, now)
            if record.membership.added or record.membership.removed:
                record.leave()
        if self.own.parent is None:
            error = self._error()
            kind = EventKind.STOPPED if error is None else EventKind.FAILED
            self._ended(self.own, kind, now, error)
            self._deliver()
        if not self._interruptions and (self._scope.shield or self._failure is None):
            await trio.lowlevel.checkpoint_if_cancelled()
        error = self._error()
        if error is not None:
            raise error

    async def _loop(self, nursery: trio.Nursery) -> None:
        while True:
            self._wake = trio.Event()
            is_over = self._step(nursery, trio.current_time())
            self._deliver()
            if is_over:
                return
            try:
                with trio.CancelScope(deadline=self._deadlines.next()):
                    await self._wake.wait()
            except BaseException as exc:  # noqa: BLE001 - raised again after the last child
                self._interrupted(exc)

    def _deliver(self) -> None:
        if self.own.parent is None:
            try:
                self.journal.deliver()
            except BaseException as exc:  # noqa: BLE001 - an observer's, such as KeyboardInterrupt; raised at the end
                self._interrupted(exc)

    def _interrupted(self, exc: BaseException) -> None:
        now = trio.current_time()
        if isinstance(exc, trio.Cancelled):
            # Trio repeats a cancel until the scope is left, so the loop is shielded from here on. The shield lasts at
            # most `cancel_grace_s`, and then until the children have cleaned up.
            self._scope.shield = True
            self.request_stop(_SHUTDOWN, now + self.cancel_grace_s)
            return
        self._interruptions.append(exc)
        by_hand = [any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(each)) for each in self._interruptions]
        self.request_stop(_SHUTDOWN, now if sum(by_hand) > 1 else math.inf)

    def _error(self) -> BaseException | None:
        """Return what this run raises. An interruption has precedence, because it must not cause a restart."""
        if len(self._interruptions) > 1:
            return BaseExceptionGroup(f"{self.own.path} was interrupted more than once", self._interruptions)
        return self._interruptions[0] if self._interruptions else self._failure

    def _step(self, nursery: trio.Nursery, now: float) -> bool:
        while self._exits:
            self._take_exit(*self._exits.popleft(), now)
        self._take_due(now)
        if self.stopping:
            return self._advance_stop(now)
        self._advance(nursery, now)
        if self.own.state is State.STARTING and not self._turns:
            if self.own.parent is None:  # otherwise the supervisor above does it
                self._note_start(self.own, self.own.incarnations, None)
            self.on_started()
        return False

    # --- deadlines ---

    def _take_due(self, now: float) -> None:
        shown = 0
        while (target := self._deadlines.pop_due(now)) is not None:
            if isinstance(target, Batch):
                self._to_advance.append(target)
            elif (incarnation := target.incarnation) is not None:
                stack = stack_of(incarnation.task) if incarnation.task is not None and shown < _MAX_STACKS else ""
                shown += 1
                self._take_late(target, incarnation, now, stack)

    def _take_late(self, record: Record, incarnation: Incarnation, now: float, stack: str) -> None:
        record.deadline = math.inf
        if incarnation.cancelled:
            stuck = Stuck(record.path, f"still runs {STUCK_AFTER_S:g} s after its cancellation")
            record.note_failure(stuck)
            self.journal.emit(record, EventKind.STUCK, now, error=stuck, stack=stack)
        elif incarnation.stop_requested:
            self._cancel(record, incarnation, now, "it did not stop in time", stack)
        elif record.state is State.STARTING:
            late = f"{record.path} had not started within {record.policy.start_timeout_s:g} s"
            incarnation.cancel_cause = TimeoutError(late)
            self._cancel(record, incarnation, now, "it did not start in time", stack)

    # --- batches: children that go down and up as one unit ---

    def _begin_batch(self, to_stop: list[Record], to_start: Collection[Record], not_before: float, reason: str) -> None:
        batch = Batch(to_stop, deque(to_start), reason)
        self._turns.update(dict.fromkeys(to_start, batch))
        self._deadlines.set(batch, not_before)
        self._to_advance.append(batch)

    def _advance(self, nursery: trio.Nursery, now: float) -> None:
        """Start and stop what is due. A batch that waits for a child or a backoff blocks no other."""
        while self._to_advance:
            batch = self._to_advance.popleft()
            if (last := batch.next_to_stop()) is not None:
                self._ask_to_stop(last, batch.reason, now)
            elif (first := self._next_to_start(batch)) is None:
                batch.deadline = math.inf
            elif not first.up and now >= batch.deadline:
                self._start(first, nursery, now)

    def _next_to_start(self, batch: Batch) -> Record | None:
        """Return the leftmost child that has not ended its turn: one to start, or one that is starting."""
        while batch.to_start and not batch.to_start[0].has_a_turn:
            del self._turns[batch.to_start.popleft()]
        return batch.to_start[0] if batch.to_start else None

    def _goes_down(self, record: Record) -> bool:
        """Return whether the batch of a child has to stop it before it starts."""
        return record in self._turns and record in self._turns[record].to_stop

    def _note_change(self, record: Record) -> None:
        if record in self._turns:
            self._to_advance.append(self._turns[record])

    def _end_turn(self, record: Record) -> None:
        self._note_change(record)
        if record in self._turns:
            self._turns.pop(record).to_start.remove(record)

    # --- going down ---

    def _advance_stop(self, now: float) -> bool:
        """Request the stop of the children whose turn it is; return whether all are down."""
        if self._last is None:
            if self.own.state is not State.STOPPING:  # otherwise the supervisor above has announced it
                self.own.enter(State.STOPPING, now)
                self.journal.emit(self.own, EventKind.STOPPING, now, reason=self.own.reason)
            reason = _SHUTDOWN if self.own.reason == _SHUTDOWN else "shutdown of its supervisor"
            self._last = Batch(list(self.records.values()), deque(), reason)
            for record in self._last.to_stop:
                self._stop_before_start(record, reason, now)
        rightmost = self._last.next_to_stop()
        if rightmost is not None:
            self._ask_to_stop(rightmost, self._last.reason, now)
        if self._asked_until is None or self.stop_deadline < self._asked_until:
            self._asked_until = self.stop_deadline
            # A child that was stopped by hand may still be on its way, beside the one whose turn it is.
            for record in list(self.records.values()):
                incarnation = record.incarnation
                if incarnation is not None and (incarnation.stop_requested or self.forgets):
                    self._ask_to_stop(record, self._last.reason, now)
        return rightmost is None

    def _stop_before_start(self, record: Record, reason: str, now: float) -> None:
        if record.state in (State.WAITING, State.BACKOFF):
            record.reason = reason
            self._ended(record, EventKind.STOPPED, now, None)
            self._forget_if_gone(record)

    def _ask_to_stop(self, record: Record, reason: str, now: float) -> None:
        """Request the stop of a child, unless that is done, and cancel it at the present deadline at the latest."""
        incarnation = record.incarnation
        assert incarnation is not None
        if not incarnation.stop_requested:
            incarnation.stop_requested = True
            record.reason = reason
            incarnation.stop_by = min(incarnation.stop_by, now + record.policy.grace_s)
            if not incarnation.cancelled:
                record.deadline = math.inf
            if record.state is not State.STOPPING:  # a supervisor that stops by itself is already in that state
                record.enter(State.STOPPING, now)
                self.journal.emit(record, EventKind.STOPPING, now, reason=reason)
            self._note_change(record)
            if incarnation.handle is not None:
                incarnation.handle.request_stop(reason)
        deadline = min(incarnation.stop_by, self.stop_deadline)
        if record.below is not None:
            record.below.request_stop(reason, deadline)
        if incarnation.cancelled or deadline >= record.deadline:
            return
        if deadline > now:
            self._deadlines.set(record, deadline)
        else:
            self._cancel(record, incarnation, now, reason)

    def _cancel(self, record: Record, incarnation: Incarnation, now: float, why: str, stack: str | None = None) -> None:
        record.deadline = math.inf
        self._cancel_task(record, incarnation, why)
        self.journal.emit(record, EventKind.CANCELLED, now, error=incarnation.cancel_cause, reason=why, stack=stack)
        if record.children is None:
            self._deadlines.set(record, now + STUCK_AFTER_S)

    def _cancel_task(self, record: Record, incarnation: Incarnation, why: str) -> None:
        """Cancel a worker; a supervisor below ends its children without grace, still right to left."""
        incarnation.cancelled = True
        if record.below is not None:
            record.below.request_stop("kill", trio.current_time())
        else:
            incarnation.scope.cancel(f"{record.path}: {why}")

    # --- coming up ---

    def _start(self, record: Record, nursery: trio.Nursery, now: float) -> None:
        incarnation = record.begin(now)
        on_started = partial(self._note_start, record, record.incarnations)
        incarnation.handle = handle = Child(record.path, record.incarnations, record.value, on_started)
        self.journal.emit(record, EventKind.STARTING, now)
        self._deadlines.set(record, now + record.policy.start_timeout_s)
        spawn = partial(nursery.start_soon, self._incarnate, record, handle, incarnation.scope, name=handle.path)
        spawn() if record.context is None else record.context.run(spawn)

    @enable_ki_protection
    async def _incarnate(self, record: Record, handle: Child[Any], scope: trio.CancelScope) -> None:
        assert record.incarnation is not None
        record.incarnation.task = trio.lowlevel.current_task()
        try:
            with scope:
                await self._run_child(record, handle)
        except BaseException as exc:  # noqa: BLE001 - the boundary: `_take_exit` judges it, nothing is lost
            self._exits.append((record, exc))  # and no local name keeps it: the frames of the child would live on
        else:
            self._exits.append((record, None))
        self.wake()

    @disable_ki_protection
    async def _run_child(self, record: Record, handle: Child[Any]) -> None:
        await record.run(handle)

    @enable_ki_protection
    def _note_start(self, record: Record, number: int, value: Any) -> None:
        present = record.incarnation
        if record.incarnations != number or record.state is not State.STARTING or present is None or present.cancelled:
            return  # late: it was cancelled or its stop was requested meanwhile
        now = trio.current_time()
        record.deadline = math.inf
        present.started_at = now
        record.value = value
        record.starts += 1
        record.membership.ever_started = True
        record.membership.error = None
        record.enter(State.RUNNING, now)
        self.journal.emit(record, EventKind.STARTED, now)
        if not self._goes_down(record):  # otherwise it goes down again with its group
            self._end_turn(record)
        self.wake()

    # --- after an end ---

    def _take_exit(self, record: Record, error: BaseException | None, now: float) -> None:
        own, incarnation = record.membership, record.incarnation
        assert incarnation is not None
        kind, failure = record.judge(error)
        again = kind is EventKind.FAILED or (kind is EventKind.RETURNED and record.policy.restart is Restart.PERMANENT)
        if error is not None and is_fatal(error):
            self._interrupted(error)
        if kind is EventKind.STOPPED or self.stopping or self._goes_down(record):
            # If it ended before its stop was requested, no further restart is counted.
            self._ended(record, kind, now, failure)
            if not record.remains_down and not self.stopping:
                record.enter(State.WAITING, now)  # for its turn
        elif again and not own.ever_started and (own.added or self.own.state is State.STARTING):
            own.removed = own.added  # a failed first start is not kept
            self._ended(record, kind, now, failure or error)
            if not own.added:
                self.fail(StartFailed(record.path), failure or error, f"{record.path} failed to start")
        elif not again or record.policy.restart is Restart.TEMPORARY:
            self._ended(record, kind, now, failure)
            if record.policy.significant and kind is not EventKind.IGNORED:
                left = any(each.policy.significant and not each.over for each in self.records.values())
                if self.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not left:
                    self.request_stop(AUTOMATIC_SHUTDOWN)
        elif not self._window.admit(now):
            self._ended(record, kind, now, failure)
            limit = self.intensity
            escalation = TooManyRestarts(self.own.path, record.path, limit.max_restarts, limit.within_s)
            self.fail(escalation, failure or error, f"too many restarts of {record.path}")
            self.journal.emit(self.own, EventKind.ESCALATED, now, error=escalation)
        else:
            backoff = record.policy.backoff or self.backoff
            healthy = incarnation.started_at is not None and now - incarnation.started_at >= backoff.healthy_after_s
            own.failures = 1 if healthy else own.failures + 1
            self._ended(record, kind, now, failure, state=State.BACKOFF)
            self._restart_later(record, now, backoff.delay_s(own.failures, random.random()))
        self._forget_if_gone(record)

    def _restart_later(self, record: Record, now: float, delay_s: float) -> None:
        """Stop the group of a failed child now, and start it again after the child's backoff.

        Batches that share a child with it are merged, with the latest time.
        """
        self.journal.emit(record, EventKind.BACKOFF, now, delay_s=delay_s)
        group = set(restart_group(self.strategy, self.records.values(), record))
        taken_over = {self._turns[each] for each in group if each in self._turns}
        stopping = group.union(*(batch.to_stop for batch in taken_over))
        starting = group.union(*(batch.to_start for batch in taken_over))
        not_before = max([now + delay_s, *(batch.deadline for batch in taken_over)])
        for batch in taken_over:
            batch.dissolve()
        alone = len(starting) == 1
        to_start = [record] if alone else [each for each in self.records.values() if each in starting]
        for each in to_start:
            if each.over and not each.remains_down:
                each.enter(State.WAITING, now)
        to_stop = [each for each in to_start if each in stopping and each.up]
        self._begin_batch(to_stop, to_start, not_before, f"restart of {record.path}")

    def _ended(
        self, record: Record, kind: EventKind, now: float, error: BaseException | None, state: State | None = None
    ) -> None:
        """Record that a node is down, by default for good."""
        record.end_incarnation(kind, error)
        record.note_failure(error)
        if record.keeps_error or not record.membership.ever_started:
            record.membership.error = error
        record.enter(state or OVER_AFTER[kind], now)
        self.journal.emit(record, kind, now, error=error, reason=record.reason)
        self._note_change(record)

    def _forget_if_gone(self, record: Record) -> None:
        """Forget a child as soon as it is down: one that was removed, or added and is temporary, or any of a pool."""
        own = record.membership
        is_over = own.removed or self.forgets or (own.added and record.policy.restart is Restart.TEMPORARY)
        if is_over and record.over:
            self._end_turn(record)
            record.leave()
