"""What a supervisor knows of one child, across its incarnations."""

from __future__ import annotations

import math

import trio

from supervisors._child import Child
from supervisors._errors import UnexpectedReturn, describe
from supervisors._policy import Restart
from supervisors._spec import ChildSpec
from supervisors._state import LEGAL, NodeState, State, is_up


class Record:
    """The supervisor's book-keeping for one child. Only the engine changes it; a snapshot reads it at any time."""

    def __init__(self, spec: ChildSpec, path: str, now: float, before: Record | None = None) -> None:
        self.spec = spec
        self.path = path
        self.state = State.WAITING
        self.since = now
        # Incarnations and the last failure outlive a restart of the supervisor: what made it fail should be seen after.
        self.incarnation: int = before.incarnation if before else 0
        self.failures = 0  # in a row, for the backoff
        self.last_failure: str | None = before.last_failure if before else None
        self.held = False  # down is down until it is restarted by hand: stopped by hand, or temporary and begun
        self.ever_ready = False
        self.settled = trio.Event()  # the first start came to its end, whichever
        self.start_error: BaseException | None = None
        self.handle: Child | None = None
        self.scope: trio.CancelScope | None = None  # set exactly while the child's task exists
        self.deadline = math.inf  # of the start or of the grace, as long as the engine watches it
        self.doom: Exception | None = None  # why the supervisor cancelled it although no stop was asked for
        self.cancelled = False  # the supervisor's own flag: this incarnation was sent the hard way down
        self.down = trio.Event()
        self.down.set()

    @property
    def over(self) -> bool:
        """Whether it is down and nothing will start it but its group, or somebody by hand."""
        return self.state in (State.FINISHED, State.FAILED, State.STOPPED)

    @property
    def up(self) -> bool:
        """Whether the child's task exists."""
        return is_up(self.state)

    def enter(self, state: State, now: float) -> None:
        """Change the state; what `LEGAL` does not allow is a defect of the engine."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"{self.path}: {self.state} -> {state}")
        self.state = state
        self.since = now

    def begin(self, handle: Child, scope: trio.CancelScope, now: float) -> None:
        """A new incarnation starts, inside ``scope``."""
        self.enter(State.STARTING, now)
        self.incarnation = handle.incarnation
        self.held = self.spec.restart is Restart.TEMPORARY
        self.handle = handle
        self.scope = scope
        self.deadline = now + self.spec.start_limit_s
        self.doom = None
        self.cancelled = False
        self.down = trio.Event()

    def end(self) -> None:
        """The task of this incarnation is gone; the caller enters the next state."""
        self.handle = None
        self.scope = None
        self.down.set()

    def failure_of(self, error: BaseException | None, *, was_ready: bool) -> BaseException | None:
        """What was wrong with an end that nobody asked for; None if it was a normal one."""
        if self.doom is not None:
            self.doom.__cause__ = error
            return self.doom
        if error is None and self.spec.restart is Restart.PERMANENT:
            return UnexpectedReturn(self.path, was_ready=was_ready)
        return error

    def note_failure(self, error: BaseException | None) -> None:
        """Remember the text only: an exception would keep every frame of the dead child alive."""
        if error is not None:
            self.last_failure = describe(error)

    def cancel(self) -> None:
        """The hard way down, all the way: a supervisor below gives up its children's grace too."""
        self.cancelled = True
        if self.spec.child is not None:
            self.spec.child.abort()
        if self.scope is not None:
            self.scope.cancel()

    def snapshot(self) -> NodeState:
        """The node and what is below it."""
        below = self.spec.child
        return NodeState(
            name=self.spec.name,
            path=self.path,
            kind="worker" if below is None else "supervisor",
            state=self.state,
            incarnation=self.incarnation,
            last_failure=self.last_failure,
            since=self.since,
            children=() if below is None else below.node_children(self.path),
        )
