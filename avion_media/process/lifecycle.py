"""The phases of the process, in a table: how each is entered, and what callers see.

==========  ============================================  ==================================================
phase       entered by                                    what callers see
==========  ============================================  ==================================================
STARTING    at process start                              not ready
READY       the readiness child, when all others run      ready, as long as every node runs
LAME_DUCK   the drain, at the first signal                not ready, still served, for ``DRAIN__SETTLE``
DRAINING    the drain                                     GOAWAY; active work has ``DRAIN__GRACE`` to end
STOPPING    the drain, or the end of a failed tree        only the admin port
DONE        the process, after the last child             nothing
==========  ============================================  ==================================================

The present phase is in the log, in the metric ``avion.phase``, in ``/tree`` and in ``/readyz``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import trio


class Phase(StrEnum):
    """A phase of the process."""

    STARTING = "STARTING"  # the tree is coming up
    READY = "READY"  # serving
    LAME_DUCK = "LAME_DUCK"  # got a request to stop: still serves, but is not ready, so that callers move away
    DRAINING = "DRAINING"  # nothing new; active work can end
    STOPPING = "STOPPING"  # the tree stops from right to left
    DONE = "DONE"


# Phases only advance; a crash of the root, or a second signal, skips some.
FOLLOWERS: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.READY, Phase.LAME_DUCK, Phase.DRAINING, Phase.STOPPING}),
    Phase.READY: frozenset({Phase.LAME_DUCK, Phase.DRAINING, Phase.STOPPING}),
    Phase.LAME_DUCK: frozenset({Phase.DRAINING, Phase.STOPPING}),
    Phase.DRAINING: frozenset({Phase.STOPPING}),
    Phase.STOPPING: frozenset({Phase.DONE}),
    Phase.DONE: frozenset(),
}


class IllegalTransition(Exception):
    """The requested phase cannot follow the present one."""


class Lifecycle:
    """The present phase. Listeners are called at once, in order, at each change; they must not raise."""

    def __init__(self) -> None:
        self._phase = Phase.STARTING
        self._reached: dict[Phase, trio.Event] = {phase: trio.Event() for phase in Phase}
        self._reached[Phase.STARTING].set()
        self._listeners: list[Callable[[Phase], None]] = []

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self._phase

    @property
    def accepting_tasks(self) -> bool:
        """Whether consumers may take tasks."""
        return self._phase in (Phase.STARTING, Phase.READY)

    @property
    def accepting_connections(self) -> bool:
        """Whether clients may connect."""
        return self._phase in (Phase.STARTING, Phase.READY, Phase.LAME_DUCK)

    def has_reached(self, phase: Phase) -> bool:
        """Return whether ``phase`` was ever entered."""
        return self._reached[phase].is_set()

    def on_change(self, listener: Callable[[Phase], None]) -> None:
        """Call ``listener`` with each phase from now on."""
        self._listeners.append(listener)

    def advance(self, phase: Phase) -> None:
        """Enter ``phase``. Raises `IllegalTransition` if it cannot follow the present one."""
        if phase not in FOLLOWERS[self._phase]:
            raise IllegalTransition(f"{self._phase} → {phase}")
        self._phase = phase
        self._reached[phase].set()
        for listener in self._listeners:
            listener(phase)

    def advance_to(self, phase: Phase) -> None:
        """Enter ``phase``, unless it or a later one was already reached."""
        if phase in FOLLOWERS[self._phase]:
            self.advance(phase)

    async def reached(self, phase: Phase) -> None:
        """Wait until ``phase`` was entered. A cancel leaves nothing behind."""
        await self._reached[phase].wait()
