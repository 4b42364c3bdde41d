"""What a running child sees of its supervisor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

import trio

log = logging.getLogger("supervisors")


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

    def until_stopping(self) -> UntilStopping:
        """A ``with`` block in a cancel scope (which it gives) that is cancelled once the stop is asked for.

        For work that may be dropped anywhere, such as waiting for something to do; what must be finished belongs
        after the block. Entered while stopping, the block is cancelled at its first checkpoint.
        """
        return UntilStopping(self)

    def on_stop(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called, synchronously, when the stop is asked for, or at once if it was already.

        It runs inside the supervisor and must not block. An exception that it raises is logged. Returns a function
        that takes it off again.
        """
        key = object()
        self._on_stop[key] = callback
        if self.stopping.is_set():
            callback()

        def take_off() -> None:
            self._on_stop.pop(key, None)

        return take_off

    def ask_to_stop(self) -> None:
        """The supervisor's side of ``stopping``; once."""
        self.stopping.set()
        for callback in list(self._on_stop.values()):
            try:
                callback()
            except Exception:
                log.exception("a stop callback of %s failed", self.path)


class UntilStopping:
    """See `Child.until_stopping`. A class, as type checkers take the code after a generator's block for unreachable."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        self._scope.__enter__()
        self._take_off = self._child.on_stop(self._scope.cancel)
        return self._scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._take_off()
        return self._scope.__exit__(kind, error, traceback)
