"""Supervision trees for Trio, after Erlang/OTP: restart, ordered start and stop, escalation, introspection.

Knows nothing of its users and imports Trio and the standard library only. See ``docs/supervisors.md``.
"""

from supervisors._child import Child
from supervisors._errors import (
    Killed,
    NoSuchChild,
    NotRunning,
    SpecError,
    StartFailed,
    StartTimeout,
    SupervisionError,
    TooManyChildren,
    TooManyRestarts,
    UnexpectedReturn,
    describe,
)
from supervisors._policy import NO_BACKOFF, AutoShutdown, Backoff, Intensity, Restart, Strategy
from supervisors._spec import ChildSpec
from supervisors._state import Event, EventKind, NodeState, Observer, State
from supervisors._supervisor import DynamicSupervisor, Supervisor, open_tree

__all__ = [
    "NO_BACKOFF",
    "AutoShutdown",
    "Backoff",
    "Child",
    "ChildSpec",
    "DynamicSupervisor",
    "Event",
    "EventKind",
    "Intensity",
    "Killed",
    "NoSuchChild",
    "NodeState",
    "NotRunning",
    "Observer",
    "Restart",
    "SpecError",
    "StartFailed",
    "StartTimeout",
    "State",
    "Strategy",
    "SupervisionError",
    "Supervisor",
    "TooManyChildren",
    "TooManyRestarts",
    "UnexpectedReturn",
    "describe",
    "open_tree",
]
