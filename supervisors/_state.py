"""The states of a node, the events of a tree, and the snapshot of a node."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class State(StrEnum):
    """The state of a node. `LEGAL` has all transitions."""

    WAITING = "waiting"  # for its turn to start, or for its supervisor
    STARTING = "starting"  # its task exists and has not called `Child.started` yet
    RUNNING = "running"
    STOPPING = "stopping"  # its stop was requested, by its supervisor or by itself
    STOPPED = "stopped"  # down, after its stop was requested
    BACKOFF = "backoff"  # failed, waits for its restart
    FINISHED = "finished"  # returned by itself, not restarted
    FAILED = "failed"  # failed by itself, not restarted


UP = frozenset({State.STARTING, State.RUNNING, State.STOPPING})  # a task of the node exists
OVER = frozenset({State.STOPPED, State.FINISHED, State.FAILED})  # only its group or an operator starts it again
_BY_ITSELF = frozenset({State.BACKOFF, State.FINISHED, State.FAILED})

# All other transitions are illegal.
LEGAL: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.STARTING, State.STOPPED}),
    State.STARTING: _BY_ITSELF | {State.RUNNING, State.STOPPING},
    State.RUNNING: _BY_ITSELF | {State.STOPPING},
    # A supervisor that stops by itself, because it gives up, ends like any other child.
    State.STOPPING: _BY_ITSELF | {State.STOPPED},
    State.BACKOFF: frozenset({State.STARTING, State.STOPPED}),
    **dict.fromkeys(OVER, frozenset({State.WAITING})),  # for a restart with the group or by hand
}


class EventKind(StrEnum):
    """What happened to a node."""

    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"  # its stop was requested; `reason` is why
    CANCELLED = "cancelled"  # by its supervisor: grace over, start timeout, kill; `reason` is why
    STUCK = "stuck"  # it still runs, seconds after its cancellation
    STOPPED = "stopped"  # it ended after its stop was requested; `error` is what it raised meanwhile
    RETURNED = "returned"  # it ended by itself, normally
    IGNORED = "ignored"  # it had nothing to run
    FAILED = "failed"  # it ended by itself, abnormally
    BACKOFF = "backoff"  # its restart is due in `delay_s`
    ESCALATED = "escalated"  # this supervisor gives up


_LEVELS = {
    EventKind.FAILED: logging.ERROR,
    EventKind.STUCK: logging.ERROR,
    EventKind.ESCALATED: logging.ERROR,
    EventKind.BACKOFF: logging.WARNING,
}
OVER_AFTER = {  # the state after each kind of end
    EventKind.STOPPED: State.STOPPED,
    EventKind.RETURNED: State.FINISHED,
    EventKind.IGNORED: State.FINISHED,
    EventKind.FAILED: State.FAILED,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of one node. ``seq`` counts within a run of a tree; ``at`` is on Trio's clock.

    ``error`` is the exception itself, which can be a group. ``stack`` is where a child waits that was cancelled because
    it was late, or is stuck; empty if many are. ``is_raised``: a caller gets the error, and decides what it means.
    """

    seq: int
    at: float
    path: str
    kind: EventKind
    incarnation: int
    error: BaseException | None = None
    reason: str | None = None
    delay_s: float = 0.0
    stack: str | None = None
    is_raised: bool = False

    @property
    def level(self) -> int:
        """The level of `logging`: ERROR also for an error of a stop, WARNING for a child that used up its time."""
        if self.is_raised:
            return logging.DEBUG
        if self.kind is EventKind.STOPPED and self.error is not None:
            return logging.ERROR
        if self.kind is EventKind.CANCELLED and self.stack is not None:
            return logging.WARNING
        return _LEVELS.get(self.kind, logging.DEBUG)


@dataclass(frozen=True, slots=True)
class End:
    """How one incarnation of a node ended: ``kind`` is STOPPED, RETURNED, IGNORED or FAILED, as in its event.

    ``error`` is the exception itself. While it is kept, so are the frames of the dead child.
    """

    path: str
    incarnation: int
    kind: EventKind
    error: BaseException | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node at the time of the snapshot. ``since`` is on Trio's clock; ``reason`` is why it stops or has ended.

    ``restarts`` is how often it was started again, for any reason. For plain dictionaries use `dataclasses.asdict`.
    """

    name: str
    path: str
    kind: Literal["worker", "supervisor"]
    state: State
    reason: str | None
    incarnation: int
    restarts: int
    last_failure: str | None
    since: float | None
    children: tuple[NodeState, ...] = ()

    def walk(self) -> Iterator[NodeState]:
        """Yield this node and all below it, parents first, in start order."""
        yield self
        for child in self.children:
            yield from child.walk()
