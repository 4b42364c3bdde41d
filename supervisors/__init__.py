"""Supervision trees for Trio, after Erlang/OTP: restart, ordered start and stop, escalation, introspection."""

from supervisors._child import Child, nursery_task
from supervisors._errors import (
    Killed,
    NotRunning,
    Shutdown,
    SpecError,
    StartFailed,
    Stuck,
    SupervisionError,
    TaskFailed,
    TooManyChildren,
    TooManyRestarts,
)
from supervisors._nodes import Node, Supervisor, Worker, open_tree
from supervisors._policy import AutoShutdown, Backoff, Intensity, Policy, Restart, Strategy
from supervisors._pool import DynamicSupervisor, Task
from supervisors._state import End, Event, EventKind, NodeState, State
from supervisors._watchdog import Watchdog

__all__ = [
    "AutoShutdown",
    "Backoff",
    "Child",
    "DynamicSupervisor",
    "End",
    "Event",
    "EventKind",
    "Intensity",
    "Killed",
    "Node",
    "NodeState",
    "NotRunning",
    "Policy",
    "Restart",
    "Shutdown",
    "SpecError",
    "StartFailed",
    "State",
    "Strategy",
    "Stuck",
    "SupervisionError",
    "Supervisor",
    "Task",
    "TaskFailed",
    "TooManyChildren",
    "TooManyRestarts",
    "Watchdog",
    "Worker",
    "nursery_task",
    "open_tree",
]
