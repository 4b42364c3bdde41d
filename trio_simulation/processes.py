"""The process of a simulated machine that a task belongs to."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .network.ends import End
    from .network.listening import Listening
    from .nodes import Node


class Killed(ConnectionAbortedError):
    """What a killed process gets from its cleanup's calls: none of them has an effect any more."""


class Process:
    """One life of a node's program, from its start to its end or its kill."""

    def __init__(self, node: Node, pid: int) -> None:
        self.node = node
        self.pid = pid
        self.alive = True
        self.stopped = False
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        # Tasks that would run if the process were not stopped, in the order in which they woke.
        self.waiting_to_run: list[trio.lowlevel.Task] = []
        # Dicts, because the order of a set of objects differs from run to run.
        self.ends: dict[End, None] = {}
        self.listening: dict[Listening, None] = {}

    def check(self) -> None:
        """Raise `Killed` if the process was killed."""
        if not self.alive:
            raise Killed(f"the process of {self.node.name} was killed")


current: contextvars.ContextVar[Process] = contextvars.ContextVar("trio_simulation.process")


def current_process() -> Process:
    """Return the process that the current task belongs to."""
    return current.get()
