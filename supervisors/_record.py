"""The state of one node: its place, its policy, its present incarnation."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from supervisors._child import Child
from supervisors._errors import SupervisionError, is_fatal, is_shutdown, message_of, text_of
from supervisors._policy import Policy, Restart
from supervisors._state import LEGAL, OVER, UP, End, Event, EventKind, NodeState, State

ROOT = "/"
Observers = dict[object, Callable[[Event], object]]


@dataclass(slots=True)
class Incarnation:
    """One life of a node, from the start of its task to its end. It is dropped then, so that it keeps no frame alive.

    A root has no handle and no task of its own, and does not use the scope.
    """

    # Shielded, so that a cancel from outside does not end all children at once, without order. Bounded by the start
    # timeout, the grace and every stop deadline above: the supervisor reacts to them while the child runs.
    scope: trio.CancelScope = field(default_factory=partial(trio.CancelScope, shield=True))
    handle: Child[Any] | None = None
    task: trio.lowlevel.Task | None = None
    started_at: float | None = None
    stop_requested: bool = False
    stop_by: float = math.inf  # the deadline of a stop by hand
    cancelled: bool = False
    end: End | None = None  # for those who wait for it
    cancel_cause: Exception | None = None  # why the supervisor cancelled it although no stop was requested


@dataclass(slots=True)
class Membership:
    """What a node has during one run of its supervisor."""

    added: bool = False  # while the supervisor ran: the end of the run forgets the child
    removed: bool = False  # forgotten as soon as it is down
    ran: bool = False
    ever_started: bool = False
    failures: int = 0  # in a row, for the backoff
    error: BaseException | None = None  # of a task, or of a start while none has succeeded


@dataclass(eq=False, slots=True, weakref_slot=True)
class Record:
    """One node. Only engines change it. Snapshots read it at any time and from any thread.

    ``run`` is called once per incarnation. ``children`` is None for a worker. Counts and the last failure survive a
    restart of the supervisor, because the cause must be visible afterwards.
    """

    name: str
    run: Callable[[Child[Any]], Awaitable[object]]
    policy: Policy
    node: Any  # the public handle; engines do not use it
    keeps_error: bool = False  # a task's error is its result
    is_awaited: bool = False  # a caller waits for that result
    context: Context | None = None  # in which a task runs; None: that of its supervisor
    parent: Record | None = None
    children: dict[str, Record] | None = None
    observers: Observers = field(default_factory=dict)  # only a supervisor gets any
    below: Any = None  # while this node is a supervisor that runs: its `Engine`, whose module imports this one
    former_path: str | None = None
    state: State = State.WAITING
    since: float | None = None
    reason: str | None = None
    incarnations: int = 0  # so far: the number of the present or last one, which is public as `incarnation`
    starts: int = 0  # number of successful starts
    last_failure: str | None = None
    value: Any = None  # of the present or last incarnation
    stays_down: bool = False  # stopped by hand: down until it is restarted by hand
    incarnation: Incarnation | None = None  # while a task of the node exists
    deadline: float = math.inf  # of the start, the grace or the clean-up of that incarnation
    membership: Membership = field(default_factory=Membership)
    waiters: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)  # until the next transition

    # --- its place ---

    @property
    def path(self) -> str:
        """The names from the root down to this node; ``/`` for the root itself."""
        above = self.parent  # read once: another thread may take a snapshot while the node leaves
        if above is None:
            return self.former_path or (self.name if self.children is None else ROOT)
        return self.name if above.path == ROOT else f"{above.path}/{self.name}"

    @property
    def supervisor(self) -> Any:
        """The run of its supervisor; None for a root, and while the supervisor does not run."""
        return None if self.parent is None else self.parent.below

    def line(self) -> list[Record]:
        """Return this node and all above it, up to the root."""
        return [self] if self.parent is None else [self, *self.parent.line()]

    def leave(self) -> None:
        """Give up the place in the tree; the path stays readable."""
        above = self.parent
        if above is not None:
            assert above.children is not None
            self.former_path = self.path
            del above.children[self.name]
            self.parent = None
            above.waiters.unpark_all()  # perhaps for a place

    # --- its state ---

    @property
    def up(self) -> bool:
        """Whether a task of the node exists."""
        return self.state in UP

    @property
    def runs(self) -> bool:
        """Whether it has started, and is not on its way down."""
        return self.state is State.RUNNING and self.incarnation is not None and not self.incarnation.cancelled

    @property
    def over(self) -> bool:
        """Whether it is down and only its group or an operator starts it again."""
        return self.state in OVER

    @property
    def remains_down(self) -> bool:
        """Whether its group does not start it again: it was stopped by hand or removed, or it is temporary and ran."""
        own = self.membership
        return self.stays_down or own.removed or (self.policy.restart is Restart.TEMPORARY and own.ran)

    @property
    def has_a_turn(self) -> bool:
        """Whether it is about to start, or starting. That includes a supervisor that gives up during its own start."""
        incarnation = self.incarnation
        starts = incarnation is not None and incarnation.started_at is None and not incarnation.stop_requested
        return starts or self.state in (State.WAITING, State.BACKOFF)

    def enter(self, state: State, now: float) -> None:
        """Change the state. A transition that `LEGAL` does not have is a bug of the engine."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"{self.path}: {self.state} -> {state}")
        self.force(state, now)

    def force(self, state: State, now: float) -> None:
        """Change the state whatever it was: at the beginning of a run, and after a bug."""
        self.state = state
        self.since = now
        self.waiters.unpark_all()

    def begin(self, now: float) -> Incarnation:
        """Start a new incarnation."""
        self.enter(State.STARTING, now)
        self.incarnations += 1
        self.membership.ran = True
        self.reason = None
        self.incarnation = Incarnation()
        return self.incarnation

    def judge(self, error: BaseException | None) -> tuple[EventKind, BaseException | None]:
        """Return what kind of end it was that raised ``error``, and what was wrong. For a shutdown, set `reason`."""
        incarnation = self.incarnation
        assert incarnation is not None
        if error is not None and is_fatal(error):
            return EventKind.FAILED, error
        if incarnation.stop_requested:  # a cancel that the child passed on is not an error then
            return EventKind.STOPPED, None if is_shutdown(error) or isinstance(error, trio.Cancelled) else error
        if is_shutdown(error):
            self.reason = message_of(error)
        if incarnation.cancel_cause is not None:
            incarnation.cancel_cause.__cause__ = error
            return EventKind.FAILED, incarnation.cancel_cause
        if error is None and incarnation.handle is not None and incarnation.handle.ignored:
            return EventKind.IGNORED, None
        if error is None and self.policy.restart is Restart.PERMANENT:
            early = " before it had started" if incarnation.started_at is None else ""
            return EventKind.FAILED, SupervisionError(f"{self.path} returned{early}")
        return (EventKind.RETURNED, None) if error is None or is_shutdown(error) else (EventKind.FAILED, error)

    def end_incarnation(self, kind: EventKind, error: BaseException | None) -> None:
        """Drop the incarnation. Those who wait for its end get it, and nothing else keeps its frames alive."""
        if self.incarnation is not None:
            self.incarnation.end = End(self.path, self.incarnations, kind, error, self.reason)
            self.incarnation = None
            self.deadline = math.inf

    def note_failure(self, error: BaseException | None) -> None:
        """Remember only the text, because an exception would keep every frame of the dead child alive."""
        if error is not None:
            self.last_failure = text_of(error)

    def next_to_change(self) -> Record | None:
        """Return the node whose next transition may start this one, which is often itself; None if nothing will."""
        if self.up or self.state is State.BACKOFF:
            return self
        above = self.parent
        if above is None or self.stays_down:
            return None
        if self.supervisor is None or self.supervisor.stopping:
            return above.next_to_change()
        return None if self.over else self

    def snapshot(self) -> NodeState:
        """Return the node and all below it."""
        below = () if self.children is None else list(self.children.values())
        return NodeState(
            name=self.name,
            path=self.path,
            kind="worker" if self.children is None else "supervisor",
            state=self.state,
            reason=self.reason,
            incarnation=self.incarnations,
            restarts=max(0, self.incarnations - 1),
            last_failure=self.last_failure,
            since=self.since,
            children=tuple(child.snapshot() for child in below),
        )
