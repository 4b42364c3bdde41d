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

`Readiness` says whether this replica is ready: by its phase, its tree, and the first response of each dependency.

The present phase is in the log, in the metric ``avion.phase``, in ``/tree`` and in ``/readyz``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import trio

from avion_media.common.errors import Dependency
from trio_telemetry import get_logger


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

    def advance_to(self, phase: Phase) -> None:
        """Enter ``phase``, unless it or a later one was already reached."""
        if phase in FOLLOWERS[self._phase]:
            self._phase = phase
            self._reached[phase].set()
            for listener in self._listeners:
                listener(phase)

    async def reached(self, phase: Phase) -> None:
        """Wait until ``phase`` was entered. A cancel leaves nothing behind."""
        await self._reached[phase].wait()


_log = get_logger(path="readiness")


class Readiness:
    """Changed by the tree and by its nodes; read by ``/readyz``, gRPC health and a gauge.

    ``needed`` are the dependencies that must respond once before the replica is ready.
    """

    def __init__(self, lifecycle: Lifecycle, needed: Iterable[Dependency]) -> None:
        self.never_answered = set(needed)
        self.down: frozenset[str] = frozenset()  # paths of the nodes that do not run
        self.ready_changes = 0
        self._lifecycle = lifecycle
        self._components_ready = False
        self._calls_can_run = True
        self._all_answered = trio.Event()
        self._was_ready = False
        self._listeners: list[Callable[[bool], None]] = []
        lifecycle.on_change(lambda _phase: self._notify())

    @property
    def ready(self) -> bool:
        """Whether every node of this replica's tree runs."""
        return self._is_up and not self.down

    @property
    def serving(self) -> bool:
        """Whether gRPC calls should be sent here: every node that they need runs, see `Tree.calls_can_run`."""
        return self._is_up and self._calls_can_run

    @property
    def _is_up(self) -> bool:
        return self._lifecycle.phase is Phase.READY and self._components_ready

    def note_answer(self, dependency: Dependency) -> None:
        """Record that a dependency has responded, for the life of the process. Later outages do not count."""
        self.never_answered.discard(dependency)
        if not self.never_answered:
            self._all_answered.set()

    async def first_answers(self) -> None:
        """Wait until each dependency that the roles need has responded once. A cancel has no effect."""
        if self.never_answered:
            await self._all_answered.wait()

    def set_components_ready(self, ready: bool) -> None:
        """Record whether the readiness node runs. If it does, so does every node on its left."""
        self._components_ready = ready
        self._notify()

    def set_down(self, down: frozenset[str], *, calls_can_run: bool) -> None:
        """Record the state of the tree, at each of its transitions."""
        if down != self.down:
            before, self.down, self._calls_can_run = self.down, down, calls_can_run
            self._notify()
            if self._lifecycle.phase is Phase.READY and _topmost(before) != _topmost(down):
                _log.info("readiness", ready=self.ready, down=_topmost(down))

    def on_change(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``listener`` with `serving`, now and whenever it may have changed. Returns a function that unsubscribes
        it."""
        self._listeners.append(listener)
        listener(self.serving)
        return lambda: self._listeners.remove(listener)

    def _notify(self) -> None:
        self.ready_changes += self.ready is not self._was_ready
        self._was_ready = self.ready
        for listener in list(self._listeners):
            listener(self.serving)


def _topmost(paths: frozenset[str]) -> list[str]:
    """Return the paths, without those below another one."""
    return sorted(path for path in paths if not any(path.startswith(f"{above}/") for above in paths))
