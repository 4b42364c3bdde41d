"""One run of one supervisor: a loop around a step that never waits.

Three shapes were weighed. A task per restart is short, but two failures at once then race for the same siblings. One
task that waits for each start, grace and backoff in turn (as OTP does) keeps order, but a child in backoff makes it
deaf to all others. So the loop sleeps until something ended or became due, and `_step` compares what is with what
should be: nothing in it awaits, so each decision sees, and each snapshot shows, a consistent tree.

A child's end is seen by its wrapper task, never told by the child, and whether it was asked to stop is read from the
supervisor's own state, never from the exception: libraries do raise `trio.Cancelled` of their own, and swallow ours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from supervisors._batch import Batch, Batches
from supervisors._child import Child
from supervisors._errors import (
    Killed,
    NoSuchChild,
    NotRunning,
    SpecError,
    StartFailed,
    StartTimeout,
    TooManyChildren,
    TooManyRestarts,
    is_fatal,
)
from supervisors._outcome import Outcome
from supervisors._policy import (
    AutoShutdown,
    Intensity,
    Restart,
    RestartWindow,
    Strategy,
    check_escalates,
    restart_group,
    should_restart,
)
from supervisors._record import Record
from supervisors._spec import ChildSpec
from supervisors._state import Event, EventKind, State

ROOT = "/"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one supervisor treats its children."""

    strategy: Strategy
    intensity: Intensity
    auto_shutdown: AutoShutdown
    max_children: float
    dynamic: bool  # children come and go: no order among them, and who has ended is forgotten
    random: Callable[[], float]


