"""The state of one node: its place, its policy, and its incarnations; the children that restart with it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from supervisors._child import Child
from supervisors._errors import SupervisionError, is_shutdown, text_of
from supervisors._policy import Backoff, Restart
from supervisors._state import LEGAL, OVER, UP, Event, EventKind, NodeState, State

if TYPE_CHECKING:
    from supervisors._engine import Engine

Observers = dict[object, Callable[[Event], object]]
ROOT = "/"


@dataclass(frozen=True, slots=True)
class Policy:
    """How one child is restarted, started and stopped."""

    restart: Restart
    grace_s: float
    start_timeout_s: float
    significant: bool
    backoff: Backoff | None = None  # None: that of its supervisor


@dataclass(eq=False)
class Record:
    """One node. Only engines change it. Snapshots read it at any time and from any thread.

    ``run`` is called once per incarnation. ``children`` is None for a worker.
    """

    name: str
    run: Callable[[Child[Any]], Awaitable[object]]
    policy: Policy
    node: Any  # the public handle; engines do not use it
    parent: Record | None = None
    children: dict[str, Record] | None = None
    observers: Observers = field(default_factory=dict)  # only a supervisor gets any
    backoff: Backoff = field(default_factory=Backoff)  # set by the supervisor that adds the node
    below: Engine | None = None  # the engine, while this node is a supervisor that runs
    added: bool = False  # it was added while its supervisor ran: the end of that run forgets it
    _former_path: str | None = None
    # Counts and the last failure survive a restart of the supervisor, because the cause must be visible afterwards.
    state: State = State.WAITING
    since: float | None = None
    reason: str | None = None
    incarnation: int = 0
    starts: int = 0  # number of successful starts
    last_failure: str | None = None
    value: Any = None  # of the present or last incarnation
    keeps_error: bool = False  # a task's error is its result
    stays_down: bool = False  # stopped by hand: down until it is restarted by hand
    _changed: trio.Event | None = None  # only while a task waits: there are thousands of nodes

    def __post_init__(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        """Reset everything that belongs to one run of the supervisor above."""
        self.failures = 0  # in a row, for the backoff
        self.removed = False  # forgotten as soon as it is down
        self.ran = False  # in this run of its supervisor
        self.ever_started = False  # in this run of its supervisor
        self.batch: Batch | None = None  # the one in which it has a turn to start
        self.error: BaseException | None = None  # of a task, or of a start while none has succeeded
        self.reset_incarnation()

    def reset_incarnation(self) -> None:
        """Reset everything that belongs to an incarnation."""
        self.handle: Child[Any] | None = None
        self.scope: trio.CancelScope | None = None
        self.deadline = math.inf  # of the start, the grace or the clean-up
        self.cancel_cause: Exception | None = None  # why the supervisor cancelled it although no stop was requested
        self.stop_requested = False
        self.stop_by = math.inf  # the deadline of a stop by hand
        self.started_at: float | None = None
        self.cancelled = False

    # --- its place ---

    @property
    def path(self) -> str:
        """The names from the root down to this node; ``/`` for the root itself."""
        above = self.parent  # read once: another thread may take a snapshot while the node leaves
        if above is None:
            return self._former_path or (self.name if self.children is None else ROOT)
        return self.name if above.path == ROOT else f"{above.path}/{self.name}"

    def line(self) -> list[Record]:
        """Return this node and all above it, up to the root."""
        return [self] if self.parent is None else [self, *self.parent.line()]

    def enter_tree(self, parent: Record, backoff: Backoff) -> None:
        """Take a place below ``parent``, as its last child."""
        assert parent.children is not None
        parent.children[self.name] = self
        self._former_path = None
        self.parent = parent
        self.backoff = backoff
        self.added = parent.below is not None

    def leave(self) -> None:
        """Give up the place in the tree; the path stays readable."""
        if self.parent is not None and self.parent.children is not None:
            self._former_path = self.path
            del self.parent.children[self.name]
            self.parent = None

    # --- its state ---

    @property
    def up(self) -> bool:
        """Whether a task of the node exists."""
        return self.state in UP

    @property
    def runs(self) -> bool:
        """Whether it has started, and is not on its way down."""
        return self.state is State.RUNNING and not self.cancelled

    @property
    def over(self) -> bool:
        """Whether it is down and only its group or an operator starts it again."""
        return self.state in OVER

    @property
    def remains_down(self) -> bool:
        """Whether its group does not start it again: it was stopped by hand or removed, or it is temporary and ran."""
        return self.stays_down or self.removed or (self.policy.restart is Restart.TEMPORARY and self.ran)

    @property
    def goes_down(self) -> bool:
        """Whether its batch has to stop it before it starts."""
        return self.batch is not None and self in self.batch.to_stop

    @property
    def has_a_turn(self) -> bool:
        """Whether it is about to start, or starting. That includes a supervisor that gives up during its own start."""
        return self.state in (State.WAITING, State.BACKOFF, State.STARTING) or (
            self.state is State.STOPPING and not self.stop_requested and self.started_at is None
        )

    def enter(self, state: State, now: float) -> None:
        """Change the state. A transition that `LEGAL` does not have is a bug of the engine."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"{self.path}: {self.state} -> {state}")
        self.force(state, now)

    def force(self, state: State, now: float) -> None:
        """Change the state whatever it was: at the beginning of a run, and after a bug."""
        self.state = state
        self.since = now
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def next_transition(self) -> None:
        """Wait until the state changes."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def begin(self, now: float) -> None:
        """Record the start of a new incarnation."""
        self.enter(State.STARTING, now)
        self.reset_incarnation()
        self.incarnation += 1
        self.ran = True
        self.reason = None

    def has_started(self, value: Any, now: float) -> None:
        """Record that the start of this incarnation has succeeded."""
        self.enter(State.RUNNING, now)
        self.started_at = now
        self.value = value
        self.starts += 1
        self.ever_started = True

    def judge(self, error: BaseException | None, *, ignored: bool) -> tuple[EventKind, BaseException | None]:
        """Return what kind of end it was that raised ``error``, and what was wrong with it."""
        if self.stop_requested:
            return EventKind.STOPPED, error
        if self.cancel_cause is not None:
            self.cancel_cause.__cause__ = error
            return EventKind.FAILED, self.cancel_cause
        if error is None and ignored:
            return EventKind.IGNORED, None
        if error is None and self.policy.restart is Restart.PERMANENT:
            early = " before it had started" if self.started_at is None else ""
            return EventKind.FAILED, SupervisionError(f"{self.path} returned{early}")
        return (EventKind.RETURNED, None) if error is None or is_shutdown(error) else (EventKind.FAILED, error)

    def note_failure(self, error: BaseException | None) -> None:
        """Remember only the text, because an exception would keep every frame of the dead child alive."""
        if error is not None:
            self.last_failure = text_of(error)

    def awaited(self) -> Record | None:
        """Return the node whose next transition may start this one, which is often itself; None if nothing will."""
        if self.up or self.state is State.BACKOFF:
            return self
        above = self.parent
        if above is None or self.stays_down:
            return None
        if above.below is None or above.below.stopping:
            return above.awaited()
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
            incarnation=self.incarnation,
            last_failure=self.last_failure,
            since=self.since,
            children=tuple(child.snapshot() for child in below),
        )


@dataclass(eq=False)
class Batch:
    """Children that stop right to left and start left to right: the first start, or a group's restart.

    Every child that stops with the batch also has a turn to start. A child that must stay down loses its turn when the
    batch reaches it, and not before: until then `Engine.restart_child` can bring it back. If a further child of the
    batch fails, a new batch replaces this one and takes over its children. A child is in at most one batch.
    """

    to_stop: list[Record]
    to_start: list[Record]
    reason: str  # of the stop
    deadline: float = math.inf  # of the wait: nothing starts before

    def __post_init__(self) -> None:
        for record in self.to_start:
            record.batch = self

    def next_to_stop(self) -> Record | None:
        """Return the rightmost child that is still up, or None when all are down."""
        while self.to_stop and not self.to_stop[-1].up:
            self.to_stop.pop()
        return self.to_stop[-1] if self.to_stop else None

    def next_to_start(self) -> Record | None:
        """Return the leftmost child that has not ended its turn: one to start, or one that is starting."""
        while self.to_start and not self.to_start[0].has_a_turn:
            self.to_start.pop(0).batch = None
        return self.to_start[0] if self.to_start else None

    def dissolve(self) -> None:
        """Leave all children to another batch."""
        self.to_stop, self.to_start, self.deadline = [], [], math.inf
