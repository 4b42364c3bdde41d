"""What a running child sees of its supervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio


class Child:
    """One incarnation of a child: who it is, whether it is asked to stop, and how it says that it is ready.

    ``path`` names the child in the whole tree (``service/processing/reader``), ``incarnation`` counts its starts
    from 1. ``stopping`` is set when the supervisor asks for the stop; the child then has its grace to return, and
    is cancelled after that. Only the child's own tasks should use this object.
    """

    def __init__(self, path: str, incarnation: int, on_ready: Callable[[], None]) -> None:
        self.path = path
        self.incarnation = incarnation
        self.stopping = trio.Event()
        self._on_ready = on_ready
        self._on_stop: dict[object, Callable[[], None]] = {}

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def ready(self) -> None:
        """Say that the start is done: the next child may start. Calling it again does nothing; it never waits."""
        self._on_ready()

    @contextmanager
    def until_stopping(self) -> Iterator[trio.CancelScope]:
        """Run the block in a cancel scope that is cancelled once the supervisor asks for the stop.

        For work that may be dropped anywhere, such as waiting for something to do. What must be finished belongs
        after the block. Entered while stopping, the block is cancelled at its first checkpoint.
        """
        with trio.CancelScope() as scope, self.on_stop(scope.cancel):
            yield scope

    @contextmanager
    def on_stop(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have ``callback`` called, synchronously, when the stop is asked for within the block, or at once if it was.

        It runs inside the supervisor: it must not raise.
        """
        key = object()
        self._on_stop[key] = callback
        if self.stopping.is_set():
            callback()
        try:
            yield
        finally:
            del self._on_stop[key]

    def ask_to_stop(self) -> None:
        """The supervisor's side of ``stopping``; idempotent."""
        if not self.stopping.is_set():
            self.stopping.set()
            for callback in list(self._on_stop.values()):
                callback()