class Engine:
    """The run-time state of a supervisor, from `serve` to its end; a restart makes a new one."""

    def __init__(
        self,
        path: str,
        plan: Plan,
        publish: Callable[[Event], None],
        on_started: Callable[[], None],
        *,
        nested: bool,
        incarnation: int,
        before: Mapping[str, Record],
    ) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        self.started = False
        self.stopping = False
        self.finished = False
        self._plan = plan
        self.publish = publish
        self._on_started = on_started
        self._before = before
        self._nested = nested
        self.incarnation = incarnation
        self._now = -math.inf  # of the last step: whatever was due by then has been dealt with
        self._events: deque[Event] = deque()
        self._exits: deque[tuple[Record, BaseException | None]] = deque()
        self._batches = Batches()
        self._timed: set[Record] = set()  # those with a deadline: a step must not look at thousands of children
        self._window = RestartWindow(plan.intensity)
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._stop_announced = False
        self._brutal = False  # no grace for anybody
        self._outcome = Outcome(path)

    # --- what others ask for: flags and a wake-up, never a wait ---

    def begin_stop(self) -> None:
        """Ask for the ordered stop."""
        self.stopping = True
        # From here a cancellation from outside has nothing to add. Bounded by the children's graces.
        self._scope.shield = True
        self._wake.set()

    def abort(self) -> None:
        """Ask for the stop without grace, still right to left."""
        self._brutal = True
        self.begin_stop()

    def crash(self, error: Exception) -> None:
        """End abnormally with ``error``, at once."""
        self._outcome.fail(error)
        self.abort()

    @enable_ki_protection
    def add(self, specs: Iterable[ChildSpec], now: float) -> list[Record]:
        """Add children, to be started in this order as one batch."""
        if self.stopping:
            raise NotRunning(f"{self.path} is stopping")
        added: list[Record] = []
        for spec in specs:
            if spec.restart is not Restart.TEMPORARY:
                check_escalates(spec.name, self._plan.intensity, spec.backoff)
            if spec.name in self.records:
                raise SpecError(f"{self.path} has a child {spec.name} already")
            if len(self.records) >= self._plan.max_children:
                raise TooManyChildren(f"{self.path} has {len(self.records)} children already")
            record = Record(spec, child_path(self.path, spec.name), now, self._before.get(spec.name))
            self.records[spec.name] = record
            added.append(record)
        self._batches.add(Batch((), added, now))
        self._wake.set()
        return added

    @enable_ki_protection
    def stop_child(self, record: Record, now: float) -> None:
        """Have one child stopped, and kept down until `restart_child`."""
        record.held = True
        if record.state in (State.WAITING, State.BACKOFF):
            self._enter(record, State.STOPPED, EventKind.STOPPED, now)
            self._settle(record, None)
            self._forget_if_dynamic(record)
        elif record.up and not self.stopping:  # while all stop, it has its turn
            self._ask_to_stop(record, now)
        self._wake.set()

    @enable_ki_protection
    def restart_child(self, record: Record, now: float) -> None:
        """Start a child that is down or stopping, or cut its backoff short; another one is left alone."""
        if self.stopping:
            raise NotRunning(f"{self.path} is stopping")
        if self._plan.dynamic and record.state is State.STOPPING:  # it was removed, and is only not gone yet
            raise NoSuchChild(record.path)
        self._batches.restart_one(record, now)
        self._wake.set()

    @enable_ki_protection
    def kill(self, record: Record, now: float) -> bool:
        """Cancel a child as if it had crashed; False if there is nothing to kill."""
        if not record.up:
            return False
        if record.doom is None:
            record.doom = Killed(record.path)
            self._cancel(record, now)
            self._wake.set()  # to tell of it: the child's end may take long
        return True

    # --- the run ---

    @enable_ki_protection
    async def serve(self) -> None:
        """Run until stopped or failed; returns or raises only when no child is left.

        A cancellation from outside, KeyboardInterrupt and the like become an ordered stop first and are raised then.
        """
        self._emit_own(EventKind.STARTING, trio.current_time())
        with self._scope:
            async with trio.open_nursery() as nursery:
                try:
                    await self._loop(nursery)
                except BaseException:
                    # A defect of this package or a fatal error of an observer: no order any more, but no orphan either.
                    for record in self.records.values():
                        record.cancel()
                    raise
        error = self._outcome.error
        self._emit_own(EventKind.STOPPED if error is None else EventKind.FAILED, trio.current_time(), error)
        self._tell_observers()
        self._outcome.raise_if_any()

    async def _loop(self, nursery: trio.Nursery) -> None:
        while not self.finished:
            self._wake = trio.Event()
            self._step(nursery, trio.current_time())
            try:
                self._tell_observers()
                if not self.finished:
                    with trio.CancelScope(deadline=self._next_deadline()):
                        await self._wake.wait()
            except BaseException as exc:  # noqa: BLE001 - raised again after the last child
                self._interrupted(exc)

    def _interrupted(self, exc: BaseException) -> None:
        # Only a second interruption, such as a second Ctrl-C, ends the grace. Trio delivers a cancel as often as it
        # likes, and a cancel can be on its way when the stop is requested: neither is a second request.
        if not isinstance(exc, trio.Cancelled) and self._outcome.interrupted:
            self._brutal = True
        self._outcome.interrupt(exc)
        self.begin_stop()

    def _next_deadline(self) -> float:
        deadlines = [record.deadline for record in self._timed]
        deadlines += self._batches.due_times()
        # What is due already waits for a child, not for the clock.
        return min((deadline for deadline in deadlines if deadline > self._now), default=math.inf)

    def _tell_observers(self) -> None:
        while self._events:
            self.publish(self._events.popleft())

    def _step(self, nursery: trio.Nursery, now: float) -> None:
        self._now = now
        while self._exits:
            record, error = self._exits.popleft()
            self._take_exit(record, error, now)
        self._enforce_deadlines(now)
        if self.stopping:
            self._advance_stop(now)
            return
        for batch in self._batches:
            self._advance_batch(batch, nursery, now)
        if not self.started and not self._batches:
            self.started = True
            self._emit_own(EventKind.READY, now)
            self._on_started()

    def _enforce_deadlines(self, now: float) -> None:
        for record in [each for each in self._timed if each.deadline <= now]:
            if record.state is State.STARTING:
                record.doom = StartTimeout(record.path, record.spec.start_limit_s)
            self._cancel(record, now)

    # --- going down ---

    def _advance_stop(self, now: float) -> None:
        if not self._stop_announced:
            self._stop_announced = True
            self._emit_own(EventKind.STOPPING, now)
        self._batches.clear()
        for record in self.records.values():
            if record.state in (State.WAITING, State.BACKOFF):
                self._enter(record, State.STOPPED, EventKind.STOPPED, now)
                self._settle(record, None)
        up = [record for record in self.records.values() if record.up]
        for record in up if self._plan.dynamic else up[-1:]:
            self._ask_to_stop(record, now)
            if self._brutal:
                self._cancel(record, now)
        self.finished = not up

    def _ask_to_stop(self, record: Record, now: float) -> None:
        if record.state is State.STOPPING:
            return
        self._enter(record, State.STOPPING, EventKind.STOPPING, now)
        record.deadline = now + record.spec.grace_s
        self._timed.add(record)
        if record.handle is not None:
            record.handle.ask_to_stop()
        if record.spec.grace_s == 0:
            self._cancel(record, now)

    def _cancel(self, record: Record, now: float) -> None:
        if record.cancelled:
            return
        record.cancel()
        self._timed.discard(record)
        self._emit(record, EventKind.CANCELLED, now, record.doom)

    # --- coming up ---

    def _advance_batch(self, batch: Batch, nursery: trio.Nursery, now: float) -> None:
        last = batch.next_to_stop()
        if last is not None:
            self._ask_to_stop(last, now)
            return
        first = batch.next_to_start()
        if first is None:
            self._batches.remove(batch)
        elif first.state is not State.STARTING and now >= batch.not_before:
            self._start(first, nursery, now)

    def _start(self, record: Record, nursery: trio.Nursery, now: float) -> None:
        handle = Child(record.path, record.incarnation + 1, lambda: self._became_ready(record, handle))
        # Shielded: a cancellation from outside must not take all children down at once, in no order. Bounded: it is
        # cancelled by `_cancel` when the start or the grace has taken too long.
        scope = trio.CancelScope(shield=True)
        record.begin(handle, scope, now)
        self._timed.add(record)
        self._emit(record, EventKind.STARTING, now)
        nursery.start_soon(self._incarnate, record, handle, scope, name=record.path)

    @enable_ki_protection
    async def _incarnate(self, record: Record, handle: Child, scope: trio.CancelScope) -> None:
        error: BaseException | None = None
        try:
            with scope:
                await self._run_child(record, handle)
        except BaseException as exc:  # noqa: BLE001 - the boundary: `_take_exit` judges it, nothing is lost
            error = exc
        self._exits.append((record, error))
        self._wake.set()

    @disable_ki_protection
    async def _run_child(self, record: Record, handle: Child) -> None:
        spec = record.spec
        if spec.child is not None:
            await spec.child.run_below(handle, self)
        elif spec.run is not None:
            if spec.ready_on_start:
                handle.ready()
            await spec.run(handle)

    @enable_ki_protection
    def _became_ready(self, record: Record, handle: Child) -> None:
        if record.handle is not handle or record.state is not State.STARTING or record.doom is not None:
            return  # late: it was cancelled or asked to stop meanwhile, or says it twice
        now = trio.current_time()
        self._timed.discard(record)
        record.ever_ready = True
        self._enter(record, State.RUNNING, EventKind.READY, now)
        self._settle(record, None)
        self._batches.came_up(record)
        self._wake.set()

    # --- after an end ---

    def _take_exit(self, record: Record, error: BaseException | None, now: float) -> None:
        before, ready_since = record.state, record.since
        record.end()
        self._timed.discard(record)
        if error is not None and is_fatal(error):
            self._outcome.interrupt(error)
            self._ended(record, State.FAILED, error, now)
            self.begin_stop()
        elif before is State.STOPPING:
            record.note_failure(error)
            self._enter(record, State.STOPPED, EventKind.STOPPED, now, error)
            self._settle(record, error)
            self._batches.went_down(record, now)
            self._forget_if_dynamic(record)
        else:
            was_ready = before is State.RUNNING
            failure = record.failure_of(error, was_ready=was_ready)
            self._ended_by_itself(record, failure, now - ready_since if was_ready else None, now)

    def _ended_by_itself(
        self, record: Record, failure: BaseException | None, ready_s: float | None, now: float
    ) -> None:
        """``ready_s``: how long it was ready, None if it never got so far in this incarnation."""
        first_start_failed = failure is not None and not record.ever_ready
        if self.stopping or self._batches.takes_down(record):
            # It went before it was asked to: down is down, and no further restart is counted.
            self._ended(record, State.FINISHED if failure is None else State.FAILED, failure, now)
            self._batches.went_down(record, now)
        elif first_start_failed and (self._plan.dynamic or not self.started):
            self._ended(record, State.FAILED, failure, now)
            if not self._plan.dynamic:
                self._outcome.fail(StartFailed(record.path), failure)
                self.begin_stop()
        elif not should_restart(record.spec.restart, abnormal=failure is not None):
            self._ended(record, State.FINISHED if failure is None else State.FAILED, failure, now)
            self._consider_auto_shutdown(record)
        else:
            healthy = ready_s is not None and ready_s >= record.spec.backoff.healthy_after_s
            record.failures = 1 if healthy else record.failures + 1
            self._schedule_restart(record, failure, now)

    def _schedule_restart(self, record: Record, failure: BaseException | None, now: float) -> None:
        if not self._window.admit(now):
            self._ended(record, State.FAILED, failure, now)
            intensity = self._plan.intensity
            escalation = TooManyRestarts(self.path, record.path, intensity.max_restarts, intensity.within_s)
            self._outcome.fail(escalation, failure)
            self.begin_stop()
            self._events.append(Event(self.path, EventKind.ESCALATED, self.incarnation, escalation, now))
            return
        record.note_failure(failure)
        self._emit(record, EventKind.FAILED, now, failure)
        delay_s = record.spec.backoff.delay_s(record.failures, self._plan.random())
        record.enter(State.BACKOFF, now)
        self._emit(record, EventKind.BACKOFF, now, delay_s=delay_s)
        everyone = [record] if self._plan.dynamic else list(self.records.values())
        group = set(restart_group(self._plan.strategy, everyone, record))
        self._batches.restart(everyone, group, now + delay_s, now)

    def _consider_auto_shutdown(self, record: Record) -> None:
        if not record.spec.significant:  # none is where the plan says never
            return
        left = [each for each in self.records.values() if each.spec.significant and not each.over]
        if self._plan.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not left:
            self.begin_stop()

    # --- book-keeping ---

    def _ended(self, record: Record, state: State, error: BaseException | None, now: float) -> None:
        record.note_failure(error)
        self._enter(record, state, EventKind.RETURNED if error is None else EventKind.FAILED, now, error)
        self._settle(record, error)
        self._forget_if_dynamic(record)

    def _settle(self, record: Record, error: BaseException | None) -> None:
        if not record.settled.is_set():
            record.start_error = error
            record.settled.set()

    def _forget_if_dynamic(self, record: Record) -> None:
        if self._plan.dynamic:
            self.records.pop(record.spec.name, None)

    def _enter(
        self, record: Record, state: State, kind: EventKind, now: float, error: BaseException | None = None
    ) -> None:
        record.enter(state, now)
        self._emit(record, kind, now, error)

    def _emit_own(self, kind: EventKind, now: float, error: BaseException | None = None) -> None:
        if not self._nested:  # otherwise the parent tells of it
            self._events.append(Event(self.path, kind, self.incarnation, error, now))

    def _emit(
        self, record: Record, kind: EventKind, now: float, error: BaseException | None = None, delay_s: float = 0.0
    ) -> None:
        self._events.append(Event(record.path, kind, record.incarnation, error, now, delay_s))


def child_path(parent: str, name: str) -> str:
    """The root's path is ``/``, and is no part of the paths below it."""
    return name if parent == ROOT else f"{parent}/{name}"
