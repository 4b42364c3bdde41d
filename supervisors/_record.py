"""What a supervisor knows of one child, across its incarnations, and the groups that go down and up together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import trio

from supervisors._child import Child
from supervisors._errors import describe
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
        self.begun = False  # under this run of the supervisor
        self.held = False  # stopped by hand: it stays down until it is restarted by hand
        self.ever_ready = False
        self.settled = trio.Event()  # the first start came to its end, whichever
        self.start_error: BaseException | None = None
        self.handle: Child | None = None
        self.scope: trio.CancelScope | None = None  # set exactly while the child's task exists
        self.deadline = math.inf  # of the start while STARTING, of the grace while STOPPING
        self.doom: Exception | None = None  # why the supervisor cancelled it although no stop was asked for
        self.cancelled = False  # the supervisor's own flag: this incarnation was sent the hard way down
        self.down = trio.Event()
        self.down.set()

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
        self.begun = True
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
        self.deadline = math.inf
        self.down.set()

    def note_failure(self, error: BaseException | None) -> None:
        """Remember the text only: an exception would keep every frame of the dead child alive."""
        if error is not None:
            self.last_failure = describe(error)

    def cancel(self) -> None:
        """The hard way down, all the way: a supervisor below gives up its children's grace too."""
        self.cancelled = True
        self.deadline = math.inf
        if self.spec.child is not None:
            self.spec.child.abort()
        if self.scope is not None:
            self.scope.cancel()

    def comes_back(self) -> bool:
        """Whether a restart of its group starts it: temporary children and those stopped by hand stay down."""
        return not self.held and (self.spec.restart is not Restart.TEMPORARY or not self.begun)

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


class Batch:
    """Children that go down right to left and come up left to right, together: a first start or a group's restart.

    A batch is replaced, never extended: another failure among its children makes a new one that takes them over.
    """

    def __init__(self, to_stop: Iterable[Record], to_start: Iterable[Record], not_before: float) -> None:
        self.to_stop = list(to_stop)
        self.to_start = list(to_start)
        self.not_before = not_before

    def next_to_stop(self) -> Record | None:
        """The rightmost child that is still up, or None when all are down."""
        while self.to_stop and not self.to_stop[-1].up:
            self.to_stop.pop()
        return self.to_stop[-1] if self.to_stop else None

    def next_to_start(self) -> Record | None:
        """The leftmost child that is not settled yet: one to start, or one that is starting; None when done."""
        while self.to_start and self.to_start[0].state not in (State.WAITING, State.BACKOFF, State.STARTING):
            self.to_start.pop(0)
        return self.to_start[0] if self.to_start else None

    def members(self) -> set[Record]:
        """Everyone who still has a step to go."""
        return {*self.to_stop, *self.to_start}
