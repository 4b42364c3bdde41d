"""The states of a node, what an observer is told about it, and the snapshot of a tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal


class State(StrEnum):
    """Where a node is. `LEGAL` is the whole machine."""

    WAITING = "waiting"  # for its turn to start
    STARTING = "starting"  # running, not ready yet
    RUNNING = "running"  # ready
    STOPPING = "stopping"  # asked to stop, or cancelled after its grace
    STOPPED = "stopped"  # by its supervisor
    BACKOFF = "backoff"  # failed, waits for its restart
    FINISHED = "finished"  # returned by itself, not restarted
    FAILED = "failed"  # failed by itself, not restarted


_UP = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
_BY_ITSELF = frozenset({State.STOPPING, State.BACKOFF, State.FINISHED, State.FAILED})

# What is absent is illegal. WAITING follows every way of being down: a node goes up again with its group or by hand.
LEGAL: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.STARTING, State.STOPPED}),
    State.STARTING: _BY_ITSELF | {State.RUNNING},
    State.RUNNING: _BY_ITSELF,
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.STOPPED: frozenset({State.WAITING}),
    State.BACKOFF: frozenset({State.STARTING, State.STOPPED}),
    State.FINISHED: frozenset({State.WAITING}),
    State.FAILED: frozenset({State.WAITING}),
}


class EventKind(StrEnum):
    """What happened to a node."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"  # its supervisor asked it to stop
    CANCELLED = "cancelled"  # its supervisor cancelled it: grace over, start timeout, kill
    STOPPED = "stopped"  # it ended because its supervisor wanted it to; `error` is what it raised meanwhile
    RETURNED = "returned"  # it ended by itself, normally
    FAILED = "failed"  # it ended by itself, abnormally
    BACKOFF = "backoff"  # its restart is due in `delay_s`
    ESCALATED = "escalated"  # this supervisor gives up


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of one node. ``at`` is on Trio's clock; ``error`` is the exception itself, groups whole."""

    path: str
    kind: EventKind
    incarnation: int
    error: BaseException | None
    at: float
    delay_s: float = 0.0


Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as it was at the time of the snapshot; ``since`` is on Trio's clock, the root's path is ``/``."""

    name: str
    path: str
    kind: Literal["worker", "supervisor"]
    state: State
    incarnation: int
    last_failure: str | None
    since: float | None
    children: tuple[NodeState, ...] = ()

    @property
    def restarts(self) -> int:
        """How often it was started again, for whatever reason."""
        return max(0, self.incarnation - 1)

    def walk(self) -> Iterator[NodeState]:
        """This node and all below it, parents first, in start order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and strings."""
        return {
            "name": self.name,
            "path": self.path,
            "kind": self.kind,
            "state": self.state.value,
            "incarnation": self.incarnation,
            "restarts": self.restarts,
            "last_failure": self.last_failure,
            "since": self.since,
            "children": [child.to_dict() for child in self.children],
        }

    def to_json(self) -> str:
        """The tree as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def is_up(state: State) -> bool:
    """Whether a task of that node exists."""
    return state in _UP
